"""The losses as functions: validate, choose a backend, call it, apply the formula."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from . import checks, formulas, ops, reference
from .backends import NAMES, choose
from .statistics import ALL_COLUMNS, EXTREMA, SUMS, ClassStatistics


@dataclass(frozen=True)
class TargetOptions:
    """How logits become probabilities and labels become a target, and what computes it.

    Attributes:
        label_smoothing: e in [0, 1]. Integer labels become (1 - e) * onehot + e / C (section
            2.4.1); integers 0 and 1 of independent classes are smoothed as two classes.
            Probabilities are taken as they are.
        boundary_size: k, odd: smooth only where the k x k (k, k x k x k) window holds another
            label (BLS). None: every pixel.
        ignore_index: integer label of pixels that count nowhere.
        activation: "softmax" over dim 1, "sigmoid" per class (multi-label, or binary with one
            class), or "none" for probabilities.
        inplace_backward: write the gradient into the logits' own memory. Nothing else may need
            them in the backward; autograd raises where it does.
        validate: look for labels out of range also where that makes the host wait for the device
            (a GPU). On the CPU they are always looked for.
        backend: "auto", or a name of `backends()`.
    """

    label_smoothing: float = 0.0
    boundary_size: int | None = None
    ignore_index: int = -100
    activation: str = "softmax"
    inplace_backward: bool = False
    validate: bool = False
    backend: str = "auto"

    def __post_init__(self):
        checks.check_label_smoothing(self.label_smoothing)
        if self.boundary_size is not None:
            checks.check_boundary_size(self.boundary_size)
        if isinstance(self.ignore_index, bool) or not isinstance(self.ignore_index, int):
            raise TypeError(f"ignore_index={self.ignore_index!r}: expected an integer")
        checks.check_choice("activation", self.activation, checks.ACTIVATIONS)
        checks.check_choice("backend", self.backend, ("auto", *NAMES))


@dataclass(frozen=True)
class LossOptions(TargetOptions):
    """The options of every overlap loss, on top of `TargetOptions`.

    Attributes:
        alpha, beta: weights of false positives and false negatives in the Tversky index.
        gamma: exponent of 1 - index; > 0.
        smooth: s >= 0, added to numerator and denominator of the index.
        log_loss: -log(index) in place of 1 - index.
        active_classes: which classes the mean is over (section 2.4.3): "all"; "present", the
            target's argmax somewhere; "label", "prob" or "both", where the largest target,
            probability, or sum of the two exceeds active_threshold.
        aggregation: "dataset", "image", "class" (see `formulas.aggregate`), or a mapping of these
            to the weights they are added with.
        reduction: "mean", or "none" for the losses per class, 0 where inactive: (C,), or (N, C)
            for aggregation="image".
    """

    alpha: float = 1.0
    beta: float = 1.0
    gamma: float = 1.0
    smooth: float = 0.0
    log_loss: bool = False
    active_classes: str = "label"
    active_threshold: float = 0.01
    aggregation: str | Mapping[str, float] = "dataset"
    reduction: str = "mean"

    def __post_init__(self):
        super().__post_init__()
        for name in ("alpha", "beta", "smooth"):
            checks.check_non_negative(name, getattr(self, name))
        checks.check_number("gamma", self.gamma)
        if not 0 < self.gamma < math.inf:
            raise ValueError(f"gamma={self.gamma!r}: expected a finite number > 0")
        checks.check_number("active_threshold", self.active_threshold)
        if not math.isfinite(self.active_threshold):
            raise ValueError(f"active_threshold={self.active_threshold!r}: expected a number")
        checks.check_choice("active_classes", self.active_classes, checks.ACTIVE_CLASSES)
        checks.check_choice("reduction", self.reduction, checks.REDUCTIONS)
        if isinstance(self.aggregation, Mapping):
            if not self.aggregation:
                raise ValueError("aggregation={}: expected at least one weight")
            for name, weight in self.aggregation.items():
                checks.check_choice("aggregation", name, checks.AGGREGATIONS)
                checks.check_non_negative(f"aggregation[{name!r}]", weight)
            if self.reduction == "none" and len(self.aggregation) > 1:
                raise ValueError(
                    f"aggregation={dict(self.aggregation)!r}: expected one aggregation with "
                    "reduction='none'"
                )
        else:
            checks.check_choice("aggregation", self.aggregation, checks.AGGREGATIONS)

    @property
    def aggregation_weights(self) -> dict[str, float]:
        if isinstance(self.aggregation, Mapping):
            # A weight of 0 takes a part out, even where that is infinite.
            positive = {how: weight for how, weight in self.aggregation.items() if weight > 0}
            return positive or dict(self.aggregation)
        return {self.aggregation: 1.0}


def _statistics(
    logits: Tensor, target: Tensor, mask: Tensor | None, columns: int, options: TargetOptions
) -> tuple[Tensor, Tensor, Tensor]:
    """Validate and compute: see `reference.statistics` for the shapes."""
    checks.check_logits(logits)
    if mask is not None:
        checks.check_mask(mask, logits)
    labels, dense = checks.split_target(logits, target, options.activation)
    backend = choose(options.backend, logits.device)
    if backend != "reference" and target.requires_grad:
        raise ValueError(
            "target requires grad: expected target.detach(), or backend='reference' for the "
            "gradient of a soft target"
        )
    if dense is not None and checks.is_integer(dense) and options.boundary_size is not None:
        raise ValueError(
            f"boundary_size={options.boundary_size!r}: expected None with a target of shape "
            f"{tuple(dense.shape)}, which has no map of labels"
        )
    rule = (
        columns,
        options.activation,
        float(options.label_smoothing),
        options.boundary_size or 0,
        options.ignore_index,
    )
    integers = labels if labels is not None else dense
    on_cpu = logits.device.type == "cpu"
    # The CPU kernels look for themselves, and a compiled graph cannot branch on values.
    reference_looks = backend == "reference" and not torch.compiler.is_compiling()
    if (reference_looks if on_cpu else options.validate) and checks.is_integer(integers):
        num_labels = checks.label_count(logits.shape[1], options.activation)
        num_labels = num_labels if labels is not None else 2
        checks.check_label_range(integers, mask, num_labels, options.ignore_index)
    if backend == "reference":
        return reference.statistics(logits, labels, dense, mask, *rule)
    return ops.statistics(
        backend,
        logits,
        labels,
        dense,
        mask,
        *rule,
        inplace_backward=options.inplace_backward,
    )


def class_statistics(
    logits: Tensor, target: Tensor, mask: Tensor | None = None, **options
) -> ClassStatistics:
    """The statistics of section 2 of the design, per image and class, in one pass over the logits.

    Differentiable in the logits: another set-similarity loss is three lines of PyTorch on them,
    and keeps the fused kernels.

    Args:
        logits, target, mask: as for the losses (`jaccard_metric_loss`).
        **options: those of `TargetOptions`.

    Returns:
        `ClassStatistics`; float64 for float64 logits, else float32.

    Raises:
        as `jaccard_metric_loss`.
    """
    sums, extrema, totals = _statistics(logits, target, mask, ALL_COLUMNS, TargetOptions(**options))
    dtype = torch.float64 if logits.dtype == torch.float64 else torch.float32
    fields = {name: sums[0, i].to(dtype) for i, name in enumerate(SUMS)}
    fields |= {name: extrema[0, i].to(dtype) for i, name in enumerate(EXTREMA)}
    fields["present"] = fields["present"] > 0
    return ClassStatistics(**fields, valid=totals[0, 0].to(dtype))


def overlap_loss(
    logits: Tensor,
    target: Tensor,
    mask: Tensor | None,
    overlap: str,
    options: LossOptions,
    class_weights: Tensor | None,
) -> Tensor:
    """Any loss of the family: `overlap` is a name of `formulas.OVERLAPS`."""
    columns = formulas.OVERLAPS[overlap] | formulas.ACTIVE_COLUMNS[options.active_classes]
    if class_weights is not None:
        checks.check_class_weights(class_weights, logits)
    sums, extrema, _ = _statistics(logits, target, mask, columns, options)
    loss = formulas.overlap_loss(
        dict(zip(SUMS, sums[0].unbind(0), strict=True)),
        dict(zip(EXTREMA, extrema[0].unbind(0), strict=True)),
        overlap=overlap,
        alpha=options.alpha,
        beta=options.beta,
        gamma=options.gamma,
        smooth=options.smooth,
        log_loss=options.log_loss,
        active_classes=options.active_classes,
        active_threshold=options.active_threshold,
        aggregation=options.aggregation_weights,
        class_weights=class_weights,
        reduction=options.reduction,
    )
    return loss.to(torch.float64 if logits.dtype == torch.float64 else torch.float32)


def overlap_name(family: str, parameter: str, value: int) -> str:
    """The overlap of variant 1 or 2 ("metric") or norm 1 or 2 ("soft")."""
    if isinstance(value, bool) or value not in (1, 2):
        raise ValueError(f"{parameter}={value!r}: expected 1 or 2")
    return f"{family}{value}"


def jaccard_metric_loss(
    logits: Tensor,
    target: Tensor,
    mask: Tensor | None = None,
    *,
    variant: int = 1,
    class_weights: Tensor | None = None,
    **options,
) -> Tensor:
    """The Jaccard metric loss, eq. 12 (variant 1) or 13 (variant 2).

    Args:
        logits: (N, C, *spatial) with 0 to 3 spatial dimensions; float16, bfloat16, float32 or
            float64, any strides (NCHW and channels_last are read as they lie).
        target: integer labels (N, *spatial) of any integer dtype, or probabilities
            (N, C, *spatial) of any of the dtypes above. With activation "sigmoid" or "none" also
            integers 0 and 1 (N, C, *spatial); with one class then labels are 0 and 1.
        mask: bool (N, *spatial), True where a pixel counts.
        variant: 1 or 2.
        class_weights: (C,), multiplies the losses per class.
        **options: those of `LossOptions`.

    Returns:
        the loss, 0-dim (see `reduction` for others); float64 for float64 logits, else float32.
        0 with gradient 0 where nothing counts.

    Raises:
        TypeError, ValueError: for an argument of the wrong kind, naming it.
        IndexError: for a label out of range, naming value and position; where looking would make
            a GPU wait, the loss is NaN instead (see `validate`).
        RuntimeError: for a backend that cannot run here, saying why.
    """
    overlap = overlap_name("metric", "variant", variant)
    return overlap_loss(logits, target, mask, overlap, LossOptions(**options), class_weights)


def soft_jaccard_loss(
    logits: Tensor,
    target: Tensor,
    mask: Tensor | None = None,
    *,
    norm: int = 1,
    class_weights: Tensor | None = None,
    **options,
) -> Tensor:
    """The soft Jaccard loss, eq. 2 (norm 1) or 3 (norm 2: squared L2).

    With norm 1 it is not minimal at x = y for soft targets (section 2.2).
    Arguments, result and errors as `jaccard_metric_loss`.
    """
    overlap = overlap_name("soft", "norm", norm)
    return overlap_loss(logits, target, mask, overlap, LossOptions(**options), class_weights)


def dice_semimetric_loss(
    logits: Tensor,
    target: Tensor,
    mask: Tensor | None = None,
    *,
    variant: int = 1,
    class_weights: Tensor | None = None,
    **options,
) -> Tensor:
    """`jaccard_metric_loss` with alpha = beta = 1/2: the Dice score in place of the Jaccard
    index; a semimetric (no triangle inequality)."""
    overlap = overlap_name("metric", "variant", variant)
    options = LossOptions(alpha=0.5, beta=0.5, **options)
    return overlap_loss(logits, target, mask, overlap, options, class_weights)


def soft_dice_loss(
    logits: Tensor,
    target: Tensor,
    mask: Tensor | None = None,
    *,
    norm: int = 1,
    class_weights: Tensor | None = None,
    **options,
) -> Tensor:
    """`soft_jaccard_loss` with alpha = beta = 1/2: 1 - 2 <x, y> / (||x|| + ||y||)."""
    overlap = overlap_name("soft", "norm", norm)
    options = LossOptions(alpha=0.5, beta=0.5, **options)
    return overlap_loss(logits, target, mask, overlap, options, class_weights)


def tversky_metric_loss(
    logits: Tensor,
    target: Tensor,
    mask: Tensor | None = None,
    *,
    alpha: float,
    beta: float,
    gamma: float = 1.0,
    variant: int = 1,
    class_weights: Tensor | None = None,
    **options,
) -> Tensor:
    """The general case, (1 - TP / (TP + alpha FP + beta FN))^gamma, with the counts of
    `jaccard_metric_loss`, which is alpha = beta = 1."""
    overlap = overlap_name("metric", "variant", variant)
    options = LossOptions(alpha=alpha, beta=beta, gamma=gamma, **options)
    return overlap_loss(logits, target, mask, overlap, options, class_weights)


def active_classes(
    probabilities: Tensor,
    target: Tensor,
    mode: str = "label",
    threshold: float = 0.01,
    mask: Tensor | None = None,
) -> Tensor:
    """Which classes count in a batch (section 2.4.3, Figure 4).

    Args:
        probabilities: x, (N, C, *spatial), floating.
        target: integer labels (N, *spatial) or probabilities (N, C, *spatial).
        mode: "all", "present", "label", "prob" or "both".
        threshold: for the last three.
        mask: bool (N, *spatial), True where a pixel counts.

    Returns:
        bool, (C,).
    """
    checks.check_choice("mode", mode, checks.ACTIVE_CLASSES)
    checks.check_logits(probabilities, "probabilities")
    options = TargetOptions(activation="none", backend="reference")
    columns = formulas.ACTIVE_COLUMNS[mode]
    _, extrema, _ = _statistics(probabilities, target, mask, columns, options)
    extrema = dict(zip(EXTREMA, extrema[0].unbind(0), strict=True))
    return formulas.active_from_extrema(extrema, mode, threshold).any(0)
