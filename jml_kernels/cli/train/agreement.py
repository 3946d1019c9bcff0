"""Whether training with the naive and with the fused loss is the same training."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch

from .training import Result

FIRST = 3
"""Steps that count as the start of a run, where rounding has not grown yet."""
LOSS_TOLERANCE = 1e-5
"""Both take float32 logits, and naive JML loses digits to cancellation: about 1e-6."""
GRADIENT_TOLERANCE = 1e-4
CURVE_TOLERANCE = 1e-4
"""The first steps of AdamW are as large as its learning rate however small the gradient, so that
rounding grows from the first step on."""


@dataclass(frozen=True)
class Agreement:
    """Differences between the runs with the naive and with the fused loss.

    On the same logits the two differ by rounding alone. Training then multiplies any difference,
    however small, from step to step; so the curves are compared at the start and, as a figure
    without a tolerance, over the whole run.

    Attributes:
        same_logits: largest difference of the losses on the same logits, over all steps measured.
        same_logits_gradient: the same for gradients, relative l2.
        first_steps: largest difference of the curves over the first `FIRST` steps.
        all_steps: over all steps.
        mean: mean over all steps, with its sign: near 0 where neither run is ahead.
        miou: how far apart the two ended on the held-out stripes.
    """

    same_logits: float
    same_logits_gradient: float
    first_steps: float
    all_steps: float
    mean: float
    miou: float

    @property
    def holds(self) -> bool:
        return (
            self.same_logits <= LOSS_TOLERANCE
            and self.same_logits_gradient <= GRADIENT_TOLERANCE
            and self.first_steps <= CURVE_TOLERANCE
        )


def compare(naive: Result, fused: Result) -> Agreement:
    """Compare two runs with the same settings."""
    differences = [a - b for a, b in zip(naive.curve, fused.curve, strict=True)]
    distances = [abs(d) for d in differences]
    measured = (naive.measurements, fused.measurements)
    return Agreement(
        same_logits=_largest(d for one in measured for d in one.loss_differences),
        same_logits_gradient=_largest(d for one in measured for d in one.gradient_differences),
        first_steps=_largest(distances[:FIRST]),
        all_steps=_largest(distances),
        mean=sum(differences) / len(differences),
        miou=abs(naive.scores.miou - fused.scores.miou),
    )


def _largest(values: Iterable[float]) -> float:
    """Unlike `max`, NaN where one is NaN: no tolerance holds for it."""
    return torch.tensor(list(values), dtype=torch.float64).max().item()
