"""How far the mean of the ranks' own losses is from the loss of the batch, and so is its gradient:
for a small network, after a few steps of training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

import jml_kernels as jml

from .cases import IGNORED, ignores_everything, images_of, labels_in_regions

CLASSES, SIZE, STEPS = 19, 32, 40
LOSSES: dict[str, Callable[[], nn.Module]] = {
    "cross-entropy": lambda: jml.JaccardCrossEntropyLoss(ce_weight=1.0),
    "JML, image": lambda: jml.JaccardMetricLoss(aggregation="image"),
    "JML, class": lambda: jml.JaccardMetricLoss(aggregation="class"),
    "JML, dataset": jml.JaccardMetricLoss,
    "cross-entropy + JML, dataset": jml.JaccardCrossEntropyLoss,
}


def network() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, CLASSES, 3, padding=1)
    ).double()


def images_of_labels(labels: Tensor, generator: torch.Generator) -> Tensor:
    """A colour for each class, and noise."""
    colours = torch.randn((CLASSES, 3), generator=generator, dtype=torch.float64)
    pixels = colours[labels.clamp(min=0)].movedim(-1, 1)
    return pixels + 0.7 * torch.randn(pixels.shape, generator=generator, dtype=torch.float64)


def trained(images: Tensor, labels: Tensor) -> nn.Module:
    """A network that has begun to learn, as in most steps of a training."""
    torch.manual_seed(0)
    model = network()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    loss = jml.JaccardCrossEntropyLoss()
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss(model(images), labels).backward()
        optimizer.step()
    return model


def _value_and_gradient(model: nn.Module, value: Tensor) -> tuple[float, Tensor]:
    gradients = torch.autograd.grad(value, list(model.parameters()))
    return value.item(), torch.cat([gradient.flatten() for gradient in gradients])


def difference(
    model: nn.Module,
    loss: nn.Module,
    images: Tensor,
    labels: Tensor,
    sizes: Sequence[int],
) -> dict[str, float]:
    """Of the mean over ranks, which have `sizes` images: the loss, and how far its gradient by the
    parameters is from that of the batch, as a share of its length."""
    value, gradient = _value_and_gradient(model, loss(model(images), labels))
    parts = zip(images.split(sizes), labels.split(sizes), strict=True)
    own = torch.stack([loss(model(of_rank), target) for of_rank, target in parts])
    local_value, local_gradient = _value_and_gradient(model, own.mean())
    away = (local_gradient - gradient).norm() / gradient.norm()
    cosine = torch.cosine_similarity(local_gradient, gradient, dim=0)
    return {
        "loss": value,
        "mean of local losses": local_value,
        "gradient away": away.item(),
        "cosine": cosine.item(),
    }


def every_row() -> list[dict[str, Any]]:
    generator = torch.Generator().manual_seed(0)
    uneven = images_of(64)
    even_labels = labels_in_regions((64, CLASSES, SIZE, SIZE), generator)
    uneven_labels = labels_in_regions((sum(uneven), CLASSES, SIZE, SIZE), generator)
    for rank, part in enumerate(uneven_labels.split(uneven)):
        if ignores_everything(rank):
            part.fill_(IGNORED)
    even_images, uneven_images = (
        images_of_labels(labels, generator.manual_seed(1))
        for labels in (even_labels, uneven_labels)
    )
    model = trained(even_images, even_labels)
    batches = {
        "8 ranks of 8": (even_images, even_labels, [8] * 8),
        "64 ranks of 1": (even_images, even_labels, [1] * 64),
        "64 uneven ranks": (uneven_images, uneven_labels, uneven),
    }
    return [
        {"loss": name}
        | {batch: difference(model, make(), *tensors) for batch, tensors in batches.items()}
        for name, make in LOSSES.items()
    ]
