"""What each run minimises: eq. 14 of the paper, with three kinds of target."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch.nn.functional as F
from torch import Tensor

from ... import JaccardCrossEntropyLoss
from ...naive import naive_jaccard_cross_entropy_loss
from .batches import Batch

BOUNDARY_SMOOTHING = {"label_smoothing": 0.5, "boundary_size": 3}
"""epsilon and k of boundary label smoothing, the best of section 4.1."""

#: (logits (N, C, S, S), batch) -> 0-dim loss.
Loss = Callable[[Tensor, Batch], Tensor]


@dataclass(frozen=True)
class Target:
    """A kind of target, and eq. 14 against it: fused, and as it is usually written.

    Attributes:
        name: for tables.
        of: what the losses are called with, labels (N, S, S) or probabilities (N, C, S, S).
        smoothing: options of both forms, which smooth labels themselves.
    """

    name: str
    of: Callable[[Batch], Tensor]
    smoothing: dict[str, float] = field(default_factory=dict)

    def fused(self, logits: Tensor, batch: Batch) -> Tensor:
        return JaccardCrossEntropyLoss(**self.smoothing)(logits, self.of(batch))

    def naive(self, logits: Tensor, batch: Batch) -> Tensor:
        return naive_jaccard_cross_entropy_loss(logits, self.of(batch), **self.smoothing)


HARD = Target("labels", lambda batch: batch.labels)
BOUNDARY = Target("labels, boundary-smoothed", lambda batch: batch.labels, BOUNDARY_SMOOTHING)
SOFT = Target("soft labels", lambda batch: batch.cover)


def cross_entropy(logits: Tensor, batch: Batch) -> Tensor:
    """The term of eq. 14 without JML."""
    return F.cross_entropy(logits, batch.labels)


@dataclass(frozen=True)
class Run:
    """One training run.

    Attributes:
        key: for files.
        title: for people.
        loss: what it minimises.
        target: that of eq. 14, whose two forms are compared; None for cross-entropy alone.
    """

    key: str
    title: str
    loss: Loss
    target: Target | None = None


RUNS = (
    Run("ce", "CE", cross_entropy),
    Run("naive", "naive CE + JML", HARD.naive, HARD),
    Run("fused", "fused CE + JML", HARD.fused, HARD),
    Run("boundary", "CE + JML, boundary smoothing", BOUNDARY.fused, BOUNDARY),
    Run("soft", "CE + JML, soft labels", SOFT.fused, SOFT),
)
