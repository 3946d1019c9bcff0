"""The backend in plain PyTorch: the oracle, to be read beside the paper.

Every tensor has the shape of the logits, so it is slow and hungry; it runs on any device, takes
any floating dtype and is differentiable in the logits and in soft targets. Run it in float64 and
it is what every other backend is judged by.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .checks import label_count
from .statistics import COLUMNS, EXTREMA, SUMS
from .targets import smooth_labels


def probabilities(logits: Tensor, activation: str) -> Tensor:
    """x of the paper, in float32 or float64."""
    if logits.dtype in (torch.float16, torch.bfloat16):
        logits = logits.float()
    if activation == "softmax":
        return torch.softmax(logits, dim=1)
    return torch.sigmoid(logits) if activation == "sigmoid" else logits


def label_target(
    labels: Tensor,
    mask: Tensor | None,
    like: Tensor,
    activation: str,
    label_smoothing: float,
    boundary_size: int,
    ignore_index: int,
) -> tuple[Tensor, Tensor]:
    """(y, v) of integer labels: y like the logits, v bool (N, 1, *spatial)."""
    num_classes = like.shape[1]
    num_labels = label_count(num_classes, activation)
    index = labels.to(torch.int64)
    counted = index != ignore_index
    in_range = (index >= 0) & (index < num_labels)
    valid = counted if mask is None else counted & mask
    bad = valid & ~in_range
    # A masked pixel may hold any label; one that is no class is as good as ignored.
    clean = torch.where(counted & in_range, index, -1)
    y = smooth_labels(clean, num_labels, label_smoothing, boundary_size or None, -1, like.dtype)
    if num_labels > num_classes:  # binary: y is the chance of label 1
        y = y[:, 1:]
    # Whether a label is bad cannot be told without waiting for a GPU: the loss is NaN instead.
    return y.masked_fill(bad.unsqueeze(1), float("nan")), valid.unsqueeze(1)


def dense_target(
    dense: Tensor, mask: Tensor | None, like: Tensor, label_smoothing: float, ignore_index: int
) -> tuple[Tensor, Tensor]:
    """(y, v) of a dense target: probabilities as they are, integers as independent 0/1 labels
    (smoothed as two classes each, ignored element by element)."""
    valid = torch.ones_like(dense[:, :1], dtype=torch.bool) if mask is None else mask.unsqueeze(1)
    if dense.is_floating_point():
        return dense.to(like.dtype), valid
    index = dense.to(torch.int64)
    valid = valid & (index != ignore_index)
    bad = valid & (index != 0) & (index != 1)
    y = (1 - label_smoothing) * index.to(like.dtype) + label_smoothing / 2
    return y.masked_fill(bad, float("nan")), valid


def overlap_terms(x: Tensor, y: Tensor) -> dict[str, Tensor]:
    """The summands of the statistics. The absolute value has sub-gradient 0 at x = y, and each
    term is exact there: no term is a difference of larger ones."""
    difference = x - y
    distance = difference.abs()
    return {
        "true_positive": torch.minimum(x, y),
        "false_positive": (distance + difference) / 2,
        "false_negative": (distance - difference) / 2,
        "intersection": x * y,
        "prediction_squared": x * x,
        "target_squared": y * y,
    }


def class_maxima(x: Tensor, y: Tensor, independent: bool) -> dict[str, Tensor]:
    """The quantities whose maxima over pixels decide which classes are active (Figure 4)."""
    if independent:
        present = y > 0.5
    else:
        channel = torch.arange(y.shape[1], device=y.device).view(-1, *[1] * (y.dim() - 2))
        present = y.argmax(dim=1, keepdim=True) == channel
    return {
        "prediction_max": x,
        "target_max": y,
        "joint_max": x + y,
        "present": present.to(x.dtype),
    }


def statistics(
    logits: Tensor,
    labels: Tensor | None,
    dense: Tensor | None,
    mask: Tensor | None,
    columns: int,
    activation: str,
    label_smoothing: float,
    boundary_size: int,
    ignore_index: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Statistics of logits against each target given, labels first.

    Args:
        logits: (N, C, *spatial).
        labels: integers (N, *spatial), or None.
        dense: probabilities or integers 0 and 1, (N, C, *spatial), or None.
        mask: bool (N, *spatial), True where a pixel counts, or None.
        columns: bit set of `statistics.COLUMNS`; others are 0.
        boundary_size: k of boundary smoothing, 0 to smooth every pixel.

    Returns:
        float64, with T targets: sums (T, len(SUMS), N, C), extrema (T, len(EXTREMA), N, C) and
        totals (T, len(TOTALS), N).
    """
    like = logits.detach()
    like = like.float() if like.dtype in (torch.float16, torch.bfloat16) else like
    independent = activation == "sigmoid" or (activation == "none" and logits.shape[1] == 1)
    targets = []
    if labels is not None:
        targets.append(
            label_target(
                labels, mask, like, activation, label_smoothing, boundary_size, ignore_index
            )
        )
    if dense is not None:
        targets.append(dense_target(dense, mask, like, label_smoothing, ignore_index))

    wanted = {name for i, name in enumerate(COLUMNS) if columns >> i & 1}
    sums, extrema, totals = [], [], []
    for target, valid in targets:
        # Before the softmax, so that NaN in an ignored pixel reaches neither loss nor gradient.
        x = probabilities(torch.where(valid, logits, 0), activation)
        x, y = torch.where(valid, x, 0), torch.where(valid, target, 0)
        zeros = x.new_zeros(x.shape[:2], dtype=torch.float64)
        terms = overlap_terms(x, y)
        sums += [_sum(terms[name]) if name in wanted else zeros for name in SUMS]
        maxima = class_maxima(x.detach(), y.detach(), independent)
        maxima = {name: torch.where(valid, value, 0) for name, value in maxima.items()}
        extrema += [_max(maxima[name]) if name in wanted else zeros for name in EXTREMA]
        totals.append(_sum(valid.any(dim=1, keepdim=True)).squeeze(1))
    return (
        torch.stack(sums).view(len(targets), len(SUMS), *logits.shape[:2]),
        torch.stack(extrema).view(len(targets), len(EXTREMA), *logits.shape[:2]),
        torch.stack(totals).view(len(targets), 1, logits.shape[0]),
    )


def statistics_backward(grad_sums: Tensor, logits: Tensor, *rule) -> Tensor:
    """Gradient of the logits, given that of the sums (T, len(SUMS), N, C)."""
    with torch.enable_grad():
        leaf = logits.detach().requires_grad_()
        sums, _, _ = statistics(leaf, *rule)
        return torch.autograd.grad(sums, leaf, grad_sums)[0]


def _sum(values: Tensor) -> Tensor:
    """Over pixels: (N, C, *spatial) -> float64 (N, C)."""
    return values.unsqueeze(-1).flatten(2).sum(dim=-1, dtype=torch.float64)


def _max(values: Tensor) -> Tensor:
    """Over pixels; none is negative, so that no pixel at all gives 0."""
    n, c, *spatial = values.shape
    if 0 in spatial or n == 0:
        return values.new_zeros((n, c), dtype=torch.float64)
    return values.unsqueeze(-1).flatten(2).amax(dim=-1).to(torch.float64)
