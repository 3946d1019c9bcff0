"""What our loss must reach on the CPU in float32: the goals of the project."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from jml_kernels.bench.cases import DISTILLATION
from jml_kernels.bench.competitors import COMPILED, CROSS_ENTROPY, EAGER
from jml_kernels.bench.timing import STEP
from jml_kernels.memory import allowed_beside

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
    memory = Goal(1 + allowed_beside(case["shape"]) / row["bytes"]["logits"], at_most=True)
    yield Verdict(MEMORY, figures[row["subject"]]["peak / logits"], memory)
    for name, goal in _goals(case, row["allocator"]).items():
        if name == FLOOR:
            yield Verdict(FLOOR, row["over floor"]["median"], goal)
        elif name in figures:
            yield Verdict(f"{name} / ours", figures[name][STEP]["times"]["median"], goal)


def _goals(case: dict, allocator: str) -> dict[str, Goal]:
    if case["objective"] == DISTILLATION:  # labels and a teacher
        return {}
    return GOALS.get(("soft" if case["target"] == "soft" else "labels", allocator), {})


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
