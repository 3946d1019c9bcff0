"""The forward kernel: statistics of tiles, as partial sums of a program.

A program walks over tiles of one image and keeps its sums to itself (sums.py); finish.py adds the
programs up.

    tile of logits -> state of each pixel (softmax) -> p, y -> terms -> sums in registers
                                                              -> row of partial sums

With more classes than one tile holds (CHUNKS > 1) the classes of a group of pixels are read twice:
first for the softmax's state, then for the terms. What was read first is in cache still: it is
BLOCK_P pixels of all classes, 64 bytes of each.

Bytes from memory: the logits once, the integers once, a dense target once, a mask once.
"""

import triton
import triton.language as tl

from .chunk import read_chunk, source_of
from .columns import CROSS_ENTROPY, CROSS_ENTROPY_WEIGHT, PRESENT, TARGET_ENTROPY
from .cross_entropy import cross_entropy_terms
from .labels import BITS, LABELS
from .pixel_math import (
    NONE,
    SIGMOID,
    SOFTMAX,
    hard_terms,
    label_target,
    maxima_terms,
    overlap_terms,
    probabilities,
)
from .pixel_state import merge_pixel_states, pixel_state, poisoned
from .sums import PROPAGATE_NAN, add, add_folded, flush, flush_totals, raise_maxima, zeros
from .tile_io import locate, view_of


@triton.jit
def pixel_counts(chunk, COUNTING: tl.constexpr):
    """(1 where a pixel counts, how many elements of the chunk do): tiles of (1, pixels), 0 where
    none counts, and NaN where what counts has a wrong value."""
    if COUNTING:
        elements = tl.sum(chunk.counts, 0, keep_dims=True)
        return tl.where(elements > 0, 1.0, elements), elements
    else:
        return chunk.counts, chunk.counts


@triton.jit
def chunk_terms(
    chunk,
    state,
    labels,
    ce_class_weights,
    counted_before,
    student_scale,
    CLASSES: tl.constexpr,
    ACTIVATION: tl.constexpr,
    INDEPENDENT: tl.constexpr,
    INTEGERS: tl.constexpr,
    INTEGER_COLUMNS: tl.constexpr,
    DENSE_COLUMNS: tl.constexpr,
    IGNORES: tl.constexpr,
    COUNTING: tl.constexpr,
    HARD: tl.constexpr,
    FIRST_LABEL: tl.constexpr,
    TEACHER: tl.constexpr,
    TEMPERED: tl.constexpr,
    ARGMAX: tl.constexpr,
):
    """What a chunk adds to the statistics: (terms of sums, of maxima, of totals, counted).

    counted_before, counted: (1, pixels), 1 for the pixels that earlier chunks have counted, and
    those and this one; NaN where one has a wrong value.
    """
    classes, inside, z, is_label, valid, _, dense = chunk
    p, p_not = probabilities(z, state.softmax, ACTIVATION)
    p = tl.where(valid, p, 0.0)
    sums = ()
    maxima = ()
    totals = ()
    weights = None
    if ce_class_weights is not None:
        weights = tl.load(ce_class_weights + classes, mask=classes < CLASSES, other=0.0).to(z.dtype)
    counted, valid_elements = pixel_counts(chunk, COUNTING)
    valid_pixels = tl.maximum(counted - counted_before, 0.0, propagate_nan=PROPAGATE_NAN)
    if INTEGERS:
        label, _, _, label_deficit, target_elsewhere = labels
        y, gap = label_target(
            is_label, p, p_not, label_deficit, tl.where(valid & inside, target_elsewhere, 0.0)
        )
        if HARD:
            sums = hard_terms(p, p_not, is_label, INTEGER_COLUMNS)
        else:
            sums = overlap_terms(p, y, gap, INTEGER_COLUMNS)
        if INDEPENDENT:
            present = valid & (y > 0.5)
        elif ARGMAX and INTEGERS == BITS:
            present = valid & (classes == state.largest_target[1])
        elif INTEGERS == LABELS:
            # Smoothing by 1 makes all classes equal, and the first one the argmax.
            is_largest = (1.0 - label_deficit > target_elsewhere) & (label >= 0)
            present = valid & (classes == tl.where(is_largest, label - FIRST_LABEL, 0))
        else:
            present = is_label
        maxima = maxima_terms(p, y, present, valid, INTEGER_COLUMNS)
        if CROSS_ENTROPY & INTEGER_COLUMNS:
            terms = cross_entropy_terms(z, y, state.softmax, 1.0, ACTIVATION, INDEPENDENT, False)
            if weights is not None:
                terms *= weights
            terms = tl.where(valid & inside, terms, 0.0)
            totals = totals + (tl.sum(terms, 0, keep_dims=True),)
        if CROSS_ENTROPY_WEIGHT & INTEGER_COLUMNS:
            if INTEGERS == BITS and INDEPENDENT:
                totals = totals + (valid_elements,)
            elif INTEGERS == LABELS and weights is not None and not INDEPENDENT:
                label_weight = tl.load(ce_class_weights + label, mask=label >= 0, other=0.0)
                totals = totals + (valid_pixels * label_weight.to(z.dtype),)
    if DENSE_COLUMNS:
        y = dense
        if TEACHER:
            y = probabilities(dense, state.teacher_softmax, ACTIVATION)[0]
        y = tl.where(valid, y, 0.0)
        sums = sums + overlap_terms(p, y, y - p, DENSE_COLUMNS)
        if ARGMAX:
            present = valid & (classes == state.largest_target[1])
        else:
            present = valid & (y > 0.5)
        maxima = maxima + maxima_terms(p, y, present, valid, DENSE_COLUMNS)
        if CROSS_ENTROPY & DENSE_COLUMNS:
            terms = cross_entropy_terms(
                z, y, state.softmax, student_scale, ACTIVATION, INDEPENDENT, TEMPERED
            )
            if weights is not None and not INTEGERS:
                terms *= weights
            terms = tl.where(valid & inside, terms, 0.0)
            totals = totals + (tl.sum(terms, 0, keep_dims=True),)
        if CROSS_ENTROPY_WEIGHT & DENSE_COLUMNS and IGNORES and INDEPENDENT:
            totals = totals + (valid_elements,)
        if TEACHER and TARGET_ENTROPY & DENSE_COLUMNS:
            terms = cross_entropy_terms(
                dense, y, state.teacher_softmax, 1.0, ACTIVATION, INDEPENDENT, False
            )
            terms = tl.where(valid & inside, terms, 0.0)
            totals = totals + (tl.sum(terms, 0, keep_dims=True),)
    counted = tl.maximum(counted_before, counted, propagate_nan=PROPAGATE_NAN)
    return sums, maxima, totals + (valid_pixels,), counted


@triton.jit
def add_tile(
    source,
    sums,
    maxima,
    totals,
    row,
    is_first,
    ce_class_weights,
    student_scale,
    CLASSES: tl.constexpr,
    ACTIVATION: tl.constexpr,
    INTEGERS: tl.constexpr,
    INTEGER_COLUMNS: tl.constexpr,
    DENSE_COLUMNS: tl.constexpr,
    IGNORES: tl.constexpr,
    HARD: tl.constexpr,
    TEACHER: tl.constexpr,
    TEMPERED: tl.constexpr,
    SUMS: tl.constexpr,
    MAXIMA: tl.constexpr,
    TOTALS: tl.constexpr,
    DTYPE: tl.constexpr,
    BLOCK_C: tl.constexpr,
    CHUNKS: tl.constexpr,
    BLOCK_P: tl.constexpr,
    FOLD: tl.constexpr,
    ADJACENT: tl.constexpr,
):
    """(sums, maxima, totals) with those of some pixels, all classes of these. With more than one
    chunk sums and maxima go on in the program's row at once, see `sums.flush`."""
    INDEPENDENT: tl.constexpr = ACTIVATION == SIGMOID or (ACTIVATION == NONE and CLASSES == 1)
    # One class that is not a softmax has two labels, and y is the chance of label 1.
    FIRST_LABEL: tl.constexpr = 1 if CLASSES == 1 and ACTIVATION != SOFTMAX else 0
    TILED_COLUMNS: tl.constexpr = INTEGER_COLUMNS if INTEGERS == BITS else DENSE_COLUMNS
    ARGMAX: tl.constexpr = (PRESENT & TILED_COLUMNS) != 0 and not INDEPENDENT
    LOGARITHM: tl.constexpr = (CROSS_ENTROPY & (INTEGER_COLUMNS | DENSE_COLUMNS)) != 0
    ENTROPY: tl.constexpr = (TARGET_ENTROPY & DENSE_COLUMNS) != 0
    # Whether a pixel counts, and whether it has a wrong value, is said by its elements.
    CHECKED: tl.constexpr = ACTIVATION == NONE or (DENSE_COLUMNS != 0 and not TEACHER)
    COUNTING: tl.constexpr = CHECKED or IGNORES or INTEGERS == BITS
    chunk = read_chunk(
        source, 0, ACTIVATION, INTEGERS, DENSE_COLUMNS, IGNORES, CHECKED, FIRST_LABEL,
        TEACHER, CLASSES, BLOCK_C, DTYPE,
    )  # fmt: skip
    state = pixel_state(
        chunk, student_scale, ACTIVATION, INTEGERS, TEACHER, LOGARITHM, ENTROPY, TEMPERED,
        ARGMAX,
    )  # fmt: skip
    for chunk_index in range(1, CHUNKS):
        other_chunk = read_chunk(
            source, chunk_index, ACTIVATION, INTEGERS, DENSE_COLUMNS, IGNORES, CHECKED,
            FIRST_LABEL, TEACHER, CLASSES, BLOCK_C, DTYPE,
        )  # fmt: skip
        other_state = pixel_state(
            other_chunk, student_scale, ACTIVATION, INTEGERS, TEACHER, LOGARITHM, ENTROPY,
            TEMPERED, ARGMAX,
        )  # fmt: skip
        state = merge_pixel_states(
            state, other_state, student_scale, ACTIVATION, TEACHER, TEMPERED, ARGMAX
        )
    state = poisoned(state, source.labels.poison, ACTIVATION, INTEGERS)

    counted = tl.zeros([1, BLOCK_P], DTYPE)
    for chunk_index in range(CHUNKS):
        if CHUNKS > 1:
            current = read_chunk(
                source, chunk_index, ACTIVATION, INTEGERS, DENSE_COLUMNS, IGNORES, CHECKED,
                FIRST_LABEL, TEACHER, CLASSES, BLOCK_C, DTYPE,
            )  # fmt: skip
        else:
            current = chunk
        sum_terms, maximum_terms, total_terms, counted = chunk_terms(
            current, state, source.labels, ce_class_weights, counted, student_scale,
            CLASSES, ACTIVATION, INDEPENDENT, INTEGERS, INTEGER_COLUMNS, DENSE_COLUMNS, IGNORES,
            COUNTING, HARD, FIRST_LABEL, TEACHER, TEMPERED, ARGMAX,
        )  # fmt: skip
        sums = add_folded(sums, sum_terms, SUMS, FOLD, ADJACENT)
        maxima = raise_maxima(maxima, maximum_terms, MAXIMA)
        totals = add(totals, total_terms, TOTALS)
        if CHUNKS > 1:
            flush(row, sums, maxima, chunk_index, is_first, CLASSES, BLOCK_C, SUMS, MAXIMA)
            sums = zeros(SUMS, BLOCK_C, BLOCK_P // FOLD, DTYPE)
            maxima = zeros(MAXIMA, BLOCK_C, BLOCK_P, DTYPE)
    return sums, maxima, totals


@triton.jit
def forward_kernel(
    partials,
    logits,
    logits_strides,
    logits_axes,
    integers,
    integers_strides,
    dense,
    dense_strides,
    dense_axes,
    mask,
    mask_strides,
    ce_class_weights,
    depth,
    height,
    width,
    parts,
    group,
    ignore_index,
    label_deficit: tl.float64,
    target_elsewhere: tl.float64,
    teacher_scale: tl.float64,
    student_scale: tl.float64,
    CLASSES: tl.constexpr,
    ACTIVATION: tl.constexpr,
    INTEGERS: tl.constexpr,
    INTEGER_COLUMNS: tl.constexpr,
    DENSE_COLUMNS: tl.constexpr,
    IGNORES: tl.constexpr,
    HARD: tl.constexpr,
    WINDOW: tl.constexpr,
    SPATIAL: tl.constexpr,
    TEACHER: tl.constexpr,
    TEMPERED: tl.constexpr,
    SUMS: tl.constexpr,
    MAXIMA: tl.constexpr,
    TOTALS: tl.constexpr,
    WIDE: tl.constexpr,
    DTYPE: tl.constexpr,
    BLOCK_C: tl.constexpr,
    CHUNKS: tl.constexpr,
    BLOCK_P: tl.constexpr,
    FOLD: tl.constexpr,
    ADJACENT: tl.constexpr,
):
    """One row of (SUMS + MAXIMA) x CLASSES + TOTALS float64 numbers for each program; `parts`
    programs share an image, and each takes `group` tiles at a time. group = 1 where CHUNKS > 1.

    label_deficit, target_elsewhere: where labels are smoothed, the target is 1 - label_deficit at
        the label and target_elsewhere at all other classes.
    teacher_scale, student_scale: 1 / temperature.
    INTEGERS: what `integers` holds, see labels.py.
    IGNORES: whether elements of `dense`, which are probabilities, may be ignored one by one.
    HARD: whether the target of integers is 0 or 1, and p lies between them.
    WINDOW: of boundary smoothing; 0 where every pixel is smoothed, or none. SPATIAL: how many
        spatial dimensions it has.
    TEACHER: whether `dense` holds a teacher's logits. TEMPERED: whether student_scale is not 1.
    SUMS, MAXIMA, TOTALS: how many are requested, of both targets together.
    WIDE: whether offsets may need 64 bits.
    DTYPE: what is computed in.
    """
    LABEL_COUNT: tl.constexpr = 2 if CLASSES == 1 and ACTIVATION != SOFTMAX else CLASSES
    ROW: tl.constexpr = (SUMS + MAXIMA) * CLASSES + TOTALS

    program = tl.program_id(0)
    image = (program // parts).to(tl.int64)
    logits_view = view_of(logits, logits_strides, logits_axes, image)
    integers_view = view_of(integers, integers_strides, None, image)
    dense_view = view_of(dense, dense_strides, dense_axes, image)
    mask_view = view_of(mask, mask_strides, None, image)
    row = partials + program.to(tl.int64) * ROW
    first_tile = program % parts * group
    pixels = depth * height * width
    tiles = tl.cdiv(pixels, BLOCK_P)
    label_deficit = tl.full([1, 1], label_deficit, DTYPE)
    target_elsewhere = tl.full([1, 1], target_elsewhere, DTYPE)
    teacher_scale = tl.full([1, 1], teacher_scale, DTYPE)
    student_scale = tl.full([1, 1], student_scale, DTYPE)

    for start in range(first_tile, tiles, parts * group):
        is_first = start == first_tile
        sums = zeros(SUMS, BLOCK_C, BLOCK_P // FOLD, DTYPE)
        maxima = zeros(MAXIMA, BLOCK_C, BLOCK_P, DTYPE)
        totals = zeros(TOTALS, 1, BLOCK_P, DTYPE)
        for tile in range(start, tl.minimum(start + group, tiles)):
            pixel = tile * BLOCK_P + tl.arange(0, BLOCK_P)[None, :]
            in_image = pixel < pixels
            position = locate(pixel, height, width, WIDE)
            source = source_of(
                logits_view, integers_view, dense_view, mask_view, position, in_image,
                (depth, height, width), ignore_index, label_deficit, target_elsewhere,
                teacher_scale, INTEGERS, LABEL_COUNT, WINDOW, SPATIAL, DTYPE,
            )  # fmt: skip
            sums, maxima, totals = add_tile(
                source, sums, maxima, totals, row, is_first, ce_class_weights, student_scale,
                CLASSES, ACTIVATION, INTEGERS, INTEGER_COLUMNS, DENSE_COLUMNS, IGNORES, HARD,
                TEACHER, TEMPERED, SUMS, MAXIMA, TOTALS, DTYPE, BLOCK_C, CHUNKS, BLOCK_P, FOLD,
                ADJACENT,
            )  # fmt: skip
        if CHUNKS == 1:
            flush(row, sums, maxima, 0, is_first, CLASSES, BLOCK_C, SUMS, MAXIMA)
        flush_totals(row + (SUMS + MAXIMA) * CLASSES, totals, is_first, TOTALS)
        # The next group reads what this one wrote.
        tl.debug_barrier()
