"""Times of things that take turns, and their ratios."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Step:
    """One thing to time.

    Attributes:
        run: what is timed; its result is dropped after the clock is read.
        prepare: called before, not timed.
    """

    run: Callable[[], object]
    prepare: Callable[[], object] = lambda: None


def wall_clock(step: Step) -> float:
    """Seconds of one turn."""
    step.prepare()
    start = time.perf_counter()
    result = step.run()
    elapsed = time.perf_counter() - start
    del result
    return elapsed


def interleave(
    steps: Mapping[str, Step],
    rounds: int,
    clock: Callable[[Step], float] = wall_clock,
    uncounted: int = 1,
) -> dict[str, list[float]]:
    """Seconds of each step in every round. In a round each has one turn, in an order drawn anew,
    so that what disturbs the machine disturbs all alike. The first rounds may be left uncounted."""
    order = random.Random(0)
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(uncounted + rounds):
        for name in order.sample(list(steps), len(steps)):
            elapsed = clock(steps[name])
            if turn >= uncounted:
                seconds[name].append(elapsed)
    return seconds


@dataclass(frozen=True)
class Ratio:
    """The median of the ratios of the rounds, and the quartiles: half of them lie between."""

    median: float
    low: float
    high: float


def ratio(numerator: list[float], denominator: list[float]) -> Ratio:
    ratios = [a / b for a, b in zip(numerator, denominator, strict=True)]
    low, median, high = statistics.quantiles(ratios, n=4, method="inclusive")
    return Ratio(median, low, high)
