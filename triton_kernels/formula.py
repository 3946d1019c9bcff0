"""The formula: from statistics to the loss and its gradients by them, as `formulas.objective_loss`
has it. One program does it all on N x C float64 numbers, an image block at a time: where logits are
small, the many operators of PyTorch would take longer than the kernels.

    statistics -> (TP, FP, FN) of an overlap -> loss per class and its derivatives
               -> active classes             -> aggregations, and their gradients back
"""

import triton
import triton.language as tl

from ..statistics import COLUMNS, EXTREMA, TOTALS
from .columns import N_EXTREMA, N_SUMS, N_TOTALS

METRIC1, METRIC2, SOFT1, SOFT2 = (tl.constexpr(i) for i in range(4))
ALL, PRESENT, LABEL, PROB, BOTH = (tl.constexpr(i) for i in range(5))

TP = tl.constexpr(COLUMNS.index("true_positive"))
FP = tl.constexpr(COLUMNS.index("false_positive"))
FN = tl.constexpr(COLUMNS.index("false_negative"))
XY = tl.constexpr(COLUMNS.index("intersection"))
XX = tl.constexpr(COLUMNS.index("prediction_squared"))
YY = tl.constexpr(COLUMNS.index("target_squared"))
PREDICTION_MAX = tl.constexpr(EXTREMA.index("prediction_max"))
TARGET_MAX = tl.constexpr(EXTREMA.index("target_max"))
JOINT_MAX = tl.constexpr(EXTREMA.index("joint_max"))
IS_PRESENT = tl.constexpr(EXTREMA.index("present"))
CE = tl.constexpr(TOTALS.index("cross_entropy"))
CE_WEIGHT = tl.constexpr(TOTALS.index("cross_entropy_weight"))
ENTROPY = tl.constexpr(TOTALS.index("target_entropy"))


@triton.jit
def counts_of(sums, at, step, inside, OVERLAP: tl.constexpr):
    """(TP, FP, FN) of some images and classes; `step` lies between columns."""
    if OVERLAP == METRIC1:
        tp = tl.load(sums + TP * step + at, mask=inside, other=0.0)
    else:
        tp = tl.load(sums + XY * step + at, mask=inside, other=0.0)
    if OVERLAP == SOFT2:
        fp = tl.load(sums + XX * step + at, mask=inside, other=0.0) - tp
        fn = tl.load(sums + YY * step + at, mask=inside, other=0.0) - tp
    else:
        fp = tl.load(sums + FP * step + at, mask=inside, other=0.0)
        fn = tl.load(sums + FN * step + at, mask=inside, other=0.0)
        if OVERLAP == SOFT1:
            excess = tl.load(sums + TP * step + at, mask=inside, other=0.0) - tp
            fp += excess
            fn += excess
    return tp, fp, fn


@triton.jit
def store_gradient(grad_sums, at, step, inside, tp, fp, fn, OVERLAP: tl.constexpr):
    """Of every column, from that of the counts."""
    zero = tl.zeros_like(tp)
    if OVERLAP == METRIC1:
        columns = (tp, fp, fn, zero, zero, zero)
    elif OVERLAP == METRIC2:
        columns = (zero, fp, fn, tp, zero, zero)
    elif OVERLAP == SOFT1:
        columns = (fp + fn, fp, fn, tp - fp - fn, zero, zero)
    else:
        columns = (zero, zero, zero, tp - fp - fn, fp, fn)
    for i in tl.static_range(N_SUMS):
        tl.store(grad_sums + i * step + at, columns[i], mask=inside)


@triton.jit
def active(extrema, at, step, inside, threshold, ACTIVE: tl.constexpr):
    if ACTIVE == ALL:
        return inside
    elif ACTIVE == PRESENT:
        return inside & (tl.load(extrema + IS_PRESENT * step + at, mask=inside, other=0.0) > 0)
    else:
        if ACTIVE == LABEL:
            column: tl.constexpr = TARGET_MAX
        elif ACTIVE == PROB:
            column: tl.constexpr = PREDICTION_MAX
        else:
            column: tl.constexpr = JOINT_MAX
        most = tl.load(extrema + column * step + at, mask=inside, other=0.0)
        # Not `>`: a class whose maximum is NaN is active, so that the loss is NaN too.
        return inside & ~(most <= threshold)


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
    hits = tp + smooth
    denominator = hits + errors
    nothing = denominator == 0
    inverse = 1.0 / tl.where(nothing, 1.0, denominator)
    if LOG_LOSS:
        loss = -tl.log(tl.where(nothing, 1.0, hits * inverse))
        of_hits = inverse - 1.0 / tl.where(nothing, 1.0, hits)
        of_errors = inverse
    else:
        loss = errors * inverse
        of_hits = -errors * inverse * inverse
        of_errors = hits * inverse * inverse
    flat = nothing
    if CLAMPED:
        flat = flat | (loss < 0)
    if POWER:
        # The derivative of 0^gamma may be infinite: a perfect class gets 0 and gradient 0.
        flat = flat | (loss == 0)
        base = tl.where(flat, 1.0, loss)
        loss = tl.exp(gamma * tl.log(base))
        slope = gamma * loss / base
        of_hits *= slope
        of_errors *= slope
    loss = tl.where(flat, 0.0, loss)
    of_hits = tl.where(flat, 0.0, of_hits)
    of_errors = tl.where(flat, 0.0, of_errors)
    return loss, of_hits, alpha * of_errors, beta * of_errors


@triton.jit
def at_least_one(count):
    return tl.maximum(count, 1).to(tl.float64)


@triton.jit
def overlap_term(
    grad_sums,
    sums,
    extrema,
    class_weights,
    images,
    term_weight,
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
    ACTIVE: tl.constexpr,
    CLASSES: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    """The term's value for each class, (BLOCK_C,); writes its gradients."""
    classes = tl.arange(0, BLOCK_C)[None, :]
    step = images.to(tl.int64) * CLASSES
    factor = tl.full([1, BLOCK_C], 1.0, tl.float64) * term_weight
    if class_weights is not None:
        given = tl.load(class_weights + classes, mask=classes < CLASSES, other=0.0)
        factor *= given.to(tl.float64)

    # The batch: its counts, how many images have a class, how many images have any.
    tp = tl.zeros([1, BLOCK_C], tl.float64)
    fp = tl.zeros([1, BLOCK_C], tl.float64)
    fn = tl.zeros([1, BLOCK_C], tl.float64)
    images_of = tl.zeros([1, BLOCK_C], tl.int32)
    any_image = tl.sum(tl.zeros([1], tl.int32))
    for first in range(0, images, BLOCK_N):
        n = first + tl.arange(0, BLOCK_N)[:, None]
        inside = (n < images) & (classes < CLASSES)
        at = n.to(tl.int64) * CLASSES + classes
        counts = counts_of(sums, at, step, inside, OVERLAP)
        tp += tl.sum(counts[0], 0, keep_dims=True)
        fp += tl.sum(counts[1], 0, keep_dims=True)
        fn += tl.sum(counts[2], 0, keep_dims=True)
        counted = active(extrema, at, step, inside, threshold, ACTIVE).to(tl.int32)
        images_of += tl.sum(counted, 0, keep_dims=True)
        any_image += tl.sum((tl.sum(counted, 1) > 0).to(tl.int32))
    any_class = tl.sum(tl.sum((images_of > 0).to(tl.int32), 1))

    loss, of_tp, of_fp, of_fn = class_losses(
        tp, fp, fn, alpha, beta, gamma, smooth, LOG_LOSS, CLAMPED, POWER
    )
    share = dataset * factor / at_least_one(any_class)
    counted = (images_of > 0) & (share != 0)
    value = tl.where(counted, share * loss, 0.0)
    of_tp = tl.where(counted, share * of_tp, 0.0)
    of_fp = tl.where(counted, share * of_fp, 0.0)
    of_fn = tl.where(counted, share * of_fn, 0.0)

    for first in range(0, images, BLOCK_N):
        n = first + tl.arange(0, BLOCK_N)[:, None]
        inside = (n < images) & (classes < CLASSES)
        at = n.to(tl.int64) * CLASSES + classes
        zero = tl.zeros([BLOCK_N, BLOCK_C], tl.float64)
        grads = (of_tp + zero, of_fp + zero, of_fn + zero)
        if OF_IMAGES:
            counts = counts_of(sums, at, step, inside, OVERLAP)
            here = active(extrema, at, step, inside, threshold, ACTIVE)
            classes_of = tl.sum(here.to(tl.int32), 1, keep_dims=True)
            part = factor * (
                image / (at_least_one(classes_of) * at_least_one(any_image))
                + per_class / (at_least_one(images_of) * at_least_one(any_class))
            )
            found = class_losses(
                counts[0], counts[1], counts[2], alpha, beta, gamma, smooth, LOG_LOSS, CLAMPED,
                POWER,
            )  # fmt: skip
            value += tl.sum(tl.where(here, part * found[0], 0.0), 0, keep_dims=True)
            grads = (
                grads[0] + tl.where(here, part * found[1], 0.0),
                grads[1] + tl.where(here, part * found[2], 0.0),
                grads[2] + tl.where(here, part * found[3], 0.0),
            )
        store_gradient(grad_sums, at, step, inside, grads[0], grads[1], grads[2], OVERLAP)
    return tl.sum(value)


@triton.jit
def cross_entropy_term(
    grad_totals,
    totals,
    images,
    term_weight,
    HAS_CE: tl.constexpr,
    DIVERGENCE: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    """The term's value; writes its gradients."""
    entropy = tl.sum(tl.zeros([1], tl.float64))
    weight = tl.sum(tl.zeros([1], tl.float64))
    if HAS_CE:
        for first in range(0, images, BLOCK_N):
            n = first + tl.arange(0, BLOCK_N)
            terms = tl.load(totals + CE * images + n, mask=n < images, other=0.0)
            if DIVERGENCE:
                terms -= tl.load(totals + ENTROPY * images + n, mask=n < images, other=0.0)
            entropy += tl.sum(terms)
            weight += tl.sum(tl.load(totals + CE_WEIGHT * images + n, mask=n < images, other=0.0))
    slope = tl.where(weight == 0, 0.0, term_weight / tl.where(weight == 0, 1.0, weight))
    for first in range(0, images, BLOCK_N):
        n = first + tl.arange(0, BLOCK_N)
        zero = tl.zeros([BLOCK_N], tl.float64)
        for i in tl.static_range(N_TOTALS):
            grad = zero + slope if i == CE and HAS_CE else zero
            tl.store(grad_totals + i * images + n, grad, mask=n < images)
    return tl.where(weight == 0, 0.0, slope * entropy)


@triton.jit
def no_gradient(
    grad_sums, images, CLASSES: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_C: tl.constexpr
):
    classes = tl.arange(0, BLOCK_C)[None, :]
    zero = tl.zeros([BLOCK_N, BLOCK_C], tl.float64)
    for first in range(0, images, BLOCK_N):
        n = first + tl.arange(0, BLOCK_N)[:, None]
        at = n.to(tl.int64) * CLASSES + classes
        inside = (n < images) & (classes < CLASSES)
        step = images.to(tl.int64) * CLASSES
        store_gradient(grad_sums, at, step, inside, zero, zero, zero, METRIC1)


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
    threshold: tl.float64,
    label_ce: tl.float64,
    dense_ce: tl.float64,
    label_overlap: tl.float64,
    dense_overlap: tl.float64,
    OVERLAP: tl.constexpr,
    LOG_LOSS: tl.constexpr,
    CLAMPED: tl.constexpr,
    POWER: tl.constexpr,
    OF_IMAGES: tl.constexpr,
    HAS_LABELS: tl.constexpr,
    HAS_CE: tl.constexpr,
    HAS_OVERLAP: tl.constexpr,
    DIVERGENCE: tl.constexpr,
    ACTIVE: tl.constexpr,
    TARGETS: tl.constexpr,
    CLASSES: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    """One program. HAS_CE, HAS_OVERLAP, DIVERGENCE, ACTIVE: of each target."""
    step = images.to(tl.int64) * CLASSES
    total = tl.sum(tl.zeros([1], tl.float64))
    for t in tl.static_range(TARGETS):
        if HAS_LABELS and t == 0:
            ce_weight, overlap_weight = label_ce, label_overlap
        else:
            ce_weight, overlap_weight = dense_ce, dense_overlap
        total += cross_entropy_term(
            grad_totals + t * N_TOTALS * images, totals + t * N_TOTALS * images, images, ce_weight,
            HAS_CE[t], DIVERGENCE[t], BLOCK_N,
        )  # fmt: skip
        if HAS_OVERLAP[t]:
            total += overlap_term(
                grad_sums + t * N_SUMS * step, sums + t * N_SUMS * step,
                extrema + t * N_EXTREMA * step, class_weights, images, overlap_weight, alpha, beta,
                gamma, smooth, dataset, image, per_class, threshold, OVERLAP, LOG_LOSS, CLAMPED,
                POWER, OF_IMAGES, ACTIVE[t], CLASSES, BLOCK_N, BLOCK_C,
            )  # fmt: skip
        else:
            no_gradient(grad_sums + t * N_SUMS * step, images, CLASSES, BLOCK_N, BLOCK_C)
    tl.store(loss, total.to(loss.dtype.element_ty))
