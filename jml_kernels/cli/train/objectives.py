"""What each run minimises: eq. 14 of the paper, with three kinds of target."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch.nn.functional as F
from torch import Tensor

from ... import JaccardMetricLoss, smooth_labels
from ...naive import naive_jaccard_metric_loss
from .batches import Batch

CE_WEIGHT = 0.25
"""lambda of eq. 14, from section 3.1."""
BOUNDARY_SMOOTHING = {"label_smoothing": 0.5, "boundary_size": 3}
"""epsilon and k of boundary label smoothing, the best of section 4.1."""

#: (logits (N, C, S, S), batch) -> 0-dim loss.
Loss = Callable[[Tensor, Batch], Tensor]


@dataclass(frozen=True)
class Target:
    """A kind of target, and JML (eq. 12) against it: fused, and as it is usually written.

    Attributes:
        name: for tables.
        of: what JML is called with, labels (N, S, S) or probabilities (N, C, S, S).
        smoothing: options of both forms of JML, which smooth labels themselves.
    """

    name: str
    of: Callable[[Batch], Tensor]
    smoothing: dict[str, float] = field(default_factory=dict)

    def cross_entropy(self, logits: Tensor, batch: Batch) -> Tensor:
        """CE of eq. 14: against the same, smoothed, target as JML."""
        target = self.of(batch)
        if self.smoothing:
            target = smooth_labels(target, logits.shape[1], **self.smoothing)
        return F.cross_entropy(logits, target)

    def fused(self, logits: Tensor, batch: Batch) -> Tensor:
        return JaccardMetricLoss(**self.smoothing)(logits, self.of(batch))

    def naive(self, logits: Tensor, batch: Batch) -> Tensor:
        return naive_jaccard_metric_loss(logits, self.of(batch), **self.smoothing)


HARD = Target("labels", lambda batch: batch.labels)
BOUNDARY = Target("labels, boundary-smoothed", lambda batch: batch.labels, BOUNDARY_SMOOTHING)
SOFT = Target("soft labels", lambda batch: batch.cover)


@dataclass(frozen=True)
class Run:
    """One training run: lambda * CE + (1 - lambda) * JML (eq. 14), or CE alone.

    Attributes:
        key: for files.
        title: for people.
        target: what both terms are against.
        jaccard: JML, a method of `target`; None for CE alone.
    """

    key: str
    title: str
    target: Target
    jaccard: Loss | None

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        cross_entropy = self.target.cross_entropy(logits, batch)
        if self.jaccard is None:
            return cross_entropy
        return CE_WEIGHT * cross_entropy + (1 - CE_WEIGHT) * self.jaccard(logits, batch)


RUNS = (
    Run("ce", "CE", HARD, None),
    Run("naive", "CE + naive JML", HARD, HARD.naive),
    Run("fused", "CE + fused JML", HARD, HARD.fused),
    Run("boundary", "CE + JML, boundary smoothing", BOUNDARY, BOUNDARY.fused),
    Run("soft", "CE + JML, soft labels", SOFT, SOFT.fused),
)
