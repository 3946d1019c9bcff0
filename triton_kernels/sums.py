"""The sums of a program: tiles of accumulators in registers, and its row of partial sums in memory.

An accumulator holds one number for every few pixels of a class, in the precision of the kernel.
After a few tiles its pixels are added up, and go on in float64 in the program's row of `partials`,
which no other program touches, in a fixed order.
"""

import triton
import triton.language as tl

PROPAGATE_NAN = tl.constexpr(tl.PropagateNan.ALL)


@triton.jit
def zeros(COUNT: tl.constexpr, C: tl.constexpr, P: tl.constexpr, DTYPE: tl.constexpr):
    """Empty accumulators: COUNT tiles of (C, P)."""
    tiles = ()
    for _ in tl.static_range(COUNT):
        tiles = tiles + (tl.zeros([C, P], DTYPE),)
    return tiles


@triton.jit
def fold(values, FOLD: tl.constexpr, ADJACENT: tl.constexpr):
    """(C, P) -> (C, P / FOLD): adds up pixels that one thread holds, without any other."""
    C: tl.constexpr = values.shape[0]
    P: tl.constexpr = values.shape[1]
    if FOLD == 1:
        return values
    elif ADJACENT:
        return tl.sum(tl.reshape(values, [C, P // FOLD, FOLD]), 2)
    else:
        return tl.sum(tl.reshape(values, [C, FOLD, P // FOLD]), 1)


@triton.jit
def add_folded(sums, terms, COUNT: tl.constexpr, FOLD: tl.constexpr, ADJACENT: tl.constexpr):
    added = ()
    for i in tl.static_range(COUNT):
        added = added + (sums[i] + fold(terms[i], FOLD, ADJACENT),)
    return added


@triton.jit
def add(sums, terms, COUNT: tl.constexpr):
    added = ()
    for i in tl.static_range(COUNT):
        added = added + (sums[i] + terms[i],)
    return added


@triton.jit
def raise_maxima(maxima, terms, COUNT: tl.constexpr):
    raised = ()
    for i in tl.static_range(COUNT):
        raised = raised + (tl.maximum(maxima[i], terms[i], propagate_nan=PROPAGATE_NAN),)
    return raised


@triton.jit
def flush(
    row,
    sums,
    maxima,
    chunk_index,
    is_first,
    CLASSES: tl.constexpr,
    BLOCK_C: tl.constexpr,
    SUMS: tl.constexpr,
    MAXIMA: tl.constexpr,
):
    """Adds a chunk's sums up over pixels, and to the row; raises the row's maxima. The first time
    nothing is in the row yet."""
    classes = chunk_index * BLOCK_C + tl.arange(0, BLOCK_C)
    inside = classes < CLASSES
    for i in tl.static_range(SUMS):
        pointers = row + i * CLASSES + classes
        before = tl.where(is_first, 0.0, tl.load(pointers, mask=inside, other=0.0))
        tl.store(pointers, before + tl.sum(sums[i], 1).to(tl.float64), mask=inside)
    for i in tl.static_range(MAXIMA):
        pointers = row + (SUMS + i) * CLASSES + classes
        before = tl.where(is_first, 0.0, tl.load(pointers, mask=inside, other=0.0))
        # A reduction drops NaN.
        has_nan = tl.max((maxima[i] != maxima[i]).to(tl.int32), 1) > 0
        largest = tl.where(has_nan, float("nan"), tl.max(maxima[i], 1)).to(tl.float64)
        raised = tl.maximum(before, largest, propagate_nan=PROPAGATE_NAN)
        tl.store(pointers, raised, mask=inside)


@triton.jit
def flush_totals(row, totals, is_first, COUNT: tl.constexpr):
    """Adds sums of one number for each pixel to the row, which begins at the first of them."""
    for i in tl.static_range(COUNT):
        before = tl.where(is_first, 0.0, tl.load(row + i))
        tl.store(row + i, before + tl.sum(tl.sum(totals[i], 1), 0).to(tl.float64))
