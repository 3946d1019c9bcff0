"""Targets made from integer labels, in plain PyTorch: label smoothing and its boundary rule.

The kernels compute the same per pixel, without these tensors.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from . import option_checks
from .checks import can_look_at, check_label_range, check_labels, is_ignored


def boundary_mask(labels: Tensor, size: int, ignore_index: int | None = -100) -> Tensor:
    """The pixels whose `size` x `size` window holds a different label (section 2.4.1).

    The image's own edge makes no boundary, and a pixel with an ignored pixel in its window is
    not a boundary pixel. This is what max-pooling the one-hot encoding computes: a pixel is one
    when two classes reach it. Here labels are pooled instead, which needs no one-hot: the window
    is uniform when its largest label is its smallest.

    Args:
        labels: class indices, any integer dtype, (N, *spatial) with 0 to 3 spatial dimensions.
        size: k, the window's edge in pixels; odd and positive.
        ignore_index: the label of pixels that count nowhere; None: every pixel counts.

    Returns:
        bool, (N, *spatial).

    Raises:
        TypeError, ValueError: for labels that are not integers or have another rank, or an even
            or non-positive size.
    """
    check_labels("labels", labels)
    size = option_checks.boundary_size("size", size)
    if ignore_index is not None:
        ignore_index = option_checks.integer("ignore_index", ignore_index)
    spatial = labels.dim() - 1
    if spatial == 0 or labels.numel() == 0:
        return torch.zeros(labels.shape, dtype=torch.bool, device=labels.device)
    pool = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[spatial - 1]
    # A wider window than one that always holds the image holds no more, and takes longer.
    size = min(size, 2 * max(labels.shape[1:]) + 1)

    def largest_in_window(values: Tensor) -> Tensor:
        pooled = pool(values.unsqueeze(1), size, stride=1, padding=size // 2)
        return pooled.squeeze(1)

    index = labels.to(torch.int64)
    # Floating numbers are what pooling takes. Small labels are exact as they are; of large ones, of
    # 64 bits, both halves are looked at, which differ where the labels do.
    low, high = index & 0xFFFFFFFF, index >> 32
    uniform = torch.ones_like(index, dtype=torch.bool)
    for half in (low, high):
        value = half.to(torch.float64)
        uniform &= largest_in_window(value) == -largest_in_window(-value)
    if ignore_index is None:
        return ~uniform
    ignored = is_ignored(labels, ignore_index).to(torch.float32)
    return ~uniform & (largest_in_window(ignored) == 0)


def smooth_labels(
    labels: Tensor,
    num_classes: int,
    label_smoothing: float = 0.0,
    boundary_size: int | None = None,
    ignore_index: int | None = -100,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """The target y = (1 - e) * onehot + e / C of label smoothing, on all or on boundary pixels.

    Args:
        labels: class indices in [0, num_classes) or ignore_index, any integer dtype,
            (N, *spatial).
        num_classes: C.
        label_smoothing: e, in [0, 1].
        boundary_size: k, odd: smooth only the pixels of `boundary_mask(labels, k)` (BLS, section
            2.4.1); None: every pixel (LS).
        ignore_index: pixels with this label get a target of zeros; None: no pixel does.
        dtype: of the result, floating.

    Returns:
        probabilities, (N, C, *spatial).

    Raises:
        TypeError, ValueError: for bad arguments; IndexError for a label out of range, whose target
            is NaN where looking would make a GPU wait.
    """
    check_labels("labels", labels)
    label_smoothing = option_checks.share("label_smoothing", label_smoothing)
    if boundary_size is not None:
        boundary_size = option_checks.boundary_size("boundary_size", boundary_size)
    if option_checks.integer("num_classes", num_classes) < 1:
        raise ValueError(f"num_classes={num_classes!r}: expected at least 1")
    if ignore_index is not None:
        ignore_index = option_checks.integer("ignore_index", ignore_index)
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise TypeError(f"dtype={dtype!r}: expected a floating dtype")
    if can_look_at(labels):
        check_label_range(labels, None, num_classes, ignore_index, "labels")
    index = labels.to(torch.int64)
    valid = torch.ones_like(index, dtype=torch.bool)
    if ignore_index is not None:
        valid = ~is_ignored(labels, ignore_index)
    channel = torch.arange(num_classes, device=labels.device).view(-1, *[1] * (labels.dim() - 1))
    one_hot = (index.unsqueeze(1) == channel).to(dtype)
    wrong = valid & ((index < 0) | (index >= num_classes))  # where nobody could look
    one_hot = one_hot.masked_fill(wrong.unsqueeze(1), float("nan"))
    smoothed = valid
    if boundary_size is not None:
        smoothed = boundary_mask(labels, boundary_size, ignore_index)
    epsilon = label_smoothing * smoothed.unsqueeze(1).to(dtype)
    return ((1 - epsilon) * one_hot + epsilon / num_classes) * valid.unsqueeze(1)
