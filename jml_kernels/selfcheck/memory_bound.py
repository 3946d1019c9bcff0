"""Memory: besides its inputs and the gradient a step holds 1 MiB and O(N C) numbers, and with
`inplace_backward` no gradient either. With `upsample` it holds 2 MiB, whatever the full size."""

from __future__ import annotations

import functools
from dataclasses import replace

import torch

from ..backend import BY_NAME
from ..memory import allowed_beside, peak_memory
from .corpus.case import LossCase
from .corpus.drawing import arguments, differentiable
from .corpus.losses import make
from .corpus.steps import MEMORY, UPSAMPLED_MEMORY
from .results import Measure, Mismatch, Subject, Trial

#: Of an image on a GPU, so that the gradient is much larger than what is allowed beside it.
GPU_IMAGE = (512, 512)


def trials(subject: Subject) -> list[Trial] | str:
    return _why_not(subject) or [
        _trial(case, suffix, subject)
        for case in subject.chosen(MEMORY)
        for case, suffix in ((case, ""), (_in_place(case), ", inplace_backward"))
    ]


def upsampled_trials(subject: Subject) -> list[Trial] | str:
    reason = _why_not(subject)
    if reason is None and not BY_NAME[subject.backend].upsamples:
        reason = "PyTorch interpolates for it, and makes logits of full size"
    return reason or [_trial(case, "", subject) for case in subject.chosen(UPSAMPLED_MEMORY)]


def _why_not(subject: Subject) -> str | None:
    if subject.backend == "reference":
        return "the reference promises nothing"
    if subject.is_interpreted:
        return "tensors large enough to tell take Triton's interpreter too long"
    return None


def _trial(case: LossCase, suffix: str, subject: Subject) -> Trial:
    sized = _sized(case, subject)
    return Trial(f"{case.name}{suffix}", functools.partial(measure, sized, subject))


def _sized(case: LossCase, subject: Subject) -> LossCase:
    if subject.device != "cuda":
        return case
    if case.upsamples:
        return replace(case, full_size=GPU_IMAGE)
    return replace(case, shape=(*case.shape[:2], *GPU_IMAGE))


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
    gradient = 0 if in_place else logits.numel() * logits.element_size()
    beside = peak_memory(step, subject.device) - gradient
    allowed = allowed_beside(case.shape, subject.device, case.upsamples)
    return [Measure("bytes", beside, allowed)]
