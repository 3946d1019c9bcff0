"""What the right answer of an objective is: equations 14 to 17 in float64, written out in plain
PyTorch with its own cross-entropies and the norms of equations 2, 3, 12 and 13. It shares no code
with the package."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from oracle import reached, upsampled
from torch import Tensor

from jml_kernels import accuracy
from jml_kernels.selfcheck.corpus.case import LossCase
from jml_kernels.selfcheck.corpus.drawing import class_weights, shared


class Labels(NamedTuple):
    """Integer labels, pixel by pixel: (N, *spatial)."""

    index: Tensor
    """0 where it is no label"""
    counted: Tensor
    smoothed: Tensor


class Target(NamedTuple):
    y: Tensor
    """(N, C, *spatial)"""
    valid: Tensor
    """bool, (N, C, *spatial)"""
    labels: Labels | None = None
    """what y is made from"""


def read_labels(labels: Tensor, mask: Tensor, num_labels: int, options: Mapping) -> Labels:
    index, size = labels.to(torch.int64), options.get("boundary_size")
    is_label = (index != options.get("ignore_index", -100)) & (index >= 0) & (index < num_labels)
    index = torch.where(is_label, index, 0)
    smoothed = torch.ones_like(mask)
    if size is not None:
        smoothed = torch.zeros_like(mask)
        if index.dim() > 1 and index.numel() > 0:
            one_hot = is_label.unsqueeze(1) * F.one_hot(index, num_labels).movedim(-1, 1).double()
            no_label = reached((~is_label).unsqueeze(1).double(), size) > 0
            smoothed = (reached(one_hot, size) > 1) & ~no_label
    return Labels(index, mask & is_label, smoothed)


def read_target(
    target: Tensor, mask: Tensor, shape: tuple[int, ...], activation: str, options: Mapping
) -> Target:
    """y and what counts, of labels, probabilities, or integers of independent classes."""
    n, c, *spatial = shape
    epsilon = options.get("label_smoothing", 0.0)
    mask_of_classes = mask.unsqueeze(1).expand(shape)
    binary = c == 1 and activation != "softmax"
    if target.is_floating_point():
        return Target(target.double().reshape(shape), mask_of_classes)
    if target.dim() == len(shape) and not binary:
        counted = mask_of_classes & (target.to(torch.int64) != options.get("ignore_index", -100))
        return Target((1 - epsilon) * (target == 1).double() + epsilon / 2, counted)
    num_labels = 2 if binary else c
    labels = read_labels(target.reshape(n, *spatial), mask, num_labels, options)
    share = epsilon * labels.smoothed.unsqueeze(1).double()
    one_hot = F.one_hot(labels.index, num_labels).movedim(-1, 1)
    y = (1 - share) * one_hot + share / num_labels
    return Target(y[:, -c:], labels.counted.unsqueeze(1).expand(shape), labels)


def activate(z: Tensor, activation: str) -> Tensor:
    return {"softmax": lambda: z.softmax(1), "sigmoid": z.sigmoid, "none": lambda: z}[activation]()


def rows(values: Tensor, valid: Tensor) -> Tensor:
    """(pixels that count, C)"""
    return values.movedim(1, -1)[valid.any(1)]


def cross_entropy(
    z: Tensor, target: Tensor, activation: str, epsilon: float, weights: Tensor | None
) -> Tensor:
    """The mean over what counts, PyTorch's with weights; 0 where nothing does."""
    y, valid, labels = target
    if not valid.any():
        return 0 * z.sum()
    if activation == "sigmoid":
        weights = z.new_ones(z.shape[1]) if weights is None else weights
        weights = weights.view(-1, *[1] * (z.dim() - 2)).expand_as(z)[valid]
        return F.binary_cross_entropy_with_logits(z[valid], y[valid], weights)
    if activation == "none":
        return cross_entropy_of_probabilities(z, target, weights)
    if labels is None:
        return F.cross_entropy(rows(z, valid), rows(y, valid), weights)
    total = sum(
        F.cross_entropy(
            z.movedim(1, -1)[pixels],
            labels.index[pixels],
            weights,
            label_smoothing=share,
            reduction="sum",
        )
        for pixels, share in (
            (labels.counted & labels.smoothed, epsilon),
            (labels.counted & ~labels.smoothed, 0.0),
        )
    )
    return over_label_weight(total, labels, weights)


def over_label_weight(total: Tensor, labels: Labels, weights: Tensor | None) -> Tensor:
    """PyTorch's weighted mean, which is NaN where no label has a weight; ours is 0 there, as where
    nothing counts."""
    if weights is None:
        return total / labels.counted.sum()
    weight = weights[labels.index][labels.counted].sum()
    return total / weight if weight > 0 else 0 * total


def cross_entropy_of_probabilities(x: Tensor, target: Target, weights: Tensor | None) -> Tensor:
    y, valid, labels = target
    weights = x.new_ones(x.shape[1]) if weights is None else weights
    weights = weights.view(-1, *[1] * (x.dim() - 2))
    terms = [(y, x)] if x.shape[1] > 1 else [(y, x), (1 - y, 1 - x)]
    # 0 log 0 = 0
    total = sum(-(weights * p * torch.where(valid & (p > 0), q, 1).log()).sum() for p, q in terms)
    if x.shape[1] > 1 and labels is not None:
        return over_label_weight(total, labels, weights.flatten())
    return total / valid.any(1).sum()


def divergence(z: Tensor, target: Target, activation: str) -> Tensor:
    """KL(teacher || student)."""
    y, valid, _ = target
    if not valid.any():
        return 0 * z.sum()
    if activation == "softmax":
        return F.kl_div(rows(z.log_softmax(1), valid), rows(y, valid), reduction="batchmean")
    log = torch.stack([F.logsigmoid(z[valid]), F.logsigmoid(-z[valid])], 1)
    return F.kl_div(log, torch.stack([y[valid], 1 - y[valid]], 1), reduction="batchmean")


def counts(x: Tensor, y: Tensor, overlap: str) -> tuple[Tensor, Tensor, Tensor]:
    """(TP, FP, FN) per image and class, from norms."""
    norm = lambda values: values.abs().sum(-1)  # noqa: E731
    common = norm(x * y)
    if overlap == "soft1":
        return common, norm(x) - common, norm(y) - common
    if overlap == "soft2":
        return common, norm(x * x) - common, norm(y * y) - common
    apart, excess = norm(x - y), norm(x) - norm(y)
    true_positive = (norm(x + y) - apart) / 2 if overlap == "metric1" else common
    return true_positive, (apart + excess) / 2, (apart - excess) / 2


def is_active(x: Tensor, y: Tensor, mode: str, threshold: float, independent: bool) -> Tensor:
    """Per image and class; x and y (N, C, pixels), 0 where not valid."""
    if mode == "all":
        return torch.ones(x.shape[:2], dtype=torch.bool)
    if mode == "present":
        if independent:
            return (y > 0.5).any(-1)
        channel = torch.arange(x.shape[1]).view(-1, 1)
        return ((y.argmax(1, keepdim=True) == channel) & (y > 0)).any(-1)
    return ({"label": y, "prob": x, "both": x + y}[mode] > threshold).any(-1)


def jaccard(
    x: Tensor,
    target: Target,
    overlap: str,
    activation: str,
    options: Mapping,
    weights: Tensor | None,
) -> Tensor:
    """Any loss of the family, class by class and image by image."""
    option = {"alpha": 1.0, "beta": 1.0, "gamma": 1.0, "smooth": 0.0, **options}.__getitem__
    weights = x.new_ones(x.shape[1]) if weights is None else weights
    independent = activation == "sigmoid" or (activation == "none" and x.shape[1] == 1)
    x, y = (
        torch.where(target.valid, values, 0).unsqueeze(-1).flatten(2) for values in (x, target.y)
    )
    active = is_active(
        x.detach(),
        y,
        options.get("active_classes", "label"),
        options.get("active_threshold", 0.01),
        independent,
    )

    def loss_of(tp, fp, fn, c):
        denominator = tp + option("alpha") * fp + option("beta") * fn + option("smooth")
        if denominator == 0:
            return 0 * tp
        index = (tp + option("smooth")) / denominator
        loss = -index.log() if options.get("log_loss") else 1 - index
        loss = loss if option("gamma") == 1 else loss.clamp(min=0) ** option("gamma")
        return weights[c] * loss

    def mean(values):
        return sum(values) / len(values) if values else 0 * x.sum()

    counted = counts(x, y, overlap)
    images, classes = range(x.shape[0]), range(x.shape[1])
    aggregation = options.get("aggregation", "dataset")
    aggregation = {aggregation: 1.0} if isinstance(aggregation, str) else aggregation
    total = 0 * x.sum()
    if "dataset" in aggregation:
        of_batch = [
            loss_of(*(count[:, c].sum() for count in counted), c)
            for c in classes
            if active[:, c].any()
        ]
        total = total + aggregation["dataset"] * mean(of_batch)
    if set(aggregation) - {"dataset"}:
        single = {
            (n, c): loss_of(*(count[n, c] for count in counted), c)
            for n in images
            for c in classes
            if active[n, c]
        }
        for how, axis, across in (("image", 0, images), ("class", 1, classes)):
            groups = [[v for key, v in single.items() if key[axis] == i] for i in across]
            part = mean([mean(values) for values in groups if values])
            total = total + aggregation.get(how, 0.0) * part
    return total


#: What an objective is made of where nobody says otherwise.
DEFAULTS = {
    "ce_weight": 0.25,
    "ce_label_weight": 0.5,
    "jaccard_label_weight": 0.5,
    "temperature": 1.0,
    "student_temperature": 1.0,
}


def overlap_of(options: Mapping) -> str:
    return f"soft{options['norm']}" if "norm" in options else f"metric{options.get('variant', 1)}"


def objective(case: LossCase, leaf: Tensor) -> Tensor:
    """Eq. 14, or 15 to 17 with a teacher; a weight of 0 takes a term out."""
    _, labels, teacher, mask = shared(case)
    options, shape, activation = case.options, case.target_shape, case.activation
    leaf = upsampled(case, leaf)
    epsilon, overlap = options.get("label_smoothing", 0.0), overlap_of(options)
    given = {**DEFAULTS, **options}
    ce_weights, weights = map(class_weights(case).get, ("ce_class_weights", "class_weights"))
    mask = torch.ones(shape[0], *shape[2:], dtype=torch.bool) if mask is None else mask
    if teacher is None:
        mu = nu = 1.0
    elif labels is None:
        mu = nu = 0.0
    else:
        mu, nu = given["ce_label_weight"], given["jaccard_label_weight"]

    target = None
    if labels is not None:
        target = read_target(labels, mask, shape, activation, options)
    valid = mask.unsqueeze(1).expand(shape) if target is None else target.valid
    z = torch.where(valid, leaf, 0)
    x = activate(z, activation)
    cross_entropies, jaccards = [], []
    if mu > 0:
        cross_entropies.append((mu, cross_entropy(z, target, activation, epsilon, ce_weights)))
    if nu > 0:
        jaccards.append((nu, jaccard(x, target, overlap, activation, options, weights)))
    if teacher is not None:
        t = torch.where(valid, upsampled(case, teacher.double()), 0) / given["temperature"]
        of_teacher = Target(activate(t, activation), valid)
        scale = given["student_temperature"]
        if given.get("distillation") == "kl":
            entropy = divergence(z / scale, of_teacher, activation)
        else:
            entropy = cross_entropy(z / scale, of_teacher, activation, 0.0, None)
        cross_entropies.append((1 - mu, scale**2 * entropy))
        mode = given.get("teacher_active_classes") or options.get("active_classes", "label")
        soft = {**options, "active_classes": mode}
        jaccards.append((1 - nu, jaccard(x, of_teacher, overlap, activation, soft, weights)))

    def total(terms):
        return sum(weight * value for weight, value in terms if weight > 0)

    share = given["ce_weight"]
    return total([(share, total(cross_entropies)), (1 - share, total(jaccards))])


@functools.cache
def expected_objective(case: LossCase) -> accuracy.Answer:
    """In float64."""
    logits = shared(case).logits.double().requires_grad_()
    return accuracy.answer(functools.partial(objective, case), logits)
