"""From statistics to the loss: small formulas on N x C numbers, written once for all backends.

    statistics -> (TP, FP, FN) of an overlap, active classes -> sums over the images of the batch
               -> index and loss per class -> mean over classes

The sums over images are a place of their own, `batch_sums`, because a batch may lie in parts, on
several ranks or in micro-batches: its sums are those of its parts, added. The loss of the batch is
a formula of them, `objective_value`, and no mean of the parts' losses.

Shapes: statistics are (N, C), or (C,) once summed over the batch. Nothing here reads a value on
the host, so no formula makes it wait for the device.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from .objective import Objective, Term
from .options import LossOptions
from .overlaps import ORDER_OF_SUMMATION, Overlap
from .statistics import SUMS

#: What the loss needs of a batch for the term of one target, by name: sums over the images.
#:     valid, cross_entropy, cross_entropy_weight, target_entropy
#:                                 0-dim, as in `statistics.TOTALS`
#:     counts, active              of "dataset": (3, C) TP, FP and FN; (C,) images in which a class
#:                                 is active
#:     class_losses, class_images  of "class": (C,) losses of the images; (C,) images in which a
#:                                 class counts
#:     image_losses, images        of "image": 0-dim losses of the images; images that count
#: Where a reduction keeps images apart, what is 0-dim here is (N,), and nothing can be added.
Sums = dict[str, Tensor]

#: What makes the sums of a whole batch, for each target, of those of a part of it.
SumsOfBatch = Callable[[list[Sums]], list[Sums]]


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


def over_classes(
    losses: Tensor, counted: Tensor, weights: Tensor | None, options: LossOptions
) -> Tensor:
    """Class losses (..., C), weighted, to their mean or sum over the classes that count; with
    reduction "none" to the weighted losses themselves, 0 where a class does not count."""
    weighted = losses if weights is None else losses * weights.to(losses.dtype)
    weighted = torch.where(counted, weighted, 0)
    if options.reduction == "none":
        return weighted
    total = weighted.sum(-1)
    if options.reduction == "sum":
        return total
    if options.weighted_mean and weights is not None:
        return _ratio(total, torch.where(counted, weights.to(losses.dtype), 0).sum(-1))
    return _ratio(total, counted.sum(-1))


def counted_losses(
    counts: tuple[Tensor, Tensor, Tensor],
    active: Tensor,
    objective: Objective,
    class_mask: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """The losses of the classes, and which of them count: the active ones, or, where the others
    count with options.inactive_loss, all that `class_mask` lets in. Shapes (..., C)."""
    options = objective.options
    losses = class_losses(
        # An inactive class may have an infinite loss: the derivative of that is not asked for.
        tuple(torch.where(active, count, 1) for count in counts),
        options.alpha,
        options.beta,
        options.smooth_pair,
        options.gamma,
        options.log_loss,
        objective.index_floor,
    )
    if options.inactive_loss is None:
        return losses, active
    counted = torch.ones_like(active) if class_mask is None else class_mask.expand_as(active)
    return torch.where(active, losses, options.inactive_loss), counted


# ---- sums over the images ------------------------------------------------------------------------


def keeps_images(options: LossOptions) -> bool:
    """Whether the result has a loss of each image, so that a batch has no sums."""
    return options.reduction == "image" or (
        options.reduction == "none" and "image" in options.aggregation_weights
    )


def is_of_sums(options: LossOptions) -> bool:
    """Whether the statistics of images are needed only in their sum over the batch, so that it does
    not matter which of its pixels make up an image."""
    return not keeps_images(options) and options.aggregation_weights.keys() == {"dataset"}


def batch_sums(
    statistics: Mapping[str, Tensor],
    term: Term,
    objective: Objective,
    class_weights: Tensor | None,
    class_mask: Tensor | None,
) -> Sums:
    """What the loss needs of a batch for the term of one target; see `Sums`.

    A class of an image is active where its mode says so, `class_mask` lets it in, and a pixel of
    the image counts.

    Args:
        statistics: (N, C), totals (N,); float64.
    """
    options = objective.options
    over_images = _as_it_is if keeps_images(options) else _sum_over_images
    names = ["valid"]
    if term.ce_weight > 0:
        names += ["cross_entropy", "cross_entropy_weight"]
        names += ["target_entropy"] if objective.is_divergence else []
    sums = {name: over_images(statistics[name]) for name in names}
    if term.overlap_weight == 0:
        return sums
    counts = overlap_counts(statistics, objective.matrix)
    allowed = statistics["valid"].unsqueeze(-1) > 0
    if class_mask is not None:
        allowed = allowed & class_mask
    mode, threshold = term.active_classes, options.active_threshold
    active = allowed & active_from_extrema(statistics, mode, threshold)
    if "dataset" in options.aggregation_weights:
        sums["counts"] = torch.stack([count.sum(0) for count in counts])
        sums["active"] = active.sum(0)
    if is_of_sums(options):
        return sums
    losses, counted = counted_losses(counts, active, objective, class_mask)
    if "class" in options.aggregation_weights:
        sums["class_losses"] = torch.where(counted, losses, 0).sum(0)
        sums["class_images"] = counted.sum(0)
    if "image" in options.aggregation_weights:
        of_images = over_classes(losses, counted, class_weights, options)
        counts_at_all = counted if options.reduction == "none" else counted.any(-1)
        sums["image_losses"] = over_images(torch.where(counts_at_all, of_images, 0))
        sums["images"] = over_images(counts_at_all)
    return sums


def _sum_over_images(statistic: Tensor) -> Tensor:
    return statistic.sum(0)


def _as_it_is(statistic: Tensor) -> Tensor:
    return statistic


# ---- from the sums to the loss -------------------------------------------------------------------


def overlap_value(
    sums: Sums, objective: Objective, class_weights: Tensor | None, class_mask: Tensor | None
) -> Tensor:
    """The overlap loss of a batch. The aggregations are multiplied by their weights and added:

    "dataset": over the classes of the batch as one image;
    "image": over the classes of an image, then the mean over images in which a class counts;
    "class": the mean over images for each class, then over classes that count in some image.

    Returns:
        a 0-dim tensor; with reduction "image" (N,); with "none" the losses of the classes: (C,) for
        "dataset" and "class", (N, C) for "image".
    """
    options = objective.options
    total = None
    for how, weight in options.aggregation_weights.items():
        if how == "image":
            part = _ratio(sums["image_losses"], sums["images"])
        else:
            if how == "dataset":
                counts, active = sums["counts"].unbind(0), sums["active"] > 0
                losses, counted = counted_losses(counts, active, objective, class_mask)
            else:
                losses = _ratio(sums["class_losses"], sums["class_images"])
                counted = sums["class_images"] > 0
            part = over_classes(losses, counted, class_weights, options)
        total = weight * part if total is None else total + weight * part
    return total


def cross_entropy_value(sums: Sums, is_divergence: bool) -> Tensor:
    """Cross-entropy: PyTorch's mean, weighted where classes have weights; 0 where nothing counts.

    `torch.nn.functional.cross_entropy` for labels and for probabilities; where classes are
    independent `binary_cross_entropy_with_logits`, the mean over elements. A divergence,
    KL(target || prediction), is that less the target's own entropy, which has no gradient.
    """
    total = sums["cross_entropy"]
    if is_divergence:
        total = total - sums["target_entropy"]
    return _ratio(total, sums["cross_entropy_weight"])


def objective_value(
    sums: list[Sums],
    terms: list[Term],
    objective: Objective,
    class_weights: Tensor | None,
    class_mask: Tensor | None,
) -> Tensor:
    """The terms of the targets that there are, added; a weight of 0 takes a term out, even where
    that is infinite."""
    total = poison(sums[-1], objective.options)
    for of_target, term in zip(sums, terms, strict=True):
        if term.ce_weight > 0:
            is_divergence = "target_entropy" in of_target
            total = total + term.ce_weight * cross_entropy_value(of_target, is_divergence)
        if term.overlap_weight > 0:
            loss = overlap_value(of_target, objective, class_weights, class_mask)
            total = total + term.overlap_weight * loss
    return total


def objective_loss(
    of_labels: Mapping[str, Tensor] | None,
    of_dense: Mapping[str, Tensor] | None,
    objective: Objective,
    class_weights: Tensor | None,
    class_mask: Tensor | None = None,
    whole_batch: SumsOfBatch | None = None,
) -> Tensor:
    """The whole way from statistics (N, C) to the loss.

    Args:
        whole_batch: what makes the sums of the whole batch of those of this part.
    """
    targets = [
        (statistics, term)
        for statistics, term in ((of_labels, objective.of_labels), (of_dense, objective.of_dense))
        if statistics is not None
    ]
    sums = [
        batch_sums(statistics, term, objective, class_weights, class_mask)
        for statistics, term in targets
    ]
    if whole_batch is not None and not keeps_images(objective.options):
        sums = whole_batch(sums)
    terms = [term for _, term in targets]
    return objective_value(sums, terms, objective, class_weights, class_mask)


def poison(sums: Sums, options: LossOptions) -> Tensor:
    """What makes a loss NaN where its input is wrong, whichever terms and classes it has, and 0
    elsewhere. The kernels say that by a number of pixels that is NaN."""
    nothing = 0 * sums["valid"]
    return nothing.unsqueeze(-1) if nothing.dim() and options.reduction == "none" else nothing
