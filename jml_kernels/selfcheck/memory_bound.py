"""Memory: besides its inputs and the gradient a step holds 1 MiB and O(N C) numbers, and with
`inplace_backward` no gradient either."""

from __future__ import annotations

import functools
from dataclasses import replace

import torch

from ..memory import allowed_beside, peak_memory
from .corpus.case import LossCase
from .corpus.drawing import arguments, differentiable
from .corpus.losses import make
from .corpus.steps import MEMORY
from .results import Measure, Mismatch, Subject, Trial

#: Of an image on a GPU, so that the gradient is much larger than what is allowed beside it.
GPU_IMAGE = (512, 512)


def trials(subject: Subject) -> list[Trial] | str:
    if subject.backend == "reference":
        return "the reference promises nothing"
    if subject.is_interpreted:
        return "tensors large enough to tell take Triton's interpreter too long"
    return [
        Trial(f"{case.name}{suffix}", functools.partial(measure, _sized(case, subject), subject))
        for case in subject.chosen(MEMORY)
        for case, suffix in ((case, ""), (_in_place(case), ", inplace_backward"))
    ]


def _sized(case: LossCase, subject: Subject) -> LossCase:
    on_gpu = subject.device == "cuda"
    return replace(case, shape=(*case.shape[:2], *GPU_IMAGE)) if on_gpu else case


def _in_place(case: LossCase) -> LossCase:
    return replace(case, options={**case.options, "inplace_backward": True})


def measure(case: LossCase, subject: Subject) -> list[Measure]:
    logits, *others = arguments(case, subject.device, seed=0)
    loss = make(case, subject.backend, subject.device)
    logits = differentiable(case, logits)
    in_place = "inplace_backward" in case.options

    def step() -> torch.Tensor:
        (gradient,) = torch.autograd.grad(loss(logits, *others), logits)
        return gradient

    if in_place and step().data_ptr() != logits.data_ptr():
        raise Mismatch("a gradient elsewhere", "one in the memory of the logits")
    step()  # what is allocated once does not count
    gradient = 0 if in_place else case.elements * logits.element_size()
    beside = peak_memory(step, subject.device) - gradient
    return [Measure("bytes", beside, allowed_beside(case.shape, subject.device))]
