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
    smooth: tuple[float, float],
    gamma: float,
    log_loss: bool,
    index_floor: float = 1e-7,
) -> Tensor:
    """loss_c = (1 - index)^gamma or (-log(index))^gamma, with the Tversky index
    (TP + s1) / (TP + alpha FP + beta FN + s2). 0/0 counts as loss 0.

    1 - index is taken as (alpha FP + beta FN + s2 - s1) / denominator, which does not cancel. With
    squared norms FP and FN are differences: alpha = beta adds them to ||x - y||^2, of which
    rounding can leave -1e-17; other weights can make it negative, and a power of that counts as 0.
    A logarithm takes `index_floor` in place of a smaller index, where its gradient is 0.
    """
    tp, fp, fn = counts
    s1, s2 = smooth
    errors = alpha * fp + beta * fn
    denominator = tp + errors + s2
    # `where` on both sides of the division keeps 0/0 out of the value and of the gradient.
    empty = denominator == 0
    denominator = torch.where(empty, 1, denominator)
    if log_loss:
        index = torch.where(empty, 1, (tp + s1) / denominator)
        loss = -torch.log(torch.where(index <= index_floor, index_floor, index))
    else:
        loss = torch.where(empty, 0, errors + (s2 - s1)) / denominator
    if is_clamped(alpha, beta, smooth, gamma):
        loss = loss.clamp(min=0)
    if gamma == 1:
        return loss
    # The derivative of 0^gamma is infinite for gamma < 1: a perfect class gets 0 and gradient 0.
    perfect = loss == 0
    return torch.where(perfect, 0, torch.where(perfect, 1, loss) ** gamma)


def is_clamped(alpha: float, beta: float, smooth: tuple[float, float], gamma: float) -> bool:
    """Whether a negative loss of a class counts as 0: where only rounding makes it negative, and
    where it has no power."""
    return gamma != 1 or (alpha == beta and smooth[0] <= smooth[1])


def active_from_extrema(extrema: Mapping[str, Tensor], mode: str, threshold: float) -> Tensor:
    """Which classes count (section 2.4.3, Figure 4), bool of the extrema's shape."""
    if mode == "all":
        return torch.ones_like(extrema["present"], dtype=torch.bool)
    if mode in ("present", "counted"):
        return extrema[mode] > 0
    column = {"label": "target_max", "prob": "prediction_max", "both": "joint_max"}[mode]
    # Not `>`: a class whose maximum is NaN is active, so that the loss is NaN too.
    return ~(extrema[column] <= threshold)


def _ratio(total: Tensor, weight: Tensor) -> Tensor:
    """total / weight; 0 where nothing counts."""
    empty = weight == 0
    return torch.where(empty, 0, total) / torch.where(empty, 1, weight)


def mean_of_counted(losses: Tensor, counted: Tensor, dim: int) -> Tensor:
    """Mean over the entries along `dim` that count; 0 where none does."""
    return _ratio(torch.where(counted, losses, 0).sum(dim), counted.sum(dim))


def over_classes(
    losses: Tensor, counted: Tensor, weights: Tensor | None, options: LossOptions
) -> Tensor:
    """Class losses (..., C), weighted, to their mean or sum over the classes that count."""
    weighted = losses if weights is None else losses * weights.to(losses.dtype)
    total = torch.where(counted, weighted, 0).sum(-1)
    if options.reduction == "sum":
        return total
    if options.weighted_mean and weights is not None:
        return _ratio(total, torch.where(counted, weights.to(losses.dtype), 0).sum(-1))
    return _ratio(total, counted.sum(-1))


def aggregate(
    losses: Tensor, counted: Tensor, how: str, weights: Tensor | None, options: LossOptions
) -> Tensor:
    """Class losses to one number, or to what the reduction leaves.

    Args:
        losses, counted: (C,) for "dataset", (N, C) for "image" and "class"; whether they count.
        how: "dataset": over classes; "image": over the classes of an image, then the mean over
            images in which a class counts; "class": mean over images per class, then over classes
            that count in some image.
        weights: (C,), of the classes.

    Returns:
        a 0-dim tensor; with reduction "image" (N,); with "none" the weighted losses of the classes,
        0 where they do not count: (C,) for "dataset" and "class", (N, C) for "image".
    """
    if how == "class":
        losses, counted = mean_of_counted(losses, counted, 0), counted.any(0)
    if options.reduction == "none":
        weighted = losses if weights is None else losses * weights.to(losses.dtype)
        return torch.where(counted, weighted, 0)
    result = over_classes(losses, counted, weights, options)
    if how != "image" or options.reduction == "image":
        return result
    return mean_of_counted(result, counted.any(1), 0)


def overlap_loss(
    statistics: Mapping[str, Tensor],
    objective: Objective,
    active_classes: str,
    class_weights: Tensor | None,
    class_mask: Tensor | None,
) -> Tensor:
    """The whole way from statistics (N, C) to the loss: a 0-dim tensor, or see `aggregate`.

    The aggregations are weighted by their values and added. A class of an image is active where its
    mode says so, `class_mask` lets it in, and a pixel of the image counts; one that is not is left
    out of the means, or counts with options.inactive_loss.
    """
    options = objective.options
    counts = overlap_counts(statistics, objective.matrix)
    allowed = statistics["valid"].unsqueeze(-1) > 0
    if class_mask is not None:
        allowed = allowed & class_mask
    active = allowed & active_from_extrema(statistics, active_classes, options.active_threshold)
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
            options.smooth_pair,
            options.gamma,
            options.log_loss,
            objective.index_floor,
        )
        counted = part_active
        if options.inactive_loss is not None:
            part = torch.where(part_active, part, options.inactive_loss)
            counted = torch.ones_like(part_active) if class_mask is None else class_mask
            counted = counted.expand_as(part_active)
        part = weight * aggregate(part, counted, how, class_weights, options)
        total = part if total is None else total + part
    return total


def mean_cross_entropy(statistics: Mapping[str, Tensor], of_images: bool = False) -> Tensor:
    """Cross-entropy over the batch, 0-dim, or over each image, (N,): PyTorch's mean, weighted where
    classes have weights; 0 where nothing counts.

    `torch.nn.functional.cross_entropy` for labels and for probabilities; where classes are
    independent `binary_cross_entropy_with_logits`, the mean over elements.
    """
    return _mean(statistics["cross_entropy"], statistics["cross_entropy_weight"], of_images)


def mean_divergence(statistics: Mapping[str, Tensor], of_images: bool = False) -> Tensor:
    """KL(target || prediction): cross-entropy less the target's own entropy, which has no
    gradient."""
    divergence = statistics["cross_entropy"] - statistics["target_entropy"]
    return _mean(divergence, statistics["cross_entropy_weight"], of_images)


def _mean(sums: Tensor, weights: Tensor, of_images: bool) -> Tensor:
    return _ratio(sums, weights) if of_images else _ratio(sums.sum(), weights.sum())


def objective_loss(
    of_labels: Mapping[str, Tensor] | None,
    of_dense: Mapping[str, Tensor] | None,
    objective: Objective,
    class_weights: Tensor | None,
    class_mask: Tensor | None = None,
) -> Tensor:
    """The terms of those targets that there are, added; a weight of 0 takes a term out, even where
    that is infinite."""
    terms = []
    of_images = objective.options.reduction == "image"
    for statistics, term, is_divergence in (
        (of_labels, objective.of_labels, False),
        (of_dense, objective.of_dense, objective.is_divergence),
    ):
        if statistics is None:
            continue
        if term.ce_weight > 0:
            mean = mean_divergence if is_divergence else mean_cross_entropy
            terms.append(term.ce_weight * mean(statistics, of_images))
        if term.overlap_weight > 0:
            loss = overlap_loss(
                statistics, objective, term.active_classes, class_weights, class_mask
            )
            terms.append(term.overlap_weight * loss)
    return sum(terms) + poison(of_dense or of_labels, objective.options)


def poison(statistics: Mapping[str, Tensor], options: LossOptions) -> Tensor:
    """What makes a loss NaN where its input is wrong, whichever terms and classes it has, and 0
    elsewhere. The kernels say that by a number of pixels that is NaN."""
    valid = 0 * statistics["valid"]
    if options.reduction == "image":
        return valid
    if options.reduction == "none" and options.aggregation_weights.get("image"):
        return valid.unsqueeze(-1)
    return valid.sum()
