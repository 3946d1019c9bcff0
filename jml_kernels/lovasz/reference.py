"""The Lovász extensions of all classes of a softmax in plain PyTorch: the oracle, to be read beside
appendix A. It holds probabilities and slopes of every class, runs on any device, and has a second
derivative."""

from __future__ import annotations

import torch
from torch import Tensor

from ..upsampling import interpolated
from .extension import Extension, evaluate


def groups_of(pixels: Tensor, per_image: bool) -> Tensor:
    """(N, *spatial) -> (groups, pixels): the pixels of each image, or of all."""
    return pixels.unsqueeze(-1).flatten(1) if per_image else pixels.flatten().unsqueeze(0)


def label_counts(labels: Tensor, counted: Tensor, num_classes: int, per_image: bool) -> Tensor:
    """The pixels of each class, float64 (groups, C). NaN throughout a group that holds a label out
    of range, of which nobody can be told without waiting for a GPU."""
    index = groups_of(labels, per_image)
    counted = groups_of(counted, per_image)
    in_range = (index >= 0) & (index < num_classes)
    wrong = (counted & ~in_range).any(1, keepdim=True)
    counts = wrong.new_zeros(len(index), num_classes, dtype=torch.float64)
    fits = counted & in_range
    counts.scatter_add_(1, torch.where(fits, index, 0), fits.to(torch.float64))
    return torch.where(wrong, torch.nan, counts)


def values(
    logits: Tensor, labels: Tensor, counted: Tensor, per_image: bool, align_corners: bool
) -> Tensor:
    """The extension of each class, float64 (groups, C).

    Args:
        logits: (N, C, *spatial), interpolated where their spatial sizes are lower than the labels'.
        labels: int64 (N, *spatial).
        counted: bool (N, *spatial).
    """
    z = interpolated(logits, labels.shape[1:], align_corners)
    z = z if z.dtype == torch.float64 else z.float()
    # Before the softmax, so that NaN in an ignored pixel reaches neither loss nor gradient.
    x = torch.softmax(torch.where(counted.unsqueeze(1), z, 0), dim=1)
    of_classes = []
    for c in range(x.shape[1]):
        is_label = labels == c
        errors = torch.where(is_label, 1 - x[:, c], x[:, c])  # eq. 18
        parts = (groups_of(part, per_image) for part in (errors, is_label, counted))
        of_classes.append(Extension.apply(*parts, evaluate)[0])
    return torch.stack(of_classes, dim=1)
