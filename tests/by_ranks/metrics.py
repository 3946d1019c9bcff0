"""Metrics that torchmetrics synchronises: every rank computes the scores of all images."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from ranks import Finding
from torch import Tensor

import jml_kernels as jml


def batch(rank: int) -> tuple[Tensor, Tensor]:
    """Of a rank: another number of images for each, and none for the last."""
    generator = torch.Generator().manual_seed(rank)
    shape = (rank + 1 if rank else 0, 4, 9, 11)
    logits = torch.randn(shape, generator=generator) * 3
    return logits, torch.randint(3, (shape[0], *shape[2:]), generator=generator)


def raises_on_wrong_labels(rank: int) -> bool:
    """What one rank has found, and nobody has looked at, all ranks tell."""
    metric = jml.metrics.SegmentationMetrics(4)
    metric.update(*batch(rank))
    if rank == 1:
        metric.wrong = metric.wrong + 1
    try:
        metric.compute()
    except IndexError:
        return True
    return False


def compare(rank: int, world_size: int) -> Iterator[Finding]:
    for options in ({}, {"active_classes": "all", "worst": 0.5}, {"bins": None}):
        together = jml.metrics.SegmentationMetrics(4, **options)
        together.update(*batch(rank))
        alone = together.evaluation
        state = alone.empty()
        for other in range(world_size):
            state = alone.updated(state, *batch(other))
        found = together.compute()
        for name, value in alone.computed(state).items():
            error = (found[name].double() - value.double()).abs().max().item()
            yield Finding(f"{name}, {options}", error, 0.0, 1e-12)
    yield Finding("wrong labels", float(not raises_on_wrong_labels(rank)), 0.0, 0.0)
