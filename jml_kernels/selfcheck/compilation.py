"""torch.compile: the whole loss in one graph, with the same value and gradient. PyTorch's
"aot_eager" traces forward and backward as every compiler does, and needs none."""

from __future__ import annotations

import functools

import torch

from .. import accuracy
from .corpus.case import LossCase
from .corpus.drawing import arguments
from .corpus.losses import make
from .corpus.steps import COMPILED
from .results import Measure, Subject, Trial


def trials(subject: Subject) -> list[Trial]:
    return [
        Trial(case.name, functools.partial(compare, case, subject))
        for case in subject.chosen(COMPILED)
    ]


def compare(case: LossCase, subject: Subject) -> list[Measure]:
    logits, *others = arguments(case, subject.device)
    loss = make(case, subject.backend, subject.device)
    eager = accuracy.answer(loss, logits.requires_grad_(), *others)
    torch.compiler.reset()
    try:
        graph = torch.compile(loss, fullgraph=True, backend="aot_eager")
        found = accuracy.answer(graph, logits, *others)
    finally:
        torch.compiler.reset()
    errors = zip(
        ("loss error", "gradient error"),
        accuracy.errors(found, eager),
        accuracy.allowed(case.dtype),
        strict=True,
    )
    return [Measure(*error) for error in errors]
