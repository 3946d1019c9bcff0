"""What a step of the loss hands to collectives, and which operations it has beside the kernels:
counted as they are called."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, distributed

from .cases import AGGREGATIONS, DISTILLATION, JACCARD, WITH_CE, Objective
from .ranks import Collective

CLASSES = (2, 19, 150, 1000)
OBJECTIVES = (JACCARD, WITH_CE, DISTILLATION)


def arguments(objective: Objective, images: int, classes: int, size: int = 4) -> tuple:
    generator = torch.Generator().manual_seed(0)
    shape = (images, classes, size, size)
    logits = torch.randn(shape, generator=generator)
    labels = torch.randint(classes, (images, size, size), generator=generator)
    teacher = torch.randn(shape, generator=generator)
    return objective.arguments((logits, labels, teacher))


def step(
    objective: Objective, aggregation: str, images: int, classes: int, **options: Any
) -> tuple[list[int], list[int], int]:
    """Bytes of each all-reduce of the forward, and of the backward; operations of both."""
    logits, *others = arguments(objective, images, classes)
    loss = objective.loss(aggregation, **options)
    with Collective() as collective:
        value = loss(logits.requires_grad_(), *others)
        in_forward = len(collective.handed)
        value.backward()
    handed = [_bytes(tensor) for tensor in collective.handed]
    return handed[:in_forward], handed[in_forward:], collective.operations


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def every_row(group: distributed.ProcessGroup) -> list[dict[str, Any]]:
    rows = []
    for objective in OBJECTIVES:
        for aggregation in AGGREGATIONS:
            by_classes = {}
            for classes in CLASSES:
                forward, averaged, operations = step(
                    objective, aggregation, 2, classes, process_group=group
                )
                _, summed, _ = step(
                    objective, aggregation, 2, classes, process_group=group, gradients="summed"
                )
                by_classes[str(classes)] = {
                    "forward": forward,
                    "backward, averaged": averaged,
                    "backward, summed": summed,
                }
            rows.append(
                {
                    "objective": objective.name,
                    "aggregation": aggregation,
                    "bytes": by_classes,
                    "operations": operations,
                    "operations without a group": step(objective, aggregation, 2, 19)[2],
                }
            )
    return rows
