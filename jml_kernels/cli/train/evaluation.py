"""Accuracy and mIoU on the held-out stripes, against hard labels."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .batches import normalise
from .land_cover import LandCover


@dataclass(frozen=True)
class Scores:
    """Scores of all pixels together, as the mIoU of a data set is defined.

    Attributes:
        accuracy: share of pixels with the right class.
        class_iou: per class; NaN for one that neither labels nor predictions hold.
        miou: mean over the classes with a number.
    """

    accuracy: float
    class_iou: list[float]
    miou: float


def confusion_matrix(predictions: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """int64 (C, C): pixels by label (row) and prediction (column)."""
    pairs = labels.flatten().long() * num_classes + predictions.flatten().long()
    return pairs.bincount(minlength=num_classes**2).view(num_classes, num_classes)


def scores(confusion: Tensor) -> Scores:
    """`Scores` of a confusion matrix."""
    hits = confusion.diag().double()
    iou = hits / (confusion.sum(dim=0) + confusion.sum(dim=1) - hits)
    return Scores((hits.sum() / confusion.sum()).item(), iou.tolist(), iou.nanmean().item())


def stripes(held_out: Tensor) -> list[slice]:
    """The runs of neighbouring columns in a bool (W,), west to east."""
    columns = held_out.nonzero().flatten()
    if len(columns) == 0:
        return []
    first = torch.cat([columns[:1], columns[1:][columns.diff() > 1]])
    last = torch.cat([columns[:-1][columns.diff() > 1], columns[-1:]])
    return [slice(a, b + 1) for a, b in zip(first.tolist(), last.tolist(), strict=True)]


@torch.no_grad()
def predict(model: nn.Module, image: Tensor, held_out: Tensor) -> Tensor:
    """Class indices of the held-out columns, uint8 (H, columns held out).

    A stripe goes through the network by itself: no prediction sees a training pixel.
    """
    model.eval()
    parts = [model(image[None, :, :, stripe]).argmax(dim=1)[0] for stripe in stripes(held_out)]
    return torch.cat(parts, dim=1).to(torch.uint8)


def evaluate(model: nn.Module, data: LandCover) -> tuple[Tensor, Scores]:
    """Predictions of the held-out columns, as `predict`, and their scores."""
    predictions = predict(model, normalise(data), data.held_out)
    labels = data.labels[:, data.held_out]
    return predictions, scores(confusion_matrix(predictions, labels, len(data.cover)))
