"""Parity: loss and gradient of a backend against the reference in float64, on the same values."""

from __future__ import annotations

import functools
from typing import NamedTuple

import torch
from torch import Tensor

from .. import accuracy, checks
from .corpus import CASES
from .corpus.case import LossCase
from .corpus.drawing import at_full_size, differentiable, draw, soft_targets
from .corpus.losses import make
from .results import Measure, Mismatch, Subject, Trial

#: The least share of a case's pixels that is compared.
COUNTED = 0.9
#: Elements: above, a case has many tiles, which no small one shows.
LARGE = 5000


def trials(subject: Subject) -> list[Trial]:
    cases = subject.chosen(case for case in CASES if case.finite)
    if subject.backend == "triton":
        # On a GPU it compiles kernels for each, for seconds: without those that repeat others.
        cases = [case for case in cases if case.interpreted or case.elements > LARGE]
    return [Trial(case.name, functools.partial(compare, case, subject)) for case in cases]


class Expected(NamedTuple):
    answer: accuracy.Answer
    counted: Tensor
    """the pixels without a tie, see `accuracy.untied`"""


@functools.cache
def expected(case: LossCase) -> Expected:
    """By the reference, in float64 and on the CPU."""
    tensors = draw(case)
    logits, *others = accuracy.in_dtype(torch.float64, *tensors.arguments)
    full = at_full_size(case, tensors).logits.double()
    counted = accuracy.untied(full, soft_targets(case, tensors), case.activation)
    align_corners = case.options.get("align_corners", False)
    counted = accuracy.at_low_resolution(counted, logits.shape[2:], align_corners)
    if counted.numel() and counted.double().mean() < COUNTED:
        raise ValueError(f"case={case.name!r}: expected one with fewer ties")
    loss = make(case, "reference", "cpu")
    return Expected(accuracy.answer(loss, differentiable(case, logits), *others), counted)


def compare(case: LossCase, subject: Subject) -> list[Measure]:
    logits, *others = draw(case, subject.device).arguments
    right = expected(case)
    loss = make(case, subject.backend, subject.device)
    found = accuracy.answer(loss, differentiable(case, logits), *others)
    if found.gradient.dtype != case.dtype:
        raise Mismatch(f"a gradient of {found.gradient.dtype}", str(case.dtype))
    if found.loss.dtype != checks.result_dtype(logits):
        raise Mismatch(f"a loss of {found.loss.dtype}", str(checks.result_dtype(logits)))
    errors = zip(
        ("loss error", "gradient error"),
        accuracy.errors(found, right.answer, right.counted),
        accuracy.allowed(case.dtype),
        strict=True,
    )
    return [Measure(*error) for error in errors]
