"""Times of things that take turns, and their ratios."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

FORWARD, BACKWARD, STEP = "forward", "backward", "step"
PARTS = (FORWARD, BACKWARD, STEP)

#: Seconds of a turn by part.
Turn = dict[str, float]
#: Seconds of every round by part.
Turns = dict[str, list[float]]


@dataclass(frozen=True)
class Step:
    """A step that is timed.

    Attributes:
        forward: is timed.
        backward: of what forward returns, timed too; None: there is none.
        prepare: called before, not timed.
    """

    forward: Callable[[], object]
    backward: Callable[[object], object] | None = None
    prepare: Callable[[], object] = lambda: None

    def run(self) -> object:
        """Forward and backward."""
        value = self.forward()
        return value if self.backward is None else self.backward(value)


def of_cpu(step: Step) -> Turn:
    """The seconds of one run by the clock on the wall, read before the results are dropped."""
    step.prepare()
    start = time.perf_counter()
    value = step.forward()
    middle = time.perf_counter()
    if step.backward is None:
        return {FORWARD: middle - start}
    gradient = step.backward(value)
    end = time.perf_counter()
    del gradient
    return _turn(middle - start, end - middle)


class OfGpu:
    """The median of several runs by the GPU's own clock. Its cache is emptied before each, which
    also gives the host time to be ahead with its launches."""

    #: Seconds that the runs of a turn take together, and how many there are at least and at most.
    TURN, LEAST, MOST = 0.03, 3, 50
    #: More bytes than any GPU has cache.
    CACHE = 2**28

    def __init__(self) -> None:
        self.junk = torch.empty(self.CACHE // 4, dtype=torch.int32, device="cuda")

    def __call__(self, step: Step) -> Turn:
        first = self._turns(step, 1)[0]
        runs = int(self.TURN / max(*first.values(), 1e-9))  # the step, where there is one
        turns = self._turns(step, min(max(runs, self.LEAST), self.MOST))
        return {part: statistics.median(turn[part] for turn in turns) for part in first}

    def _turns(self, step: Step, runs: int) -> list[Turn]:
        every = []
        for _ in range(runs):
            step.prepare()
            events = [torch.cuda.Event(enable_timing=True) for _ in range(3)]
            self.junk.zero_()
            events[0].record()
            value = step.forward()
            events[1].record()
            if step.backward is not None:
                step.backward(value)
                events[2].record()
            every.append(events)
        torch.cuda.synchronize()
        return [_between(events, step.backward is not None) for events in every]


def _between(events: list[torch.cuda.Event], with_backward: bool) -> Turn:
    forward = events[0].elapsed_time(events[1]) / 1e3
    return (
        _turn(forward, events[1].elapsed_time(events[2]) / 1e3)
        if with_backward
        else {FORWARD: forward}
    )


def _turn(forward: float, backward: float) -> Turn:
    return {FORWARD: forward, BACKWARD: backward, STEP: forward + backward}


def interleave(
    steps: Mapping[str, Step],
    rounds: int,
    clock: Callable[[Step], Turn] = of_cpu,
    uncounted: int = 1,
    say: Callable[[str], None] = lambda name: None,
) -> dict[str, Turns]:
    """Seconds of each step in every round. In a round each has one turn, in an order drawn anew,
    so that what disturbs the machine disturbs all alike. The first rounds may be left uncounted.

    Args:
        say: told whose turn it is.
    """
    order = random.Random(0)
    seconds: dict[str, Turns] = {name: {} for name in steps}
    for turn in range(uncounted + rounds):
        for name in order.sample(list(steps), len(steps)):
            say(name)
            for part, elapsed in clock(steps[name]).items():
                if turn >= uncounted:
                    seconds[name].setdefault(part, []).append(elapsed)
    return seconds


@dataclass(frozen=True)
class Spread:
    """A median, and the quartiles: half of the values lie between."""

    median: float
    low: float
    high: float


def spread(values: list[float]) -> Spread:
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return Spread(median, low, high)


def ratio(numerator: list[float], denominator: list[float]) -> Spread:
    """The spread of the ratios of the rounds."""
    return spread([a / b for a, b in zip(numerator, denominator, strict=True)])
