"""What the fused CPU kernels must reach: the goals of the design, fp32."""

from __future__ import annotations

from dataclasses import dataclass

from .cases import DISTILLATION, Case
from .competitors import COMPILED, CROSS_ENTROPY, DICE, EAGER, FLOOR, NNUNET_DICE
from .suites import CITYSCAPES


@dataclass(frozen=True)
class Goal:
    limit: float
    at_most: bool = False

    def met(self, value: float) -> bool:
        return value <= self.limit if self.at_most else value >= self.limit

    def __str__(self) -> str:
        return f"{'≤' if self.at_most else '≥'} {self.limit:g}"


_NEAR_THE_FLOOR = Goal(2.5, at_most=True)

#: By kind of case and allocator; the ratio of the competitor's time to the fused time, but for the
#: floor, where it is the fused time's to the floor.
GOALS: dict[tuple[str, str], dict[str, Goal]] = {
    ("labels", "warm"): {
        FLOOR: _NEAR_THE_FLOOR,
        EAGER: Goal(15),
        COMPILED: Goal(5),
        CROSS_ENTROPY: Goal(2),
        DICE: Goal(2.5),
        NNUNET_DICE: Goal(2.5),
    },
    ("labels", "default"): {EAGER: Goal(10), COMPILED: Goal(4.5)},
    ("soft", "warm"): {FLOOR: _NEAR_THE_FLOOR, EAGER: Goal(4), COMPILED: Goal(2)},
    ("soft", "default"): {},
    (DISTILLATION, "warm"): {FLOOR: _NEAR_THE_FLOOR, EAGER: Goal(15), COMPILED: Goal(5)},
    (DISTILLATION, "default"): {},
}

#: Peak memory of the fused loss, gradient included, in bytes.
_SPARE = 2**20
_SPARE_PER_CLASS = 1024


def goals(case: Case, allocator: str) -> dict[str, Goal]:
    if case.objective == DISTILLATION:
        return GOALS[DISTILLATION, allocator] if case.shape == CITYSCAPES else {}
    return GOALS["soft" if case.target == "soft" else "labels", allocator]


def memory_goal(case: Case) -> Goal:
    """In units of the logits' bytes: the gradient and 1 MiB + O(N · C)."""
    spare = _SPARE + _SPARE_PER_CLASS * case.shape[0] * case.shape[1]
    return Goal(1 + spare / case.bytes, at_most=True)
