"""The backend in plain PyTorch: the oracle, to be read beside the paper.

Every tensor has the shape of the logits, so it is slow and hungry; it runs on any device, takes
any floating dtype and is differentiable in the logits and in soft targets. Run it in float64 and
it is what every other backend is judged by.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .checks import (
    ACTIVATIONS,
    holds_probabilities,
    ignores_elements,
    is_ignored,
    is_probability,
    label_count,
)
from .packing import TargetFloats, TargetInts
from .statistics import COLUMNS, EXTREMA, SUMS, TOTALS
from .targets import smooth_labels
from .upsampling import at_full_size


def probabilities(logits: Tensor, activation: str) -> Tensor:
    """x of the paper, in float32 or float64."""
    if logits.dtype in (torch.float16, torch.bfloat16):
        logits = logits.float()
    if activation == "softmax":
        return torch.softmax(logits, dim=1)
    return torch.sigmoid(logits) if activation == "sigmoid" else logits


def is_independent(logits: Tensor, activation: str) -> bool:
    """Whether x is a probability for each class by itself, and not shared out among classes."""
    return activation == "sigmoid" or (activation == "none" and logits.shape[1] == 1)


def label_target(
    labels: Tensor,
    mask: Tensor | None,
    like: Tensor,
    activation: str,
    label_smoothing: float,
    boundary_size: int,
    ignore_index: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """(y, v, wrong) of integer labels: y like the logits, v and wrong bool (N, 1, *spatial).

    Whether there is a label out of range cannot be told without waiting for a GPU: what is `wrong`
    makes the loss NaN instead."""
    num_classes = like.shape[1]
    num_labels = label_count(num_classes, activation)
    index = labels.to(torch.int64)
    counted = ~is_ignored(labels, ignore_index)
    in_range = (index >= 0) & (index < num_labels)
    valid = counted if mask is None else counted & mask
    bad = valid & ~in_range
    # A masked pixel may hold any label; one that is no class is as good as ignored.
    clean = torch.where(counted & in_range, index, -1)
    y = smooth_labels(clean, num_labels, label_smoothing, boundary_size or None, -1, like.dtype)
    if num_labels > num_classes:  # binary: y is the chance of label 1
        y = y[:, 1:]
    wrong = bad.unsqueeze(1)
    return y.masked_fill(wrong, float("nan")), valid.unsqueeze(1), wrong


def dense_target(
    dense: Tensor, valid: Tensor, like: Tensor, ignore_index: int | None, label_smoothing: float
) -> tuple[Tensor, Tensor, Tensor]:
    """(y, v, wrong) of a dense target: probabilities as they are, integers as independent 0/1
    labels (smoothed as two classes each). Elements that equal ignore_index do not count."""
    if ignore_index is not None:
        valid = valid & ~is_ignored(dense, ignore_index)
    if dense.is_floating_point():
        y, fits = dense.to(like.dtype), is_probability(dense.detach())
    else:
        index = dense.to(torch.int64)
        y = (1 - label_smoothing) * index.to(like.dtype) + label_smoothing / 2
        fits = (index == 0) | (index == 1)
    wrong = valid & ~fits
    return torch.where(wrong, float("nan"), y), valid, wrong


def teacher_target(
    teacher: Tensor, valid: Tensor, like: Tensor, activation: str, temperature: float
) -> tuple[Tensor, Tensor, Tensor]:
    """(y, v, wrong) of a teacher's logits, which are probabilities already with activation
    "none"."""
    y = probabilities(teacher.to(like.dtype) / temperature, activation)
    wrong = torch.zeros_like(valid)
    if holds_probabilities(teacher, True, activation):
        wrong = valid & ~is_probability(teacher.detach())
    return torch.where(wrong, float("nan"), y), valid, wrong


def overlap_terms(x: Tensor, y: Tensor) -> dict[str, Tensor]:
    """The summands of the statistics. At x = y those with two sides have the mean of both as
    sub-gradient, as |x - y| has 0. No term is a difference of larger ones, and neither is its
    gradient: one side may weigh a thousand times as much as the other."""
    difference = x - y
    nothing = difference.new_zeros(())
    return {
        "true_positive": torch.minimum(x, y),
        "false_positive": torch.maximum(difference, nothing),
        "false_negative": torch.maximum(-difference, nothing),
        "intersection": x * y,
        "prediction_squared": x * x,
        "target_squared": y * y,
    }


def class_maxima(x: Tensor, y: Tensor, independent: bool) -> dict[str, Tensor]:
    """The quantities whose maxima over pixels decide which classes are active (Figure 4), of
    elements that count."""
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
        "counted": torch.ones_like(x),
    }


def cross_entropy(z: Tensor, y: Tensor, activation: str, independent: bool) -> Tensor:
    """-y log x (eq. 14), and -(1 - y) log(1 - x) too where classes are independent; 0 log 0 = 0."""
    if activation == "softmax":
        terms = [(y, F.log_softmax(z, dim=1))]
    elif activation == "sigmoid":
        terms = [(y, F.logsigmoid(z)), (1 - y, F.logsigmoid(-z))]
    else:  # x itself: 0 log 0 has gradient 0 too
        terms = [(y, torch.log(torch.where((y == 0) & (z == 0), 1, z)))]
        if independent:
            terms.append((1 - y, torch.log(torch.where((y == 1) & (z == 1), 1, 1 - z))))
    # A class that is ruled out by its logit, and has no share of the target, adds nothing.
    return sum(-p * torch.where((p == 0) & (log == -torch.inf), 0, log) for p, log in terms)


def entropy(y: Tensor, independent: bool) -> Tensor:
    """-y log y, and -(1 - y) log(1 - y) too where classes are independent."""

    def of(p: Tensor) -> Tensor:  # 0 log 0 has gradient 0 too
        return -p * torch.log(torch.where(p == 0, 1, p))

    return of(y) + (of(1 - y) if independent else 0)


def label_weights(labels: Tensor, class_weights: Tensor) -> Tensor:
    """The weight of each pixel's label, (N, 1, *spatial); NaN where it is out of range."""
    index = labels.to(torch.int64).unsqueeze(1)
    in_range = (index >= 0) & (index < len(class_weights))
    return torch.where(in_range, class_weights[torch.where(in_range, index, 0)], torch.nan)


class Target(NamedTuple):
    """One of the targets of a call."""

    columns: int
    """bit set of `statistics.COLUMNS`"""
    y: Tensor
    """(N, C, *spatial), 0 where not valid"""
    temperature: float
    """what logits are divided by in its cross-entropy"""
    class_weights: Tensor | None
    """(C,), of its cross-entropy"""
    counts: Tensor
    """what each pixel, or element, adds to what that is divided by: (N, 1 or C, *spatial)"""
    is_teacher: bool

    def requests(self, name: str) -> bool:
        return bool(self.columns >> COLUMNS.index(name) & 1)


def _targets(
    like: Tensor,
    labels: Tensor | None,
    dense: Tensor | None,
    mask: Tensor | None,
    ce_class_weights: Tensor | None,
    ints: TargetInts,
    floats: TargetFloats,
) -> tuple[list[Target], Tensor, Tensor]:
    """(targets, v, wrong), see `statistics` and `label_target`."""
    activation, smoothing = ACTIVATIONS[ints.activation], floats.label_smoothing
    targets, weights = [], ce_class_weights
    is_teacher = floats.teacher_temperature > 0
    everywhere = torch.ones_like(like[:, :1], dtype=torch.bool)
    valid = everywhere if mask is None else mask.unsqueeze(1)
    wrong = torch.zeros_like(valid)
    if labels is not None:
        y, valid, wrong = label_target(
            labels, mask, like, activation, smoothing, ints.boundary_size, ints.ignore_index
        )
        counts = valid
        if weights is not None and not is_independent(like, activation):
            counts = torch.where(valid, label_weights(labels, weights.double()), 0)
        targets.append(Target(ints.label_columns, y, 1.0, weights, counts, False))
        weights = None  # they are the first target's
    if dense is not None:
        if is_teacher:
            temperature = floats.teacher_temperature
            y, valid, is_wrong = teacher_target(dense, valid, like, activation, temperature)
        else:
            ignores = ignores_elements(labels, dense, is_teacher, ints.ignore_index)
            ignore_index = ints.ignore_index if ignores else None
            y, valid, is_wrong = dense_target(dense, valid, like, ignore_index, smoothing)
        wrong = wrong | is_wrong
        counts = valid if is_independent(like, activation) else valid.any(dim=1, keepdim=True)
        temperature = floats.student_temperature
        targets.append(Target(ints.dense_columns, y, temperature, weights, counts, is_teacher))
    return [t._replace(y=torch.where(valid, t.y, 0)) for t in targets], valid, wrong


def _totals(z: Tensor, valid: Tensor, pixels: Tensor, target: Target, activation: str) -> Tensor:
    """(len(TOTALS), N); pixels: (N,), the number of those that count."""
    independent = is_independent(z, activation)
    total = dict.fromkeys(TOTALS, torch.zeros_like(pixels)) | {"valid": pixels}
    if target.requests("cross_entropy"):
        terms = cross_entropy(z / target.temperature, target.y, activation, independent)
        terms = _sum(torch.where(valid, terms, 0))
        weights = target.class_weights
        total["cross_entropy"] = (terms if weights is None else terms * weights.double()).sum(1)
    if target.requests("cross_entropy_weight"):
        counts = target.counts.expand(z.shape) if independent else target.counts
        total["cross_entropy_weight"] = _sum(counts).sum(1)
    if target.requests("target_entropy") and target.is_teacher:
        total["target_entropy"] = _sum(entropy(target.y, independent)).sum(1)
    return torch.stack([total[name] for name in TOTALS])


def statistics(
    logits: Tensor,
    labels: Tensor | None,
    dense: Tensor | None,
    mask: Tensor | None,
    ce_class_weights: Tensor | None,
    target_ints: Sequence[int],
    target_floats: Sequence[float],
    inplace_backward: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """Statistics of logits against each target given, labels first. A pixel that does not count
    for the labels does not count for the dense target either. An image that holds a label out of
    range, or what is no probability, has NaN as its number of valid pixels.

    Args:
        logits: (N, C, *spatial).
        labels: integers (N, *spatial), or None.
        dense: (N, C, *spatial), or None: probabilities; a teacher's logits; or, without labels,
            integers 0 and 1.
            With the target int `upsample`, logits, and a teacher's here, may each have lower
            spatial sizes than the labels or the probabilities; without either the larger of the
            two in each dimension is the full one. They are then interpolated, in float32 or
            float64, before everything else.
        mask: bool (N, *spatial), True where a pixel counts, or None.
        ce_class_weights: floating (C,), the weights w of the first target's cross-entropy; None: 1.
        target_ints, target_floats: the options, in the order of `packing.TargetInts` and
            `packing.TargetFloats`. Columns that these do not ask for are 0, but for `valid`.
        inplace_backward: for compiled backends; autograd, which is the backward of this one, writes
            a new gradient.

    Returns:
        float64, with T targets: sums (T, len(SUMS), N, C), extrema (T, len(EXTREMA), N, C) and
        totals (T, len(TOTALS), N). Sums and cross-entropy are differentiable in the logits.
    """
    ints, floats = TargetInts(*target_ints), TargetFloats(*target_floats)
    activation = ACTIVATIONS[ints.activation]
    if ints.upsample:
        has_teacher, align_corners = floats.teacher_temperature > 0, bool(ints.align_corners)
        logits, dense = at_full_size(logits, labels, dense, has_teacher, align_corners)
    logits = logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits
    targets, valid, wrong = _targets(
        logits.detach(), labels, dense, mask, ce_class_weights, ints, floats
    )
    if activation == "none":
        is_wrong = valid & ~is_probability(logits.detach())
        logits, wrong = torch.where(is_wrong, float("nan"), logits), wrong | is_wrong
    # Before the softmax, so that NaN in an ignored pixel reaches neither loss nor gradient. An
    # ignored element is a class of the softmax all the same.
    of_softmax = valid.any(1, keepdim=True) if activation == "softmax" else valid
    z = torch.where(of_softmax, logits, 0)
    x = torch.where(valid, probabilities(z, activation), 0)
    pixels = _sum(valid.any(1, keepdim=True)).sum(1)
    pixels = torch.where(wrong.flatten(1).any(1), float("nan"), pixels)
    zeros = x.new_zeros(x.shape[:2], dtype=torch.float64)
    sums, extrema = [], []
    for target in targets:
        terms = overlap_terms(x, target.y)
        sums += [_sum(terms[name]) if target.requests(name) else zeros for name in SUMS]
        maxima = class_maxima(x.detach(), target.y.detach(), is_independent(x, activation))
        maxima = {name: torch.where(valid, value, 0) for name, value in maxima.items()}
        extrema += [_max(maxima[name]) if target.requests(name) else zeros for name in EXTREMA]
    return (
        torch.stack(sums).view(len(targets), len(SUMS), *logits.shape[:2]),
        torch.stack(extrema).view(len(targets), len(EXTREMA), *logits.shape[:2]),
        torch.stack([_totals(z, valid, pixels, target, activation) for target in targets]),
    )


def _sum(values: Tensor) -> Tensor:
    """Over pixels: (N, C, *spatial) -> float64 (N, C)."""
    return values.unsqueeze(-1).flatten(2).sum(dim=-1, dtype=torch.float64)


def _max(values: Tensor) -> Tensor:
    """Over pixels; none is negative, so that no pixel at all gives 0."""
    n, c, *spatial = values.shape
    if 0 in spatial or n == 0:
        return values.new_zeros((n, c), dtype=torch.float64)
    return values.unsqueeze(-1).flatten(2).amax(dim=-1).to(torch.float64)
