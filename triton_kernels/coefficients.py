"""What the backward needs of each class, from the gradients of the statistics that it is given: the
coefficients of the gradient by a probability, and q w, the gradient by a cross-entropy's terms."""

from typing import NamedTuple

import triton
import triton.language as tl

from .columns import CROSS_ENTROPY, N_SUMS, N_TOTALS
from .pixel_math import GradientCoefficients


class ChunkCoefficients(NamedTuple):
    """What a chunk of classes needs of each: tiles of (classes, 1), empty where nobody asks."""

    labels: GradientCoefficients
    """of the overlap with the target of integers"""
    label_qw: tl.tensor
    """q w of the cross-entropy against these"""
    dense: GradientCoefficients
    """of the overlap with the dense target"""
    dense_qw: tl.tensor
    """q w of the cross-entropy against it, times what the student's logits are scaled with"""


@triton.jit
def sum_gradient(
    grad_sums,
    classes,
    column_stride,
    COLUMN: tl.constexpr,
    COLUMNS: tl.constexpr,
    CLASSES: tl.constexpr,
):
    """The gradient of one sum, for each class: float64 (classes, 1), 0 if it was not requested."""
    if COLUMNS & (1 << COLUMN):
        pointers = grad_sums + COLUMN * column_stride + classes
        return tl.load(pointers, mask=classes < CLASSES, other=0.0)
    else:
        return tl.zeros(classes.shape, tl.float64)


@triton.jit
def gradient_coefficients(
    grad_sums,
    factor,
    classes,
    column_stride,
    COLUMNS: tl.constexpr,
    CLASSES: tl.constexpr,
    DTYPE: tl.constexpr,
):
    """The coefficients of one target; all gradients are multiplied with `factor`."""
    of_sums = ()
    for column in tl.static_range(N_SUMS):
        of_sum = sum_gradient(grad_sums, classes, column_stride, column, COLUMNS, CLASSES)
        of_sums = of_sums + (of_sum,)
    tp, fp, fn, xy, xx, _ = of_sums  # the order of the columns
    return GradientCoefficients(
        (fp * (0.5 * factor)).to(DTYPE),
        ((tp - fn) * (0.5 * factor)).to(DTYPE),
        (factor * xy).to(DTYPE),
        (2.0 * factor * xx).to(DTYPE),
    )


@triton.jit
def chunk_coefficients(
    grad_sums,
    grad_totals,
    grad_loss,
    ce_class_weights,
    chunk_index,
    image,
    images,
    student_scale,
    INTEGERS: tl.constexpr,
    INTEGER_COLUMNS: tl.constexpr,
    DENSE_COLUMNS: tl.constexpr,
    CLASSES: tl.constexpr,
    BLOCK_C: tl.constexpr,
    DTYPE: tl.constexpr,
):
    """The coefficients of an image's chunk of classes.

    grad_sums, grad_totals: of all targets and images, see `ops`. grad_loss: one number that these
    are multiplied with, or None.
    """
    factor = tl.full([1, 1], 1.0, tl.float64)
    if grad_loss is not None:
        factor = tl.load(grad_loss).to(tl.float64) * factor
    classes = chunk_index * BLOCK_C + tl.arange(0, BLOCK_C)[:, None]
    column_stride = images.to(tl.int64) * CLASSES
    weights = tl.full(classes.shape, 1.0, tl.float64)
    if ce_class_weights is not None:
        weights = tl.load(ce_class_weights + classes, mask=classes < CLASSES, other=0.0)
        weights = weights.to(tl.float64)
    labels = ()
    label_qw = ()
    dense = ()
    dense_qw = ()
    sums = grad_sums + image * CLASSES
    totals = grad_totals + image
    if INTEGERS:
        labels = gradient_coefficients(
            sums, factor, classes, column_stride, INTEGER_COLUMNS, CLASSES, DTYPE
        )
        if CROSS_ENTROPY & INTEGER_COLUMNS:
            label_qw = (weights * factor * tl.load(totals)).to(DTYPE)
        # The weights are the first target's, and the dense one is the second.
        weights = tl.full(classes.shape, 1.0, tl.float64)
        sums += column_stride * N_SUMS
        totals += images * N_TOTALS
    if DENSE_COLUMNS:
        dense = gradient_coefficients(
            sums, factor, classes, column_stride, DENSE_COLUMNS, CLASSES, DTYPE
        )
        if CROSS_ENTROPY & DENSE_COLUMNS:
            dense_qw = (weights * factor * tl.load(totals) * student_scale).to(DTYPE)
    return ChunkCoefficients(labels, label_qw, dense, dense_qw)
