"""gradcheck: gradients in float64 against finite differences."""

from __future__ import annotations

import functools

from torch.autograd import gradcheck
from torch.autograd.gradcheck import GradcheckError

from .cases import Case, chosen
from .gradient_cases import GRADIENTS
from .inputs import arguments, seed_without_ties
from .losses import make
from .repeatability import threads
from .results import Measure, Mismatch, Subject, Trial


def trials(subject: Subject) -> list[Trial]:
    return [
        Trial(case.name, functools.partial(check, case, subject))
        for case in chosen(GRADIENTS, subject)
    ]


def check(case: Case, subject: Subject) -> list[Measure]:
    logits, *others = arguments(case, subject.device, seed_without_ties(case))
    loss = make(case, subject.backend, subject.device)
    try:
        # Not its fast mode: one random direction misses errors of a tenth. Many small calls: on a
        # busy machine threads would wait for one another.
        with threads(1):
            gradcheck(lambda z: loss(z, *others), logits.requires_grad_())
    except GradcheckError as error:
        # What follows are the numbers of both.
        found = str(error).partition("\n")[0].rstrip(",")
        raise Mismatch(found, "the gradient of finite differences") from None
    return []
