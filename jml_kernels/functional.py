"""The losses as functions, and the statistics and active classes behind them. A function makes its
options and its objective anew in every call, where a module (modules.py) keeps them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from . import checks, dispatch, formulas, option_checks
from .lovasz import call as lovasz
from .lovasz.options import WITHOUT, HingeOptions, SoftmaxOptions
from .objective import ACTIVE_COLUMNS, distillation_objective, target_lists, target_objective
from .options import (
    DistillationOptions,
    LossOptions,
    TargetOptions,
    check_reduction_of_objective,
    lists_options,
)
from .overlaps import overlap_name, overlap_of_objective
from .statistics import ClassStatistics, column_bits


@lists_options(TargetOptions)
def class_statistics(
    logits: Tensor,
    target: Tensor,
    mask: Tensor | None = None,
    *,
    columns: Sequence[str] = ClassStatistics._fields,
    dtype: torch.dtype | None = None,
    ce_class_weights: Tensor | Sequence[float] | None = None,
    **options,
) -> ClassStatistics:
    """The sums that every loss of the family is a formula of, per image and class, in one pass over
    the logits: true positives, false positives and the others of `ClassStatistics`.

    Differentiable in the logits: another set-similarity loss is three lines of PyTorch on them,
    and keeps the fused kernels.

    Args:
        logits, target, mask: as for the losses (`jaccard_metric_loss`).
        columns: names of the fields that are computed; the others are None. A few columns cost
            less than all.
        dtype: of the statistics: torch.float64 hands over the sums as they are, torch.float32
            rounds them; None: that of a loss, float64 for float64 logits, else float32.
        ce_class_weights: (C,), weights of the classes in the cross-entropy.

    Returns:
        `ClassStatistics`.

    Raises:
        as `jaccard_metric_loss`.
    """
    fields = ClassStatistics._fields
    columns = _column_names(columns)
    if dtype not in (None, torch.float32, torch.float64):
        raise TypeError(f"dtype={dtype!r}: expected torch.float32, torch.float64 or None")
    options, bits = TargetOptions(**options), column_bits(*columns)
    lists = target_lists(options, bits, bits)
    weights = _class_weights("ce_class_weights", ce_class_weights, logits)
    statistics = dispatch.target_statistics(logits, target, mask, weights, options, lists)
    dtype = checks.result_dtype(logits) if dtype is None else dtype
    public = dict.fromkeys(fields)
    for name in columns:
        column = statistics[name]
        public[name] = column > 0 if name == "present" else column.to(dtype)
    return ClassStatistics(**public)


def _column_names(columns: Sequence[str]) -> tuple[str, ...]:
    fields = ClassStatistics._fields
    is_list = isinstance(columns, Iterable) and not isinstance(columns, str)
    names = tuple(columns) if is_list else ()
    if not is_list or any(name not in fields for name in names):
        raise ValueError(f"columns={columns!r}: expected a list of some of {', '.join(fields)}")
    return names


def _overlap_loss(
    logits: Tensor,
    target: Tensor,
    mask: Tensor | None,
    overlap: str,
    options: LossOptions,
    class_weights: Tensor | Sequence[float] | None,
) -> Tensor:
    """Any loss of the family; `overlap` is a name of `overlaps.OVERLAPS`."""
    objective = target_objective(overlap, options)
    class_weights = _class_weights("class_weights", class_weights, logits)
    return dispatch.target_loss(objective, logits, target, mask, None, class_weights)


def _class_weights(
    name: str, weights: Tensor | Sequence[float] | None, logits: Tensor
) -> Tensor | None:
    """As a tensor; a list goes to where the logits are."""
    checked = option_checks.class_weights(name, weights)
    if checked is None or isinstance(weights, Tensor):
        return checked
    return checked.to(logits.device, non_blocking=True)


@lists_options(LossOptions)
def jaccard_metric_loss(
    logits: Tensor,
    target: Tensor,
    mask: Tensor | None = None,
    *,
    variant: int = 1,
    class_weights: Tensor | Sequence[float] | None = None,
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
    return _overlap_loss(logits, target, mask, overlap, LossOptions(**options), class_weights)


@lists_options(LossOptions)
def soft_jaccard_loss(
    logits: Tensor,
    target: Tensor,
    mask: Tensor | None = None,
    *,
    norm: int = 1,
    class_weights: Tensor | Sequence[float] | None = None,
    **options,
) -> Tensor:
    """The soft Jaccard loss, eq. 2 (norm 1) or 3 (norm 2: squared L2).

    With norm 1 it is not minimal at x = y for soft targets (section 2.2).

    Args:
        logits, target, mask: as `jaccard_metric_loss`.
        norm: 1 or 2.
        class_weights: (C,), multiplies the losses per class.

    Returns, raises:
        as `jaccard_metric_loss`.
    """
    overlap = overlap_name("soft", "norm", norm)
    return _overlap_loss(logits, target, mask, overlap, LossOptions(**options), class_weights)


@lists_options(LossOptions, without=("alpha", "beta"))
def dice_semimetric_loss(
    logits: Tensor,
    target: Tensor,
    mask: Tensor | None = None,
    *,
    variant: int = 1,
    class_weights: Tensor | Sequence[float] | None = None,
    **options,
) -> Tensor:
    """`jaccard_metric_loss` with alpha = beta = 1/2: the Dice score in place of the Jaccard
    index; a semimetric (no triangle inequality).

    Args:
        logits, target, mask: as `jaccard_metric_loss`.
        variant: 1 or 2.
        class_weights: (C,), multiplies the losses per class.

    Returns, raises:
        as `jaccard_metric_loss`.
    """
    overlap = overlap_name("metric", "variant", variant)
    options = LossOptions(alpha=0.5, beta=0.5, **options)
    return _overlap_loss(logits, target, mask, overlap, options, class_weights)


@lists_options(LossOptions, without=("alpha", "beta"))
def soft_dice_loss(
    logits: Tensor,
    target: Tensor,
    mask: Tensor | None = None,
    *,
    norm: int = 1,
    class_weights: Tensor | Sequence[float] | None = None,
    **options,
) -> Tensor:
    """`soft_jaccard_loss` with alpha = beta = 1/2: 1 - 2 <x, y> / (||x|| + ||y||).

    Args:
        logits, target, mask: as `jaccard_metric_loss`.
        norm: 1 or 2.
        class_weights: (C,), multiplies the losses per class.

    Returns, raises:
        as `jaccard_metric_loss`.
    """
    overlap = overlap_name("soft", "norm", norm)
    options = LossOptions(alpha=0.5, beta=0.5, **options)
    return _overlap_loss(logits, target, mask, overlap, options, class_weights)


@lists_options(LossOptions)
def tversky_metric_loss(
    logits: Tensor,
    target: Tensor,
    mask: Tensor | None = None,
    *,
    alpha: float,
    beta: float,
    gamma: float = 1.0,
    variant: int = 1,
    class_weights: Tensor | Sequence[float] | None = None,
    **options,
) -> Tensor:
    """The general case, (1 - TP / (TP + alpha FP + beta FN))^gamma, with the counts of
    `jaccard_metric_loss`, which is alpha = beta = 1.

    Args:
        logits, target, mask: as `jaccard_metric_loss`.
        alpha, beta: weights of false positives and false negatives, >= 0.
        gamma: focal exponent, > 0.
        variant: 1 or 2.
        class_weights: (C,), multiplies the losses per class.

    Returns, raises:
        as `jaccard_metric_loss`.
    """
    overlap = overlap_name("metric", "variant", variant)
    options = LossOptions(alpha=alpha, beta=beta, gamma=gamma, **options)
    return _overlap_loss(logits, target, mask, overlap, options, class_weights)


@lists_options(LossOptions)
def jaccard_cross_entropy_loss(
    logits: Tensor,
    target: Tensor,
    mask: Tensor | None = None,
    *,
    ce_weight: float = 0.25,
    variant: int | None = None,
    norm: int | None = None,
    ce_class_weights: Tensor | Sequence[float] | None = None,
    class_weights: Tensor | Sequence[float] | None = None,
    **options,
) -> Tensor:
    """Cross-entropy and an overlap loss against the same target, lambda CE + (1 - lambda) JML
    (eq. 14), in one pass over the logits forward and one backward.

    Args:
        logits, target, mask: as `jaccard_metric_loss`.
        ce_weight: lambda, in [0, 1].
        variant: 1 (the default) or 2: the overlap loss is `jaccard_metric_loss` of this variant.
        norm: 1 or 2: it is `soft_jaccard_loss` of this norm instead.
        ce_class_weights: (C,), weights of the cross-entropy, which is PyTorch's mean over valid
            pixels: of labels it is divided by the sum of the weights of the labels, of
            probabilities by the number of pixels, and with activation "sigmoid", where it is the
            binary cross-entropy, by the number of elements.
        class_weights: (C,), multiplies the overlap losses per class.

    Returns:
        as `jaccard_metric_loss`; 0 where no pixel counts.

    Raises:
        as `jaccard_metric_loss`.
    """
    ce_weight = option_checks.share("ce_weight", ce_weight)
    options = LossOptions(**options)
    check_reduction_of_objective(options)
    objective = target_objective(overlap_of_objective(variant, norm), options, ce_weight)
    ce_class_weights = _class_weights("ce_class_weights", ce_class_weights, logits)
    class_weights = _class_weights("class_weights", class_weights, logits)
    return dispatch.target_loss(objective, logits, target, mask, ce_class_weights, class_weights)


@lists_options(DistillationOptions)
def jaccard_distillation_loss(
    student_logits: Tensor,
    labels: Tensor | None,
    teacher_logits: Tensor,
    mask: Tensor | None = None,
    *,
    variant: int | None = None,
    norm: int | None = None,
    ce_class_weights: Tensor | Sequence[float] | None = None,
    class_weights: Tensor | Sequence[float] | None = None,
    **options,
) -> Tensor:
    """Distillation, eq. 15 to 17: cross-entropy and an overlap loss, each against labels L and
    against a teacher T,

        lambda (mu CE(S, L) + (1 - mu) CE(S, T)) + (1 - lambda) (nu J(S, L) + (1 - nu) J(S, T)),

    from one read of student, teacher and labels; the teacher's softmax is never written.

    Args:
        student_logits: (N, C, *spatial), as the logits of `jaccard_metric_loss`.
        labels: integers (N, *spatial), or None: the teacher is the only target, as with
            mu = nu = 0. A pixel with ignore_index counts nowhere, in no term.
        teacher_logits: (N, C, *spatial), floating, whatever the student's dtype and strides;
            detached (backend="reference" would give them a gradient).
        mask: bool (N, *spatial), True where a pixel counts.
        variant, norm: which overlap loss, as `jaccard_cross_entropy_loss`.
        ce_class_weights: (C,), weights of the cross-entropy against labels, as
            `jaccard_cross_entropy_loss`. That against the teacher has none: with weights its
            minimum would not be at the teacher.
        class_weights: (C,), multiplies the overlap losses per class, in both terms.

    Returns:
        as `jaccard_metric_loss`; 0 where no pixel counts.

    Raises:
        as `jaccard_metric_loss`.
    """
    objective = distillation_objective(
        overlap_of_objective(variant, norm),
        DistillationOptions(**options),
        labels is not None,
    )
    ce_class_weights = _class_weights("ce_class_weights", ce_class_weights, student_logits)
    class_weights = _class_weights("class_weights", class_weights, student_logits)
    return dispatch.distillation_loss(
        objective, student_logits, labels, teacher_logits, mask, ce_class_weights, class_weights
    )


@lists_options(SoftmaxOptions, without=WITHOUT)
def lovasz_softmax_loss(
    logits: Tensor,
    target: Tensor,
    mask: Tensor | None = None,
    *,
    class_weights: Tensor | Sequence[float] | None = None,
    **options,
) -> Tensor:
    """The Lovász-Softmax loss (appendix A): the convex extension of the Jaccard loss of the
    mispredicted pixels of each class, and the mean over classes.

    The gradient is that of the extension; where errors are equal it is a sub-gradient, in which
    pixels that are equal have equal parts.

    Args:
        logits: (N, C, *spatial) with 0 to 3 spatial dimensions and two classes or more; float16,
            bfloat16, float32 or float64, any strides.
        target: integer labels (N, *spatial), or their one-hot encoding in integers. Soft labels are
            refused, since the extension is not defined for them: take `jaccard_metric_loss`.
        mask: bool (N, *spatial), True where a pixel counts.
        class_weights: (C,), multiplies the losses per class; the mean still divides by the number
            of the classes in it.

    Returns, raises:
        as `jaccard_metric_loss`.
    """
    weights = _class_weights("class_weights", class_weights, logits)
    return lovasz.softmax_loss(logits, target, mask, weights, SoftmaxOptions(**options))


@lists_options(HingeOptions, without=WITHOUT)
def lovasz_hinge_loss(
    logits: Tensor, target: Tensor, mask: Tensor | None = None, **options
) -> Tensor:
    """The binary Lovász hinge (Yu & Blaschko, 2018): the extension of the Jaccard loss of label 1
    at the errors max(1 - s z, 0), where s is 1 at pixels with label 1 and -1 at others.

    Args:
        logits: (N, 1, *spatial), whose sign predicts; dtypes and strides as `lovasz_softmax_loss`.
        target: integers 0 and 1, (N, *spatial) or (N, 1, *spatial).
        mask: bool (N, *spatial), True where a pixel counts.

    Returns, raises:
        as `jaccard_metric_loss`.
    """
    options = HingeOptions(activation="sigmoid", **options)
    return lovasz.hinge_loss(logits, target, mask, options)


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
        mode: "all", "present", "label", "prob" or "both"; a class without any pixel that counts is
            active in none.
        threshold: for the last three.
        mask: bool (N, *spatial), True where a pixel counts.

    Returns:
        bool, (C,).
    """
    option_checks.check_choice("mode", mode, checks.ACTIVE_CLASSES)
    threshold = option_checks.finite("threshold", threshold)
    options = TargetOptions(activation="none", backend="reference")
    mode = "counted" if mode == "all" else mode
    columns = ACTIVE_COLUMNS[mode] | column_bits("counted")
    lists = target_lists(options, columns, columns)
    statistics = dispatch.target_statistics(
        probabilities, target, mask, None, options, lists, checks.Names("probabilities")
    )
    active = formulas.active_from_extrema(statistics, mode, threshold)
    return (active & (statistics["counted"] > 0)).any(0)
