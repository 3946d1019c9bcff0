"""The losses that are looked at, and batches that are split over ranks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import jml_kernels as jml
from jml_kernels.bench.cases import region_labels

from .ranks import Part

IGNORED = -100
AGGREGATIONS: dict[str, str | dict[str, float]] = {
    "dataset": "dataset",
    "image": "image",
    "class": "class",
    "dataset and image": {"dataset": 0.5, "image": 0.5},
}


@dataclass(frozen=True)
class Objective:
    name: str
    make: Callable[..., nn.Module]
    options: dict[str, Any] = field(default_factory=dict)
    has_teacher: bool = False

    def loss(self, aggregation: str, **options: Any) -> nn.Module:
        return self.make(aggregation=AGGREGATIONS[aggregation], **self.options, **options)

    def arguments(self, part: Part) -> Part:
        """Of a part of a batch that has a teacher too."""
        return part if self.has_teacher else part[:2]


JACCARD = Objective("JML", jml.JaccardMetricLoss)
WITH_CE = Objective("cross-entropy + JML", jml.JaccardCrossEntropyLoss)
DISTILLATION = Objective("distillation", jml.JaccardDistillationLoss, {"temperature": 2.0}, True)
OBJECTIVES = (
    JACCARD,
    WITH_CE,
    Objective(
        "the same, boundary smoothing",
        jml.JaccardCrossEntropyLoss,
        {"label_smoothing": 0.1, "boundary_size": 3},
    ),
    DISTILLATION,
)

#: Images of a rank, and of the next ones, round and round: some ranks have none.
IMAGES = (2, 1, 0, 3, 1, 2, 0, 1)


def images_of(ranks: int) -> list[int]:
    return [IMAGES[rank % len(IMAGES)] for rank in range(ranks)]


def ignores_everything(rank: int) -> bool:
    """Ranks that have images, and no pixel that counts."""
    return rank % 16 == 5


def labels_in_regions(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """As on images, a tenth of the pixels ignored."""
    labels = region_labels(shape, generator)
    return labels.masked_fill(torch.rand(labels.shape, generator=generator) < 0.1, IGNORED)


def logits_of(labels: Tensor, classes: int, generator: torch.Generator) -> Tensor:
    """float64, of a network that is right at most pixels."""
    right = F.one_hot(labels.clamp(min=0), classes).movedim(-1, 1)
    noise = torch.randn(right.shape, generator=generator, dtype=torch.float64)
    return 3.0 * right + 1.5 * noise


def uneven_batch(ranks: int, classes: int, size: int, seed: int = 0) -> list[Part]:
    """(logits, labels, teacher's logits) of each rank, in float64, so that what differs is what the
    collective rounds."""
    generator = torch.Generator().manual_seed(seed)
    images = images_of(ranks)
    labels = labels_in_regions((sum(images), classes, size, size), generator)
    of_ranks = list(labels.split(images))
    for rank in filter(ignores_everything, range(ranks)):
        of_ranks[rank].fill_(IGNORED)
    logits, teacher = (logits_of(labels, classes, generator).split(images) for _ in range(2))
    return list(zip(logits, of_ranks, teacher, strict=True))


def whole(parts: list[Part]) -> Part:
    """The batch of all ranks in one process."""
    return tuple(torch.cat(tensors) for tensors in zip(*parts, strict=True))
