"""Compiling ahead of the clock."""

from __future__ import annotations

import torch
from torch import Tensor

from jml_kernels.bench.cases import DISTILLATION, BenchmarkCase
from jml_kernels.bench.competitors import find
from jml_kernels.bench.measure import DeviceLostError, release_memory, synchronize

from .cases import DEVICE, Entry


def prepare(entry: Entry) -> None:
    """Let who compiles at run time do so, and keep it on disk: processes can do that side by
    side, which would disturb a clock. What fails here fails again when it is measured."""
    case = entry.case
    logits, *targets = blank(case)
    logits.requires_grad_()
    for name in entry.compilers:
        try:
            torch.autograd.grad(find(name).make(case)(logits, *targets), logits)
            synchronize(DEVICE)
        except DeviceLostError:
            raise
        except Exception:
            synchronize(DEVICE)
            release_memory(DEVICE)


def blank(case: BenchmarkCase) -> list[Tensor]:
    """Tensors like those of `cases.build`, which takes several times their memory to draw them."""
    memory = torch.channels_last if case.layout == "channels_last" else torch.contiguous_format
    like = {"dtype": getattr(torch, case.dtype), "device": DEVICE}

    def zeros(shape: tuple[int, ...]) -> Tensor:
        return torch.empty(shape, **like, memory_format=memory).zero_()

    labels = torch.zeros(case.shape[0], *case.full_size, dtype=torch.int64, device=DEVICE)
    target = zeros(case.shape) if case.target == "soft" else labels
    teacher = [zeros(case.logits_shape)] if case.objective == DISTILLATION else []
    return [zeros(case.logits_shape), target, *teacher]
