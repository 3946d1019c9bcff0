"""The formula: from statistics to the loss and its gradients by them, as `formulas.objective_loss`
has it. One program does it all on N x C float64 numbers, some images at a time: where logits are
small, the many operators of PyTorch would take longer than the kernels.

    statistics -> (TP, FP, FN) of an overlap -> loss per class and its derivatives
               -> active classes             -> aggregations, and their gradients back

Sums and extrema are (columns, N, C) for each target, totals (rows, N). A block holds (BLOCK_N,
BLOCK_C) numbers of a column: `offsets` says where they lie in it, `inside` whether they are there.
"""

import triton
import triton.language as tl

from ..statistics import EXTREMA, TOTALS
from .columns import N_EXTREMA, N_SUMS, N_TOTALS
from .overlap import overlap_counts, store_gradient

#: In place of the index of an extremum: all classes are active, and none has to be looked at.
ALL_ACTIVE = tl.constexpr(-1)
#: Which of the extrema says whether a class is present.
PRESENT_EXTREMUM = tl.constexpr(EXTREMA.index("present"))
#: The rows of the totals.
CE_ROW = tl.constexpr(TOTALS.index("cross_entropy"))
CE_WEIGHT_ROW = tl.constexpr(TOTALS.index("cross_entropy_weight"))
ENTROPY_ROW = tl.constexpr(TOTALS.index("target_entropy"))


@triton.jit
def class_losses(
    tp,
    fp,
    fn,
    alpha,
    beta,
    gamma,
    smooth,
    LOG_LOSS: tl.constexpr,
    CLAMPED: tl.constexpr,
    POWER: tl.constexpr,
):
    """(loss, its derivatives by TP, FP and FN); 0/0 counts as 0. See `formulas.class_losses`."""
    errors = alpha * fp + beta * fn
    numerator = tp + smooth
    denominator = numerator + errors
    is_empty = denominator == 0
    inverse = 1.0 / tl.where(is_empty, 1.0, denominator)
    if LOG_LOSS:
        loss = -tl.log(tl.where(is_empty, 1.0, numerator * inverse))
        by_numerator = inverse - 1.0 / tl.where(is_empty, 1.0, numerator)
        by_errors = inverse
    else:
        loss = errors * inverse
        by_numerator = -errors * inverse * inverse
        by_errors = numerator * inverse * inverse
    is_zero = is_empty
    if CLAMPED:
        is_zero = is_zero | (loss < 0)
    if POWER:
        # The derivative of 0^gamma may be infinite: a perfect class gets 0 and gradient 0.
        is_zero = is_zero | (loss == 0)
        base = tl.where(is_zero, 1.0, loss)
        loss = tl.exp(gamma * tl.log(base))
        slope = gamma * loss / base
        by_numerator *= slope
        by_errors *= slope
    loss = tl.where(is_zero, 0.0, loss)
    by_numerator = tl.where(is_zero, 0.0, by_numerator)
    by_errors = tl.where(is_zero, 0.0, by_errors)
    return loss, by_numerator, alpha * by_errors, beta * by_errors


# ---- aggregation ---------------------------------------------------------------------------------


@triton.jit
def active_classes(extrema, offsets, column_stride, inside, threshold, EXTREMUM: tl.constexpr):
    """Whether a class of an image counts, for a block."""
    if EXTREMUM == ALL_ACTIVE:
        return inside
    else:
        pointers = extrema + EXTREMUM * column_stride + offsets
        extremum = tl.load(pointers, mask=inside, other=0.0)
        if EXTREMUM == PRESENT_EXTREMUM:
            return inside & (extremum > 0)
        else:
            # Not `>`: a class whose maximum is NaN is active, so that the loss is NaN too.
            return inside & ~(extremum <= threshold)


@triton.jit
def at_least_one(count):
    """What to divide by: nothing is divided by 0 where none counts."""
    return tl.maximum(count, 1).to(tl.float64)


@triton.jit
def overlap_term(
    grad_sums,
    sums,
    extrema,
    class_weights,
    images,
    overlap_weight,
    alpha,
    beta,
    gamma,
    smooth,
    dataset,
    image,
    per_class,
    threshold,
    OVERLAP: tl.constexpr,
    LOG_LOSS: tl.constexpr,
    CLAMPED: tl.constexpr,
    POWER: tl.constexpr,
    OF_IMAGES: tl.constexpr,
    EXTREMUM: tl.constexpr,
    CLASSES: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    """The overlap loss of one target, as a term of the objective; writes the gradients of its sums.

    What belongs to a class is (1, BLOCK_C), to an image of the block (BLOCK_N, 1).
    """
    classes = tl.arange(0, BLOCK_C)[None, :]
    column_stride = images.to(tl.int64) * CLASSES
    weights = tl.full([1, BLOCK_C], 1.0, tl.float64) * overlap_weight
    if class_weights is not None:
        given = tl.load(class_weights + classes, mask=classes < CLASSES, other=0.0)
        weights *= given.to(tl.float64)

    # Of the batch: the counts, the number of images where a class is active, and the number of
    # images where any class is.
    tp = tl.zeros([1, BLOCK_C], tl.float64)
    fp = tl.zeros([1, BLOCK_C], tl.float64)
    fn = tl.zeros([1, BLOCK_C], tl.float64)
    images_of_class = tl.zeros([1, BLOCK_C], tl.int32)
    active_image_count = tl.sum(tl.zeros([1], tl.int32))
    for first in range(0, images, BLOCK_N):
        n = first + tl.arange(0, BLOCK_N)[:, None]
        inside = (n < images) & (classes < CLASSES)
        offsets = n.to(tl.int64) * CLASSES + classes
        counts = overlap_counts(sums, offsets, column_stride, inside, OVERLAP)
        tp += tl.sum(counts[0], 0, keep_dims=True)
        fp += tl.sum(counts[1], 0, keep_dims=True)
        fn += tl.sum(counts[2], 0, keep_dims=True)
        active = active_classes(extrema, offsets, column_stride, inside, threshold, EXTREMUM)
        active = active.to(tl.int32)
        images_of_class += tl.sum(active, 0, keep_dims=True)
        active_image_count += tl.sum((tl.sum(active, 1) > 0).to(tl.int32))
    active_class_count = tl.sum(tl.sum((images_of_class > 0).to(tl.int32), 1))

    loss, by_tp, by_fp, by_fn = class_losses(
        tp, fp, fn, alpha, beta, gamma, smooth, LOG_LOSS, CLAMPED, POWER
    )
    factor = dataset * weights / at_least_one(active_class_count)
    is_counted = (images_of_class > 0) & (factor != 0)
    value = tl.where(is_counted, factor * loss, 0.0)
    by_tp = tl.where(is_counted, factor * by_tp, 0.0)
    by_fp = tl.where(is_counted, factor * by_fp, 0.0)
    by_fn = tl.where(is_counted, factor * by_fn, 0.0)

    for first in range(0, images, BLOCK_N):
        n = first + tl.arange(0, BLOCK_N)[:, None]
        inside = (n < images) & (classes < CLASSES)
        offsets = n.to(tl.int64) * CLASSES + classes
        zero = tl.zeros([BLOCK_N, BLOCK_C], tl.float64)
        grads = (by_tp + zero, by_fp + zero, by_fn + zero)
        if OF_IMAGES:
            counts = overlap_counts(sums, offsets, column_stride, inside, OVERLAP)
            active = active_classes(extrema, offsets, column_stride, inside, threshold, EXTREMUM)
            classes_of_image = tl.sum(active.to(tl.int32), 1, keep_dims=True)
            factors = weights * (
                image / (at_least_one(classes_of_image) * at_least_one(active_image_count))
                + per_class / (at_least_one(images_of_class) * at_least_one(active_class_count))
            )
            losses = class_losses(
                counts[0], counts[1], counts[2], alpha, beta, gamma, smooth, LOG_LOSS, CLAMPED,
                POWER,
            )  # fmt: skip
            value += tl.sum(tl.where(active, factors * losses[0], 0.0), 0, keep_dims=True)
            grads = (
                grads[0] + tl.where(active, factors * losses[1], 0.0),
                grads[1] + tl.where(active, factors * losses[2], 0.0),
                grads[2] + tl.where(active, factors * losses[3], 0.0),
            )
        store_gradient(
            grad_sums, offsets, column_stride, inside, grads[0], grads[1], grads[2], OVERLAP
        )
    return tl.sum(value)


@triton.jit
def no_overlap_term(
    grad_sums, images, CLASSES: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_C: tl.constexpr
):
    """Writes the gradients of a target's sums where none has one: 0."""
    classes = tl.arange(0, BLOCK_C)[None, :]
    column_stride = images.to(tl.int64) * CLASSES
    zero = tl.zeros([BLOCK_N, BLOCK_C], tl.float64)
    for first in range(0, images, BLOCK_N):
        n = first + tl.arange(0, BLOCK_N)[:, None]
        inside = (n < images) & (classes < CLASSES)
        offsets = n.to(tl.int64) * CLASSES + classes
        for column in tl.static_range(N_SUMS):
            tl.store(grad_sums + column * column_stride + offsets, zero, mask=inside)


@triton.jit
def cross_entropy_term(
    grad_totals,
    totals,
    images,
    ce_weight,
    HAS_CE: tl.constexpr,
    IS_DIVERGENCE: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    """The cross-entropy of one target, as a term of the objective; writes the gradients of its
    totals."""
    ce_sum = tl.sum(tl.zeros([1], tl.float64))
    weight_sum = tl.sum(tl.zeros([1], tl.float64))
    if HAS_CE:
        for first in range(0, images, BLOCK_N):
            n = first + tl.arange(0, BLOCK_N)
            inside = n < images
            terms = tl.load(totals + CE_ROW * images + n, mask=inside, other=0.0)
            if IS_DIVERGENCE:
                terms -= tl.load(totals + ENTROPY_ROW * images + n, mask=inside, other=0.0)
            ce_sum += tl.sum(terms)
            weight_sum += tl.sum(
                tl.load(totals + CE_WEIGHT_ROW * images + n, mask=inside, other=0.0)
            )
    is_empty = weight_sum == 0
    factor = tl.where(is_empty, 0.0, ce_weight / tl.where(is_empty, 1.0, weight_sum))
    for first in range(0, images, BLOCK_N):
        n = first + tl.arange(0, BLOCK_N)
        zero = tl.zeros([BLOCK_N], tl.float64)
        for row in tl.static_range(N_TOTALS):
            grad = zero + factor if row == CE_ROW and HAS_CE else zero
            tl.store(grad_totals + row * images + n, grad, mask=n < images)
    return tl.where(is_empty, 0.0, factor * ce_sum)


# ---- the kernel ----------------------------------------------------------------------------------


@triton.jit(do_not_specialize=["images"])
def formula_kernel(
    loss,
    grad_sums,
    grad_totals,
    sums,
    extrema,
    totals,
    class_weights,
    images,
    alpha: tl.float64,
    beta: tl.float64,
    gamma: tl.float64,
    smooth: tl.float64,
    dataset: tl.float64,
    image: tl.float64,
    per_class: tl.float64,
    active_threshold: tl.float64,
    label_ce_weight: tl.float64,
    dense_ce_weight: tl.float64,
    label_overlap_weight: tl.float64,
    dense_overlap_weight: tl.float64,
    OVERLAP: tl.constexpr,
    LOG_LOSS: tl.constexpr,
    CLAMPED: tl.constexpr,
    POWER: tl.constexpr,
    OF_IMAGES: tl.constexpr,
    HAS_LABELS: tl.constexpr,
    HAS_CE: tl.constexpr,
    HAS_OVERLAP: tl.constexpr,
    IS_DIVERGENCE: tl.constexpr,
    EXTREMUM: tl.constexpr,
    TARGETS: tl.constexpr,
    CLASSES: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    """Writes the loss and its gradients by sums and totals, with one program. The numbers are those
    of `packing.FormulaFloats`.

    OVERLAP: the overlap's matrix, see `overlaps`.
    CLAMPED, POWER: whether a class's loss may be less than 0, and whether gamma is not 1.
    OF_IMAGES: whether any aggregation needs the losses of images.
    HAS_CE, HAS_OVERLAP, IS_DIVERGENCE: of each target, whether there is such a term, and whether
        its cross-entropy is a divergence.
    EXTREMUM: of each target, the index of the extremum that chooses active classes, or ALL_ACTIVE.
    """
    column_stride = images.to(tl.int64) * CLASSES
    total = tl.sum(tl.zeros([1], tl.float64))
    for t in tl.static_range(TARGETS):
        if HAS_LABELS and t == 0:
            ce_weight, overlap_weight = label_ce_weight, label_overlap_weight
        else:
            ce_weight, overlap_weight = dense_ce_weight, dense_overlap_weight
        total += cross_entropy_term(
            grad_totals + t * N_TOTALS * images, totals + t * N_TOTALS * images, images, ce_weight,
            HAS_CE[t], IS_DIVERGENCE[t], BLOCK_N,
        )  # fmt: skip
        if HAS_OVERLAP[t]:
            total += overlap_term(
                grad_sums + t * N_SUMS * column_stride, sums + t * N_SUMS * column_stride,
                extrema + t * N_EXTREMA * column_stride, class_weights, images, overlap_weight,
                alpha, beta, gamma, smooth, dataset, image, per_class, active_threshold, OVERLAP,
                LOG_LOSS, CLAMPED, POWER, OF_IMAGES, EXTREMUM[t], CLASSES, BLOCK_N, BLOCK_C,
            )  # fmt: skip
        else:
            no_overlap_term(
                grad_sums + t * N_SUMS * column_stride, images, CLASSES, BLOCK_N, BLOCK_C
            )
    tl.store(loss, total.to(loss.dtype.element_ty))
