"""gradcheck: gradients in float64 against finite differences."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor
from torch.autograd import gradcheck
from torch.autograd.gradcheck import GradcheckError

from .corpus.case import LossCase
from .corpus.drawing import arguments
from .corpus.gradients import GRADIENTS
from .corpus.layouts import LAYOUTS
from .corpus.losses import make
from .repeatability import threads
from .results import Measure, Mismatch, Subject, Trial


def trials(subject: Subject) -> list[Trial]:
    return [
        Trial(case.name, functools.partial(check, case, subject))
        for case in subject.chosen(GRADIENTS)
    ]


def leaf_of(case: LossCase, logits: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """A leaf that requires grad, and what makes the case's logits of it. Elements that share memory
    have no finite differences of their own: there the leaf is dense."""
    if case.layout.startswith("one "):
        return logits.contiguous().requires_grad_(), LAYOUTS[case.layout]
    # A gradient is not written over a leaf.
    made = torch.clone if case.options.get("inplace_backward") else lambda z: z
    return logits.detach().requires_grad_(), made


def check(case: LossCase, subject: Subject) -> list[Measure]:
    logits, *others = arguments(case, subject.device)
    leaf, laid_out = leaf_of(case, logits)
    loss = make(case, subject.backend, subject.device)
    try:
        # Not its fast mode: one random direction misses errors of a tenth. Many small calls: on a
        # busy machine threads would wait for one another.
        with threads(1):
            gradcheck(lambda z: loss(laid_out(z), *others), leaf)
    except GradcheckError as error:
        # What follows are the numbers of both.
        found = str(error).partition("\n")[0].rstrip(",")
        raise Mismatch(found, "the gradient of finite differences") from None
    return []
