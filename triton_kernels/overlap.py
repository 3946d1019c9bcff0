"""The counts TP, FP and FN of an overlap, and their gradients: its matrix (jml_kernels/overlaps.py)
times the sums, and the transposed matrix back. A kernel is compiled for one matrix.

Sums are (columns, N, C). A block holds (BLOCK_N, BLOCK_C) numbers of a column: `offsets` says where
they lie in it, `inside` whether they are there.
"""

import triton
import triton.language as tl

from ..overlaps import ORDER_OF_SUMMATION
from .columns import N_SUMS

#: The rows of the matrix.
TP, FP, FN = (tl.constexpr(row) for row in range(3))
#: The order in which a count adds columns up.
ORDER = tl.constexpr(ORDER_OF_SUMMATION)


@triton.jit
def add_multiple(total, number, FACTOR: tl.constexpr):
    if FACTOR == 0:
        return total
    elif FACTOR == 1:
        return total + number
    else:
        return total + FACTOR * number


@triton.jit
def overlap_counts(sums, offsets, column_stride, inside, OVERLAP: tl.constexpr):
    """(TP, FP, FN) of a block: the matrix times the sums. XY and TP are added first: TP - XY is
    exactly 0 wherever p or y is hard, and stays so. A column that the overlap has no use for is
    not read."""
    tp = tl.zeros(inside.shape, tl.float64)
    fp = tl.zeros(inside.shape, tl.float64)
    fn = tl.zeros(inside.shape, tl.float64)
    for i in tl.static_range(N_SUMS):
        if OVERLAP[TP][ORDER[i]] != 0 or OVERLAP[FP][ORDER[i]] != 0 or OVERLAP[FN][ORDER[i]] != 0:
            pointers = sums + ORDER[i] * column_stride + offsets
            column = tl.load(pointers, mask=inside, other=0.0)
            tp = add_multiple(tp, column, OVERLAP[TP][ORDER[i]])
            fp = add_multiple(fp, column, OVERLAP[FP][ORDER[i]])
            fn = add_multiple(fn, column, OVERLAP[FN][ORDER[i]])
    return tp, fp, fn


@triton.jit
def store_gradient(
    grad_sums, offsets, column_stride, inside, grad_tp, grad_fp, grad_fn, OVERLAP: tl.constexpr
):
    """Writes the gradients of all sums of a block: the transposed matrix times the gradients of the
    counts."""
    for column in tl.static_range(N_SUMS):
        grad = tl.zeros_like(grad_tp)
        grad = add_multiple(grad, grad_tp, OVERLAP[TP][column])
        grad = add_multiple(grad, grad_fp, OVERLAP[FP][column])
        grad = add_multiple(grad, grad_fn, OVERLAP[FN][column])
        tl.store(grad_sums + column * column_stride + offsets, grad, mask=inside)
