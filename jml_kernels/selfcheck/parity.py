"""Parity: loss and gradient of a backend against the reference in float64, on the same values."""

from __future__ import annotations

import functools

import torch

from .. import accuracy, checks
from .cases import PARITY, Case, chosen
from .inputs import arguments, untied_seed
from .losses import make
from .results import Measure, Mismatch, Subject, Trial


def trials(subject: Subject) -> list[Trial]:
    return [
        Trial(case.name, functools.partial(compare, case, subject))
        for case in chosen(PARITY, subject)
    ]


@functools.cache
def expected(case: Case) -> accuracy.Answer:
    """By the reference, in float64 and on the CPU."""
    given = arguments(case, seed=untied_seed(case))
    logits, *others = accuracy.in_dtype(torch.float64, *given)
    return accuracy.answer(make(case, "reference", "cpu"), logits.requires_grad_(), *others)


def compare(case: Case, subject: Subject) -> list[Measure]:
    logits, *others = arguments(case, subject.device, untied_seed(case))
    right = expected(case)
    loss = make(case, subject.backend, subject.device)
    found = accuracy.answer(loss, logits.requires_grad_(), *others)
    if found.gradient.dtype != case.dtype:
        raise Mismatch(f"a gradient of {found.gradient.dtype}", str(case.dtype))
    if found.loss.dtype != checks.result_dtype(logits):
        raise Mismatch(f"a loss of {found.loss.dtype}", str(checks.result_dtype(logits)))
    errors = zip(
        ("error of the loss", "error of the gradient"),
        accuracy.errors(found, right),
        accuracy.allowed(case.dtype),
        strict=True,
    )
    return [Measure(*error) for error in errors]
