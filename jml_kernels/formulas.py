"""From statistics to the loss: small formulas on N x C numbers, written once for all backends.

    statistics -> (TP, FP, FN) of an overlap -> index and loss per class
               -> active classes             -> aggregation over classes and images

Shapes: statistics are (N, C), or (C,) once summed over the batch. Nothing here reads a value on
the host, so no formula makes it wait for the device.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from .objective import Objective
from .options import LossOptions
from .overlaps import ORDER_OF_SUMMATION, Overlap
from .statistics import SUMS


def overlap_counts(sums: Mapping[str, Tensor], overlap: Overlap) -> tuple[Tensor, Tensor, Tensor]:
    """(TP, FP, FN) of an overlap: its matrix times the sums."""
    counts = []
    for row in overlap:
        count = None
        for i in ORDER_OF_SUMMATION:
            if row[i] == 0:  # a column that nobody asks for is not there
                continue
            column = sums[SUMS[i]] if row[i] == 1 else row[i] * sums[SUMS[i]]
            count = column if count is None else count + column
        counts.append(torch.zeros_like(sums[SUMS[0]]) if count is None else count)
    return tuple(counts)


def class_losses(
    counts: tuple[Tensor, Tensor, Tensor],
    alpha: float,
    beta: float,
    smooth: float,
    gamma: float,
    log_loss: bool,
) -> Tensor:
    """loss_c = (1 - index)^gamma or (-log(index))^gamma, with the Tversky index
    (TP + s) / (TP + alpha FP + beta FN + s). 0/0 counts as loss 0.

    1 - index is taken as (alpha FP + beta FN) / denominator, which does not cancel. With squared
    norms FP and FN are differences: alpha = beta adds them to ||x - y||^2, of which rounding can
    leave -1e-17; other weights can make it negative, and a power of that counts as 0.
    """
    tp, fp, fn = counts
    errors = alpha * fp + beta * fn
    denominator = tp + errors + smooth
    # `where` on both sides of the division keeps 0/0 out of the value and of the gradient.
    empty = denominator == 0
    denominator = torch.where(empty, 1, denominator)
    if log_loss:
        loss = -torch.log(torch.where(empty, 1, (tp + smooth) / denominator))
    else:
        loss = torch.where(empty, 0, errors) / denominator
    if alpha == beta or gamma != 1:
        loss = loss.clamp(min=0)
    if gamma == 1:
        return loss
    # The derivative of 0^gamma is infinite for gamma < 1: a perfect class gets 0 and gradient 0.
    perfect = loss == 0
    return torch.where(perfect, 0, torch.where(perfect, 1, loss) ** gamma)


def active_from_extrema(extrema: Mapping[str, Tensor], mode: str, threshold: float) -> Tensor:
    """Which classes count (section 2.4.3, Figure 4), bool of the extrema's shape."""
    if mode == "all":
        return torch.ones_like(extrema["present"], dtype=torch.bool)
    if mode == "present":
        return extrema["present"] > 0
    column = {"label": "target_max", "prob": "prediction_max", "both": "joint_max"}[mode]
    # Not `>`: a class whose maximum is NaN is active, so that the loss is NaN too.
    return ~(extrema[column] <= threshold)


def masked_mean(values: Tensor, active: Tensor, dim: int) -> Tensor:
    """Mean over the active entries along `dim`; 0 where none is active."""
    count = active.sum(dim).clamp(min=1)
    return torch.where(active, values, 0).sum(dim) / count


def aggregate(losses: Tensor, active: Tensor, how: str, reduction: str) -> Tensor:
    """Mean of class losses over what is active.

    Args:
        losses, active: (C,) for "dataset", (N, C) for "image" and "class".
        how: "dataset": mean over classes; "image": mean over classes per image, then over images
            with an active class; "class": mean over images per class, then over classes active
            in some image.
        reduction: "none" stops before classes are averaged: (C,) for "dataset" and "class",
            (N, C) for "image", 0 where inactive.
    """
    if how == "class":
        losses, active = masked_mean(losses, active, 0), active.any(0)
    if reduction == "none":
        return torch.where(active, losses, 0)
    if how == "image":
        losses, active = masked_mean(losses, active, 1), active.any(1)
    return masked_mean(losses, active, 0)


def overlap_loss(
    statistics: Mapping[str, Tensor],
    overlap: Overlap,
    active_classes: str,
    options: LossOptions,
    class_weights: Tensor | None,
) -> Tensor:
    """The whole way from statistics (N, C) to the loss: a 0-dim tensor, or see `aggregate`.

    The aggregations are weighted by their values and added. A class weight multiplies its class's
    loss; the mean still divides by the number of active classes.
    """
    counts = overlap_counts(statistics, overlap)
    active = active_from_extrema(statistics, active_classes, options.active_threshold)
    total = None
    for how, weight in options.aggregation_weights.items():
        # Any pixel of the batch makes a class active in it: the maximum over images.
        over_batch = how == "dataset"
        part_active = active.any(0) if over_batch else active
        summed = [count.sum(0) for count in counts] if over_batch else counts
        part = class_losses(
            # An inactive class may have an infinite loss: the derivative of that is not asked for.
            tuple(torch.where(part_active, count, 1) for count in summed),
            options.alpha,
            options.beta,
            options.smooth,
            options.gamma,
            options.log_loss,
        )
        if class_weights is not None:
            part = part * class_weights.to(part.dtype)
        part = weight * aggregate(part, part_active, how, options.reduction)
        total = part if total is None else total + part
    return total


def mean_cross_entropy(statistics: Mapping[str, Tensor]) -> Tensor:
    """Cross-entropy over the batch, 0-dim: PyTorch's mean, weighted where classes have weights; 0
    where nothing counts.

    `torch.nn.functional.cross_entropy` for labels and for probabilities; where classes are
    independent `binary_cross_entropy_with_logits`, the mean over elements.
    """
    return _mean(statistics["cross_entropy"], statistics["cross_entropy_weight"])


def mean_divergence(statistics: Mapping[str, Tensor]) -> Tensor:
    """KL(target || prediction): cross-entropy less the target's own entropy, which has no
    gradient."""
    divergence = statistics["cross_entropy"] - statistics["target_entropy"]
    return _mean(divergence, statistics["cross_entropy_weight"])


def _mean(sums: Tensor, weights: Tensor) -> Tensor:
    total = weights.sum()
    empty = total == 0
    return torch.where(empty, 0, sums.sum()) / torch.where(empty, 1, total)


def objective_loss(
    of_labels: Mapping[str, Tensor] | None,
    of_dense: Mapping[str, Tensor] | None,
    objective: Objective,
    class_weights: Tensor | None,
) -> Tensor:
    """The terms of those targets that there are, added; a weight of 0 takes a term out, even where
    that is infinite."""
    terms = []
    for statistics, term, is_divergence in (
        (of_labels, objective.of_labels, False),
        (of_dense, objective.of_dense, objective.is_divergence),
    ):
        if statistics is None:
            continue
        if term.ce_weight > 0:
            mean = mean_divergence if is_divergence else mean_cross_entropy
            terms.append(term.ce_weight * mean(statistics))
        if term.overlap_weight > 0:
            loss = overlap_loss(
                statistics,
                objective.matrix,
                term.active_classes,
                objective.options,
                class_weights,
            )
            terms.append(term.overlap_weight * loss)
    return sum(terms)
