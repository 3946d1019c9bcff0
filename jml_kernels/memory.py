"""What a call holds at once on the CPU or a GPU, and how much a step of a loss may."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch.profiler import ProfilerActivity, profile

MEBIBYTE = 2**20
#: Bytes for each image and class: sums, extrema, their gradients, and what the formula makes of
#: them.
PER_CLASS = 1024
#: Partial sums of the programs on a GPU, at most.
PARTIAL_SUMS = 4 * MEBIBYTE
#: Rows of low resolution that are shared by several pieces of work.
SHARED_ROWS = MEBIBYTE


def allowed_beside(shape: Sequence[int], device: str = "cpu", upsamples: bool = False) -> int:
    """Bytes that a step may hold at once besides its inputs and the gradient: 1 MiB and O(N C), or
    2 MiB where it interpolates logits.

    Args:
        shape: of the logits, (N, C, *spatial).
        device: "cpu" or "cuda".
        upsamples: whether the logits have a lower size than the target.
    """
    partial_sums = PARTIAL_SUMS if device == "cuda" else 0
    shared_rows = SHARED_ROWS if upsamples else 0
    return MEBIBYTE + PER_CLASS * shape[0] * shape[1] + partial_sums + shared_rows


def peak_memory(call: Callable[[], object], device: str = "cpu") -> int:
    """The most bytes that `call` holds at once on a device ("cpu" or "cuda"), beyond what was
    there before.

    On the CPU it counts every allocation through PyTorch's allocator, which is where operators,
    compiled or not, get their tensors.
    """
    return _peak_of_cpu(call) if device == "cpu" else _peak_of_gpu(call)


def _peak_of_cpu(call: Callable[[], object]) -> int:
    with _silent_stderr(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        call()
    events = [e for e in seen.profiler.kineto_results.events() if e.name() == "[memory]"]
    held = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak


def _peak_of_gpu(call: Callable[[], object]) -> int:
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_stats()["allocated_bytes.all.current"]
    result = call()
    torch.cuda.synchronize()
    del result
    return torch.cuda.memory_stats()["allocated_bytes.all.peak"] - before


@contextmanager
def _silent_stderr() -> Iterator[None]:
    """Send file descriptor 2 nowhere: PyTorch's profiler, in C++, tells there when it starts and
    stops, in the middle of what is displayed."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
