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
#: The extrema that are 0 or 1: whether a class is present, and whether any element of it counts.
PRESENT_EXTREMUM = tl.constexpr(EXTREMA.index("present"))
COUNTED_EXTREMUM = tl.constexpr(EXTREMA.index("counted"))
#: The rows of the totals.
CE_ROW = tl.constexpr(TOTALS.index("cross_entropy"))
CE_WEIGHT_ROW = tl.constexpr(TOTALS.index("cross_entropy_weight"))
ENTROPY_ROW = tl.constexpr(TOTALS.index("target_entropy"))
VALID_ROW = tl.constexpr(TOTALS.index("valid"))


@triton.jit
def class_losses(
    tp,
    fp,
    fn,
    alpha,
    beta,
    gamma,
    smooth_numerator,
    smooth_denominator,
    index_floor,
    LOG_LOSS: tl.constexpr,
    CLAMPED: tl.constexpr,
    POWER: tl.constexpr,
):
    """(loss, its derivatives by TP, FP and FN); 0/0 counts as 0. See `formulas.class_losses`."""
    errors = alpha * fp + beta * fn
    numerator = tp + smooth_numerator
    denominator = tp + errors + smooth_denominator
    is_empty = denominator == 0
    inverse = 1.0 / tl.where(is_empty, 1.0, denominator)
    if LOG_LOSS:
        index = tl.where(is_empty, 1.0, numerator * inverse)
        is_floored = index <= index_floor
        loss = -tl.log(tl.where(is_floored, index_floor, index))
        is_flat = is_empty | is_floored
        by_numerator = tl.where(is_flat, 0.0, inverse - 1.0 / tl.where(is_flat, 1.0, numerator))
        by_errors = tl.where(is_flat, 0.0, inverse)
    else:
        beyond = errors + (smooth_denominator - smooth_numerator)
        loss = beyond * inverse
        by_numerator = -beyond * inverse * inverse
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
        if EXTREMUM == PRESENT_EXTREMUM or EXTREMUM == COUNTED_EXTREMUM:  # noqa: PLR1714, SIM109
            return inside & (extremum > 0)
        else:
            # Not `>`: a class whose maximum is NaN is active, so that the loss is NaN too.
            return inside & ~(extremum <= threshold)


@triton.jit
def valid_pixels(totals, n, images):
    """How many pixels count in each image of a block; NaN where one holds a wrong value."""
    return tl.load(totals + VALID_ROW * images + n, mask=n < images, other=0.0)


@triton.jit
def poison(totals, n, images):
    """NaN for the images of a block that hold a wrong value, else 0: added to a loss it makes that
    NaN, whichever terms and classes there are."""
    return 0.0 * valid_pixels(totals, n, images)


@triton.jit
def active_of_images(
    extrema, totals, class_mask, n, classes, images, threshold, EXTREMUM: tl.constexpr,
    CLASSES: tl.constexpr,
):  # fmt: skip
    """Whether each class is active in each image of a block, and whether it may be at all."""
    column_stride = images.to(tl.int64) * CLASSES
    inside = (n < images) & (classes < CLASSES)
    allowed = inside
    if class_mask is not None:
        allowed = inside & (tl.load(class_mask + classes, mask=classes < CLASSES, other=0) != 0)
    offsets = n.to(tl.int64) * CLASSES + classes
    active = active_classes(extrema, offsets, column_stride, allowed, threshold, EXTREMUM)
    # An image without a pixel that counts has no active class.
    return active & (valid_pixels(totals, n, images) != 0), allowed


@triton.jit
def ratio(total, divisor):
    """0 where nothing is counted."""
    return tl.where(divisor == 0, 0.0, total / tl.where(divisor == 0, 1.0, divisor))


@triton.jit
def divisor_of_classes(entering, weights, WEIGHTED_MEAN: tl.constexpr, SUM: tl.constexpr):
    """What the sum over classes, along the last dimension, is divided by; 0 where none enters."""
    count = tl.sum(entering.to(tl.float64), 1, keep_dims=True)
    if SUM:
        return (count > 0).to(tl.float64)
    elif WEIGHTED_MEAN:
        return tl.sum(tl.where(entering, weights, 0.0), 1, keep_dims=True)
    else:
        return count


@triton.jit
def overlap_term(
    loss_of_images,
    grad_sums,
    sums,
    extrema,
    totals,
    class_weights,
    class_mask,
    images,
    overlap_weight,
    alpha,
    beta,
    gamma,
    smooth_numerator,
    smooth_denominator,
    index_floor,
    inactive_loss,
    dataset,
    image,
    per_class,
    threshold,
    OVERLAP: tl.constexpr,
    LOG_LOSS: tl.constexpr,
    CLAMPED: tl.constexpr,
    POWER: tl.constexpr,
    OF_IMAGES: tl.constexpr,
    HAS_INACTIVE_LOSS: tl.constexpr,
    WEIGHTED_MEAN: tl.constexpr,
    SUM: tl.constexpr,
    LOSS_OF_IMAGES: tl.constexpr,
    EXTREMUM: tl.constexpr,
    CLASSES: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    """The overlap loss of one target, as a term of the objective; writes the gradients of its sums.
    With LOSS_OF_IMAGES each image's goes to loss_of_images, (N,), and 0 is returned.

    What belongs to a class is (1, BLOCK_C), to an image of the block (BLOCK_N, 1). A class enters a
    mean where it is active, or, with HAS_INACTIVE_LOSS, wherever it may be.
    """
    classes = tl.arange(0, BLOCK_C)[None, :]
    column_stride = images.to(tl.int64) * CLASSES
    weights = tl.full([1, BLOCK_C], 1.0, tl.float64)
    if class_weights is not None:
        given = tl.load(class_weights + classes, mask=classes < CLASSES, other=0.0)
        weights *= given.to(tl.float64)

    # Of the batch: the counts, the number of images where a class is active and where it enters,
    # and the number of images where any class enters.
    tp = tl.zeros([1, BLOCK_C], tl.float64)
    fp = tl.zeros([1, BLOCK_C], tl.float64)
    fn = tl.zeros([1, BLOCK_C], tl.float64)
    active_count = tl.zeros([1, BLOCK_C], tl.int32)
    images_of_class = tl.zeros([1, BLOCK_C], tl.int32)
    image_count = tl.sum(tl.zeros([1], tl.int32))
    for first in range(0, images, BLOCK_N):
        n = first + tl.arange(0, BLOCK_N)[:, None]
        inside = (n < images) & (classes < CLASSES)
        offsets = n.to(tl.int64) * CLASSES + classes
        counts = overlap_counts(sums, offsets, column_stride, inside, OVERLAP)
        tp += tl.sum(counts[0], 0, keep_dims=True)
        fp += tl.sum(counts[1], 0, keep_dims=True)
        fn += tl.sum(counts[2], 0, keep_dims=True)
        active, allowed = active_of_images(
            extrema, totals, class_mask, n, classes, images, threshold, EXTREMUM, CLASSES
        )
        active_count += tl.sum(active.to(tl.int32), 0, keep_dims=True)
        entering = (allowed if HAS_INACTIVE_LOSS else active).to(tl.int32)
        images_of_class += tl.sum(entering, 0, keep_dims=True)
        image_count += tl.sum((tl.sum(entering, 1) > 0).to(tl.int32))
    divisor = divisor_of_classes(images_of_class > 0, weights, WEIGHTED_MEAN, SUM)

    losses = class_losses(
        tp, fp, fn, alpha, beta, gamma, smooth_numerator, smooth_denominator, index_floor, LOG_LOSS,
        CLAMPED, POWER,
    )  # fmt: skip
    factor = ratio(dataset * (weights * overlap_weight), divisor)
    is_active = (active_count > 0) & (factor != 0)
    value = tl.where(is_active, factor * losses[0], 0.0)
    if HAS_INACTIVE_LOSS:
        is_inactive = (active_count == 0) & (images_of_class > 0)
        value += tl.where(is_inactive, factor * inactive_loss, 0.0)
    by_tp = tl.where(is_active, factor * losses[1], 0.0)
    by_fp = tl.where(is_active, factor * losses[2], 0.0)
    by_fn = tl.where(is_active, factor * losses[3], 0.0)

    for first in range(0, images, BLOCK_N):
        n = first + tl.arange(0, BLOCK_N)[:, None]
        inside = (n < images) & (classes < CLASSES)
        offsets = n.to(tl.int64) * CLASSES + classes
        zero = tl.zeros([BLOCK_N, BLOCK_C], tl.float64)
        grads = (by_tp + zero, by_fp + zero, by_fn + zero)
        if OF_IMAGES:
            counts = overlap_counts(sums, offsets, column_stride, inside, OVERLAP)
            active, allowed = active_of_images(
                extrema, totals, class_mask, n, classes, images, threshold, EXTREMUM, CLASSES
            )
            entering = allowed if HAS_INACTIVE_LOSS else active
            of_image = divisor_of_classes(entering, weights, WEIGHTED_MEAN, SUM)
            if not LOSS_OF_IMAGES:
                of_image *= image_count.to(tl.float64)
            factors = (weights * overlap_weight) * (
                ratio(image, of_image) + ratio(per_class, images_of_class.to(tl.float64) * divisor)
            )
            image_losses = class_losses(
                counts[0], counts[1], counts[2], alpha, beta, gamma, smooth_numerator,
                smooth_denominator, index_floor, LOG_LOSS, CLAMPED, POWER,
            )  # fmt: skip
            terms = tl.where(active, factors * image_losses[0], 0.0)
            if HAS_INACTIVE_LOSS:
                terms += tl.where(entering & (active == 0), factors * inactive_loss, 0.0)
            if LOSS_OF_IMAGES:
                tl.store(loss_of_images + n, tl.sum(terms, 1, keep_dims=True), mask=n < images)
            else:
                value += tl.sum(terms, 0, keep_dims=True)
            grads = (
                grads[0] + tl.where(active, factors * image_losses[1], 0.0),
                grads[1] + tl.where(active, factors * image_losses[2], 0.0),
                grads[2] + tl.where(active, factors * image_losses[3], 0.0),
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
def cross_entropies(totals, n, images, IS_DIVERGENCE: tl.constexpr):
    """(cross-entropy, what it is divided by) of each image of a block."""
    inside = n < images
    terms = tl.load(totals + CE_ROW * images + n, mask=inside, other=0.0)
    if IS_DIVERGENCE:
        terms -= tl.load(totals + ENTROPY_ROW * images + n, mask=inside, other=0.0)
    return terms, tl.load(totals + CE_WEIGHT_ROW * images + n, mask=inside, other=0.0)


@triton.jit
def cross_entropy_term(
    loss_of_images,
    grad_totals,
    totals,
    images,
    ce_weight,
    HAS_CE: tl.constexpr,
    IS_DIVERGENCE: tl.constexpr,
    LOSS_OF_IMAGES: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    """The cross-entropy of one target, as a term of the objective; writes the gradients of its
    totals. With LOSS_OF_IMAGES each image's goes to loss_of_images, (N,), and 0 is returned.
    An image's is NaN where it holds a wrong value, see `poison`."""
    ce_sum = tl.sum(tl.zeros([1], tl.float64))
    weight_sum = tl.sum(tl.zeros([1], tl.float64))
    if HAS_CE:
        for first in range(0, images, BLOCK_N):
            n = first + tl.arange(0, BLOCK_N)
            terms, weights = cross_entropies(totals, n, images, IS_DIVERGENCE)
            ce_sum += tl.sum(terms)
            weight_sum += tl.sum(weights)
    factor = ratio(ce_weight, weight_sum)
    for first in range(0, images, BLOCK_N):
        n = first + tl.arange(0, BLOCK_N)
        zero = tl.zeros([BLOCK_N], tl.float64)
        factors = zero + factor
        if LOSS_OF_IMAGES:
            value = poison(totals, n, images)
            if HAS_CE:
                terms, weights = cross_entropies(totals, n, images, IS_DIVERGENCE)
                factors = ratio(ce_weight + zero, weights)
                value += tl.where(weights == 0, 0.0, factors * terms)
            tl.store(loss_of_images + n, value, mask=n < images)
        for row in tl.static_range(N_TOTALS):
            grad = factors if row == CE_ROW and HAS_CE else zero
            tl.store(grad_totals + row * images + n, grad, mask=n < images)
    if LOSS_OF_IMAGES:
        ce_sum *= 0
    return tl.where(weight_sum == 0, 0.0, factor * ce_sum)


@triton.jit
def poison_of_batch(totals, images, BLOCK_N: tl.constexpr):
    """The sum of `poison` over images."""
    total = tl.sum(tl.zeros([1], tl.float64))
    for first in range(0, images, BLOCK_N):
        total += tl.sum(poison(totals, first + tl.arange(0, BLOCK_N), images))
    return total


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
    class_mask,
    images,
    alpha: tl.float64,
    beta: tl.float64,
    gamma: tl.float64,
    smooth_numerator: tl.float64,
    smooth_denominator: tl.float64,
    index_floor: tl.float64,
    inactive_loss: tl.float64,
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
    HAS_INACTIVE_LOSS: tl.constexpr,
    WEIGHTED_MEAN: tl.constexpr,
    SUM: tl.constexpr,
    LOSS_OF_IMAGES: tl.constexpr,
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
    HAS_INACTIVE_LOSS: whether classes that are not active count, with inactive_loss.
    WEIGHTED_MEAN, SUM: how classes are reduced.
    LOSS_OF_IMAGES: whether every image has a loss. `loss` is then (2 T, N) float64, for each of T
        targets a row of cross-entropies and a row of overlap losses.
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
            loss + 2 * t * images, grad_totals + t * N_TOTALS * images,
            totals + t * N_TOTALS * images, images, ce_weight, HAS_CE[t], IS_DIVERGENCE[t],
            LOSS_OF_IMAGES, BLOCK_N,
        )  # fmt: skip
        if HAS_OVERLAP[t]:
            total += overlap_term(
                loss + (2 * t + 1) * images, grad_sums + t * N_SUMS * column_stride,
                sums + t * N_SUMS * column_stride, extrema + t * N_EXTREMA * column_stride,
                totals + t * N_TOTALS * images, class_weights, class_mask, images, overlap_weight,
                alpha, beta, gamma, smooth_numerator, smooth_denominator, index_floor,
                inactive_loss, dataset, image, per_class, active_threshold, OVERLAP, LOG_LOSS,
                CLAMPED, POWER, OF_IMAGES, HAS_INACTIVE_LOSS, WEIGHTED_MEAN, SUM, LOSS_OF_IMAGES,
                EXTREMUM[t], CLASSES, BLOCK_N, BLOCK_C,
            )  # fmt: skip
        else:
            no_overlap_term(
                grad_sums + t * N_SUMS * column_stride, images, CLASSES, BLOCK_N, BLOCK_C
            )
    if not LOSS_OF_IMAGES:
        total += poison_of_batch(totals, images, BLOCK_N)  # all targets have the same pixels
        tl.store(loss, total.to(loss.dtype.element_ty))
