"""The second kernel: adds the programs' partial sums up, in a fixed order, and writes every column
of the statistics, 0 where it is not requested: nothing else fills the outputs.

A program makes one column of one target, for one image and a block of classes; one more makes the
totals of the image.
"""

import triton
import triton.language as tl

from .columns import N_EXTREMA, N_SUMS, N_TOTALS
from .sums import PROPAGATE_NAN

#: In place of a slot, which is where a column lies in a row of partial sums: it is not there.
NO_SLOT = tl.constexpr(-1)
#: In place of a slot: the total is the number of valid pixels, times VALID_FACTOR.
SLOT_OF_VALID = tl.constexpr(-2)


@triton.jit
def add_parts(partials, parts, ROW: tl.constexpr, offsets, inside, BLOCK_R: tl.constexpr):
    """The sum over rows of partials: (classes,)."""
    total = tl.zeros([BLOCK_R, offsets.shape[0]], tl.float64)
    for start in range(0, parts, BLOCK_R):
        part = start + tl.arange(0, BLOCK_R)[:, None]
        pointers = partials + part.to(tl.int64) * ROW + offsets[None, :]
        total += tl.load(pointers, mask=(part < parts) & inside[None, :], other=0.0)
    return tl.sum(total, 0)


@triton.jit
def largest_part(partials, parts, ROW: tl.constexpr, offsets, inside, BLOCK_R: tl.constexpr):
    """The maximum over rows of partials: (classes,); NaN if one is."""
    largest = tl.zeros([BLOCK_R, offsets.shape[0]], tl.float64)
    for start in range(0, parts, BLOCK_R):
        part = start + tl.arange(0, BLOCK_R)[:, None]
        pointers = partials + part.to(tl.int64) * ROW + offsets[None, :]
        values = tl.load(pointers, mask=(part < parts) & inside[None, :], other=0.0)
        largest = tl.maximum(largest, values, propagate_nan=PROPAGATE_NAN)
    has_nan = tl.max((largest != largest).to(tl.int32), 0) > 0  # a reduction drops NaN
    return tl.where(has_nan, float("nan"), tl.max(largest, 0))


@triton.jit
def finish_column(
    partials,
    sums,
    extrema,
    target: tl.constexpr,
    column: tl.constexpr,
    image,
    images,
    parts,
    classes,
    inside,
    SLOT: tl.constexpr,
    SECOND_SLOT: tl.constexpr,
    CLASSES: tl.constexpr,
    ROW: tl.constexpr,
    BLOCK_R: tl.constexpr,
):
    if SLOT == NO_SLOT:
        value = tl.zeros(classes.shape, tl.float64)
    elif column < N_SUMS or SECOND_SLOT != NO_SLOT:
        value = add_parts(partials, parts, ROW, SLOT * CLASSES + classes, inside, BLOCK_R)
    else:
        value = largest_part(partials, parts, ROW, SLOT * CLASSES + classes, inside, BLOCK_R)
    if SECOND_SLOT != NO_SLOT:
        value += add_parts(partials, parts, ROW, SECOND_SLOT * CLASSES + classes, inside, BLOCK_R)
        if column >= N_SUMS:
            value = tl.where(value > 0, 1.0, value)
    if column < N_SUMS:
        out = sums + ((image + images * (target * N_SUMS + column)) * CLASSES)
    else:
        out = extrema + ((image + images * (target * N_EXTREMA + (column - N_SUMS))) * CLASSES)
    tl.store(out + classes, value, mask=inside)


@triton.jit
def finish_total(
    partials,
    out,
    parts,
    SLOT: tl.constexpr,
    VALID_SLOT: tl.constexpr,
    VALID_FACTOR: tl.constexpr,
    ROW: tl.constexpr,
    BLOCK_R: tl.constexpr,
):
    one = tl.arange(0, 1)
    if SLOT == NO_SLOT:
        value = tl.zeros([1], tl.float64)
    elif SLOT == SLOT_OF_VALID:
        value = add_parts(partials, parts, ROW, VALID_SLOT + one, one == 0, BLOCK_R) * VALID_FACTOR
    else:
        value = add_parts(partials, parts, ROW, SLOT + one, one == 0, BLOCK_R)
    tl.store(out + one, value)


@triton.jit
def finish_kernel(
    partials,
    sums,
    extrema,
    totals,
    images,
    parts,
    CLASSES: tl.constexpr,
    TARGETS: tl.constexpr,
    SLOTS: tl.constexpr,
    SECOND_SLOTS: tl.constexpr,
    TOTAL_SLOTS: tl.constexpr,
    VALID_FACTOR: tl.constexpr,
    FIRST_TOTAL: tl.constexpr,
    ROW: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_R: tl.constexpr,
):
    """Fills sums, extrema and totals.

    SLOTS: for each target, and each column of sums and extrema, its slot.
    SECOND_SLOTS: a column that has one is made of both slots: of a sum it is their sum, of an
        extremum whether that is above 0.
    TOTAL_SLOTS: the slots of totals, counted from FIRST_TOTAL. The last of them is `valid`.
    ROW: how many partial sums a program has made.
    BLOCK_R: how many rows of them are read at a time.
    """
    BLOCKS: tl.constexpr = (CLASSES + BLOCK_C - 1) // BLOCK_C
    COLUMNS: tl.constexpr = N_SUMS + N_EXTREMA
    JOBS: tl.constexpr = TARGETS * COLUMNS * BLOCKS + 1
    program = tl.program_id(0)
    image = (program // JOBS).to(tl.int64)
    job = program % JOBS
    partials += image * parts * ROW
    classes = job % BLOCKS * BLOCK_C + tl.arange(0, BLOCK_C)
    inside = classes < CLASSES
    for target in tl.static_range(TARGETS):
        for column in tl.static_range(COLUMNS):
            if job // BLOCKS == target * COLUMNS + column:
                finish_column(
                    partials, sums, extrema, target, column, image, images, parts, classes, inside,
                    SLOTS[target * COLUMNS + column], SECOND_SLOTS[target * COLUMNS + column],
                    CLASSES, ROW, BLOCK_R,
                )  # fmt: skip
    if job == JOBS - 1:
        for i in tl.static_range(TARGETS * N_TOTALS):
            finish_total(
                partials + FIRST_TOTAL, totals + i * images + image, parts, TOTAL_SLOTS[i],
                TOTAL_SLOTS[TARGETS * N_TOTALS - 1], VALID_FACTOR, ROW, BLOCK_R,
            )  # fmt: skip
