"""What our loss must reach on the CPU in float32: the goals of the project."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from jml_kernels.bench.cases import DISTILLATION
from jml_kernels.bench.competitors import COMPILED, CROSS_ENTROPY, EAGER
from jml_kernels.bench.timing import STEP
from jml_kernels.memory import allowed_beside

from .suites import CPU_FULL_SIZE, CPU_INTERPOLATED

FLOOR = "ours / floor"
MEMORY = "peak memory / logits"


@dataclass(frozen=True)
class Goal:
    limit: float
    at_most: bool = False

    def met(self, value: float) -> bool:
        return value <= self.limit if self.at_most else value >= self.limit

    def __str__(self) -> str:
        return f"{'≤' if self.at_most else '≥'} {self.limit:.3g}"


def _upsampled(interpolated: float, naive: float = 0, cross_entropy: float = 0) -> dict[str, Goal]:
    limits = {CPU_INTERPOLATED: interpolated, EAGER: naive, CROSS_ENTROPY: cross_entropy}
    return {CPU_FULL_SIZE: Goal(1)} | {who: Goal(limit) for who, limit in limits.items() if limit}


#: Where logits are interpolated, with the warm setting, by whether there are more than 100 classes
#: and by the ratio. The time of others includes PyTorch's interpolation; our loss alone, of logits
#: that have the full size, takes no less.
UPSAMPLED_GOALS: dict[tuple[bool, int], dict[str, Goal]] = {
    (False, 4): _upsampled(6, 20, 8),
    (False, 8): _upsampled(7.5),
    (True, 4): _upsampled(8, 30, 11),
    (True, 8): _upsampled(13),
}
#: Of these the first, for windows and for labels that are drawn pixel by pixel.
HARD_LABELS = _upsampled(5, 20, 8)

#: By kind of target and setting of the allocator: what the time of a competitor must be as a
#: multiple of ours, and ours as a multiple of the floor (`FLOOR`). Labels may have boundary
#: smoothing. A case that has no goal here still has that of memory.
GOALS: dict[tuple[str, str], dict[str, Goal]] = {
    ("labels", "warm"): {
        FLOOR: Goal(2, at_most=True),
        EAGER: Goal(15),
        COMPILED: Goal(3),
        CROSS_ENTROPY: Goal(2.5),
    },
    ("labels", "default"): {EAGER: Goal(20), COMPILED: Goal(6)},
    ("soft", "warm"): {FLOOR: Goal(1.5, at_most=True), EAGER: Goal(4), COMPILED: Goal(2)},
}


@dataclass(frozen=True)
class Verdict:
    """A goal, and whether it was met."""

    what: str
    value: float
    goal: Goal

    @property
    def met(self) -> bool:
        return self.goal.met(self.value)


def judged(row: dict) -> Iterator[Verdict]:
    """The goals for a row of the results, and what came of them."""
    case, figures = row["case"], row["figures"]
    # A step holds the gradient, and beside it what is allowed.
    beside = allowed_beside(case["shape"], upsamples=_ratio(case) > 1)
    memory = Goal(1 + beside / row["bytes"]["logits"], at_most=True)
    yield Verdict(MEMORY, figures[row["subject"]]["peak / logits"], memory)
    for name, goal in _goals(case, row["allocator"]).items():
        if name == FLOOR:
            yield Verdict(FLOOR, row["over floor"]["median"], goal)
        elif name in figures:
            yield Verdict(f"{name} / ours", figures[name][STEP]["times"]["median"], goal)


def _goals(case: dict, allocator: str) -> dict[str, Goal]:
    if case["objective"] == DISTILLATION:  # labels and a teacher
        return {}
    if _ratio(case) > 1:
        return _goals_of_upsampling(case) if allocator == "warm" else {}
    return GOALS.get(("soft" if case["target"] == "soft" else "labels", allocator), {})


def _goals_of_upsampling(case: dict) -> dict[str, Goal]:
    many = case["shape"][1] > 100
    is_hard = case["target"] == "boundary" or case["labels"] == "random"
    if is_hard and not many and _ratio(case) == 4:
        return HARD_LABELS
    return UPSAMPLED_GOALS.get((many, _ratio(case)), {})


def _ratio(case: dict) -> int:
    return case.get("upsample", 1)  # results from before there was a ratio have none


def summary(rows: list[dict]) -> list[str]:
    """How many goals are met, and which are not: a line each."""
    every = [(row, verdict) for row in rows for verdict in judged(row)]
    missed = [
        f"{row['name']}, {row['allocator']}: {verdict.what} is {verdict.value:.3g}, goal "
        f"{verdict.goal}"
        for row, verdict in every
        if not verdict.met
    ]
    return [f"{len(every) - len(missed)} of {len(every)} goals met", *missed]
