"""Measuring what a loss costs: memory here, time in the benchmarks."""

from __future__ import annotations

from collections.abc import Callable

from torch.profiler import ProfilerActivity, profile


def peak_memory(call: Callable[[], object]) -> int:
    """The most bytes that `call` holds at once on the CPU, beyond what was there before.

    Counts every allocation through PyTorch's CPU allocator, which is where operators, compiled
    or not, get their tensors.
    """
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        call()
    events = [e for e in profiler.profiler.kineto_results.events() if e.name() == "[memory]"]
    held = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak
