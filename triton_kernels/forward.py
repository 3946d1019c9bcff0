"""The forward kernel: statistics of tiles, as partial sums of a program.

A program walks over tiles of one image. Sums of a few tiles are kept in registers, one number for
every few pixels of a class, in the logits' own precision (float32 for half types); then they are
added up over pixels and go on in float64 in the program's row of `partials`, which only it touches,
in a fixed order.

    tile of logits -> state of each pixel (softmax) -> x, y -> terms -> sums in registers
                                                              -> row of partials

With more classes than one tile holds (CHUNKS > 1) a group of pixels is looked at twice: the first
look makes the softmax's state, the second the terms. What the first has read is in cache still: a
look is BLOCK_P pixels of all classes, 64 bytes of each.

Bytes from memory: the logits once, the integers once, a dense target once, a mask once.
"""

import triton
import triton.language as tl

from .columns import (
    CROSS_ENTROPY,
    CROSS_ENTROPY_WEIGHT,
    PRESENT,
    TARGET_ENTROPY,
)
from .pixel_math import (
    NONE,
    SIGMOID,
    SOFTMAX,
    cross_entropy_terms,
    hard_terms,
    integer_target,
    maxima_terms,
    overlap_terms,
    probabilities,
)
from .targets import BITS, LABELS, integers_of_pixels, look, merge_looks, poisoned, read_chunk
from .tile_io import locate, read_mask, view_of

ALL = tl.constexpr(tl.PropagateNan.ALL)


@triton.jit
def fold(values, FOLD: tl.constexpr, ADJACENT: tl.constexpr):
    """(C, P) -> (C, P / FOLD): adds up pixels that one thread holds, which needs no other."""
    C: tl.constexpr = values.shape[0]
    P: tl.constexpr = values.shape[1]
    if ADJACENT:
        return tl.sum(tl.reshape(values, [C, P // FOLD, FOLD]), 2)
    else:
        return tl.sum(tl.reshape(values, [C, FOLD, P // FOLD]), 1)


@triton.jit
def zeros(COUNT: tl.constexpr, C: tl.constexpr, P: tl.constexpr, DTYPE: tl.constexpr):
    tiles = ()
    for _ in tl.static_range(COUNT):
        tiles = tiles + (tl.zeros([C, P], DTYPE),)
    return tiles


@triton.jit
def add_folded(sums, terms, COUNT: tl.constexpr, FOLD: tl.constexpr, ADJACENT: tl.constexpr):
    added = ()
    for i in tl.static_range(COUNT):
        added = added + (sums[i] + fold(terms[i], FOLD, ADJACENT),)
    return added


@triton.jit
def raise_maxima(maxima, terms, COUNT: tl.constexpr):
    raised = ()
    for i in tl.static_range(COUNT):
        raised = raised + (tl.maximum(maxima[i], terms[i], propagate_nan=ALL),)
    return raised


@triton.jit
def add(sums, terms, COUNT: tl.constexpr):
    added = ()
    for i in tl.static_range(COUNT):
        added = added + (sums[i] + terms[i],)
    return added


@triton.jit
def flush(
    row,
    sums,
    maxima,
    chunk,
    is_first,
    CLASSES: tl.constexpr,
    BLOCK_C: tl.constexpr,
    SUMS: tl.constexpr,
    MAXIMA: tl.constexpr,
):
    """Adds a chunk's sums up over pixels, and to the row; raises the row's maxima."""
    classes = chunk * BLOCK_C + tl.arange(0, BLOCK_C)
    inside = classes < CLASSES
    for i in tl.static_range(SUMS):
        at = row + i * CLASSES + classes
        before = tl.where(is_first, 0.0, tl.load(at, mask=inside, other=0.0))
        tl.store(at, before + tl.sum(sums[i], 1).to(tl.float64), mask=inside)
    for i in tl.static_range(MAXIMA):
        at = row + (SUMS + i) * CLASSES + classes
        before = tl.where(is_first, 0.0, tl.load(at, mask=inside, other=0.0))
        lost = tl.max((maxima[i] != maxima[i]).to(tl.int32), 1) > 0  # a reduction drops NaN
        largest = tl.where(lost, float("nan"), tl.max(maxima[i], 1)).to(tl.float64)
        tl.store(at, tl.maximum(before, largest, propagate_nan=ALL), mask=inside)


@triton.jit
def flush_totals(row, totals, is_first, COUNT: tl.constexpr):
    for i in tl.static_range(COUNT):
        before = tl.where(is_first, 0.0, tl.load(row + i))
        tl.store(row + i, before + tl.sum(tl.sum(totals[i], 1), 0).to(tl.float64))


@triton.jit
def chunk_terms(
    values,
    looks,
    of_pixels,
    class_weights,
    seen,
    student_scale,
    CLASSES: tl.constexpr,
    ACTIVATION: tl.constexpr,
    INDEPENDENT: tl.constexpr,
    INTEGERS: tl.constexpr,
    INTEGER_COLUMNS: tl.constexpr,
    DENSE_COLUMNS: tl.constexpr,
    HARD: tl.constexpr,
    FIRST_LABEL: tl.constexpr,
    TEACHER: tl.constexpr,
    TEMPERED: tl.constexpr,
    ARGMAX: tl.constexpr,
):
    """The second look at a chunk: (terms of sums, of maxima, of totals, seen). `seen` is 1 for
    pixels that an earlier chunk has counted."""
    classes, inside, z, hit, valid, raw = values
    state, teacher, largest = looks
    x, miss = probabilities(z, state, ACTIVATION)
    x = tl.where(valid, x, 0.0)
    sums = ()
    maxima = ()
    totals = ()
    weights = None
    if class_weights is not None:
        weights = tl.load(class_weights + classes, mask=classes < CLASSES, other=0.0).to(z.dtype)
    counted = valid.to(z.dtype)
    if INTEGERS == BITS:
        counted = tl.max(counted, 0, keep_dims=True)
    fresh = tl.maximum(counted - seen, 0.0)
    if INTEGERS:
        label, _, poison, share, off = of_pixels
        y, gap = integer_target(hit, miss, x, share, tl.where(valid & inside, off, 0.0))
        if HARD:
            sums = hard_terms(x, miss, hit, INTEGER_COLUMNS)
        else:
            sums = overlap_terms(x, y, gap, INTEGER_COLUMNS)
        if INDEPENDENT:
            present = valid & (y > 0.5)
        elif ARGMAX and INTEGERS == BITS:
            present = valid & (classes == largest[1])
        elif INTEGERS == LABELS:
            # Smoothing by 1 makes all classes equal, and the first the argmax.
            first = tl.where((1.0 - share > off) & (label >= 0), label - FIRST_LABEL, 0)
            present = valid & (classes == first)
        else:
            present = hit
        maxima = maxima_terms(x, y, present, INTEGER_COLUMNS)
        if CROSS_ENTROPY & INTEGER_COLUMNS:
            terms = cross_entropy_terms(z, y, state, 1.0, ACTIVATION, INDEPENDENT, False)
            if weights is not None:
                terms *= weights
            terms = tl.where(valid & inside, terms, 0.0)
            totals = totals + (tl.sum(terms, 0, keep_dims=True),)
        if CROSS_ENTROPY_WEIGHT & INTEGER_COLUMNS:
            if INTEGERS == BITS:
                totals = totals + (tl.sum(valid.to(z.dtype), 0, keep_dims=True),)
            elif weights is not None and not INDEPENDENT:
                weight = tl.load(class_weights + label, mask=label >= 0, other=0.0).to(z.dtype)
                totals = totals + (fresh * (weight + poison),)
    if DENSE_COLUMNS:
        y = raw
        if TEACHER:
            y = probabilities(raw, teacher, ACTIVATION)[0]
        y = tl.where(valid, y, 0.0)
        sums = sums + overlap_terms(x, y, y - x, DENSE_COLUMNS)
        if ARGMAX:
            present = valid & (classes == largest[1])
        else:
            present = valid & (y > 0.5)
        maxima = maxima + maxima_terms(x, y, present, DENSE_COLUMNS)
        if CROSS_ENTROPY & DENSE_COLUMNS:
            terms = cross_entropy_terms(
                z, y, state, student_scale, ACTIVATION, INDEPENDENT, TEMPERED
            )
            if weights is not None and not INTEGERS:
                terms *= weights
            terms = tl.where(valid & inside, terms, 0.0)
            totals = totals + (tl.sum(terms, 0, keep_dims=True),)
        if TEACHER and TARGET_ENTROPY & DENSE_COLUMNS:
            terms = cross_entropy_terms(raw, y, teacher, 1.0, ACTIVATION, INDEPENDENT, False)
            terms = tl.where(valid & inside, terms, 0.0)
            totals = totals + (tl.sum(terms, 0, keep_dims=True),)
    return sums, maxima, totals + (fresh,), tl.maximum(seen, counted)


@triton.jit
def forward_kernel(
    partials,
    logits,
    logits_strides,
    integers,
    integers_strides,
    dense,
    dense_strides,
    mask,
    mask_strides,
    class_weights,
    depth,
    height,
    width,
    parts,
    group,
    ignore_index,
    share: tl.float64,
    off: tl.float64,
    teacher_scale: tl.float64,
    student_scale: tl.float64,
    CLASSES: tl.constexpr,
    ACTIVATION: tl.constexpr,
    INTEGERS: tl.constexpr,
    INTEGER_COLUMNS: tl.constexpr,
    DENSE_COLUMNS: tl.constexpr,
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

    share, off: the target is 1 - share at the label and off elsewhere, where it is smoothed.
    teacher_scale, student_scale: 1 / temperature.
    HARD: the target of integers is 0 or 1, and x lies between them.
    SUMS, MAXIMA, TOTALS: how many are asked for, of both targets together.
    """
    INDEPENDENT: tl.constexpr = ACTIVATION == SIGMOID or (ACTIVATION == NONE and CLASSES == 1)
    # One class that is not a softmax has two labels, and y is the chance of label 1.
    BINARY: tl.constexpr = CLASSES == 1 and ACTIVATION != SOFTMAX
    FIRST_LABEL: tl.constexpr = 1 if BINARY else 0
    LABEL_COUNT: tl.constexpr = 2 if BINARY else CLASSES
    TILED_COLUMNS: tl.constexpr = INTEGER_COLUMNS if INTEGERS == BITS else DENSE_COLUMNS
    ARGMAX: tl.constexpr = (PRESENT & TILED_COLUMNS) != 0 and not INDEPENDENT
    LOGARITHM: tl.constexpr = (CROSS_ENTROPY & (INTEGER_COLUMNS | DENSE_COLUMNS)) != 0
    ENTROPY: tl.constexpr = (TARGET_ENTROPY & DENSE_COLUMNS) != 0
    ROW: tl.constexpr = (SUMS + MAXIMA) * CLASSES + TOTALS

    program = tl.program_id(0)
    image = (program // parts).to(tl.int64)
    logits_view = view_of(logits, logits_strides, image)
    integers_view = view_of(integers, integers_strides, image)
    dense_view = view_of(dense, dense_strides, image)
    mask_view = view_of(mask, mask_strides, image)
    row = partials + program.to(tl.int64) * ROW
    first_tile = program % parts * group
    pixels = depth * height * width
    tiles = tl.cdiv(pixels, BLOCK_P)
    share = tl.full([1, 1], share, DTYPE)
    off = tl.full([1, 1], off, DTYPE)
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
            counted = in_image
            if mask is not None:
                counted = read_mask(mask_view, position, in_image)
            of_pixels = integers_of_pixels(
                integers_view,
                position,
                in_image,
                counted,
                (depth, height, width),
                ignore_index,
                share,
                off,
                INTEGERS,
                LABEL_COUNT,
                WINDOW,
                SPATIAL,
                DTYPE,
            )
            source = (
                logits_view, integers_view, dense_view, of_pixels, position, in_image, ignore_index,
                teacher_scale,
            )  # fmt: skip
            values = read_chunk(
                source, 0, ACTIVATION, INTEGERS, DENSE_COLUMNS, FIRST_LABEL,
                TEACHER, CLASSES, BLOCK_C, DTYPE,
            )  # fmt: skip
            looks = look(
                values,
                student_scale,
                ACTIVATION,
                INTEGERS,
                TEACHER,
                LOGARITHM,
                ENTROPY,
                TEMPERED,
                ARGMAX,
            )
            for chunk in range(1, CHUNKS):
                others = read_chunk(
                    source, chunk, ACTIVATION, INTEGERS, DENSE_COLUMNS, FIRST_LABEL,
                    TEACHER, CLASSES, BLOCK_C, DTYPE,
                )  # fmt: skip
                found = look(
                    others,
                    student_scale,
                    ACTIVATION,
                    INTEGERS,
                    TEACHER,
                    LOGARITHM,
                    ENTROPY,
                    TEMPERED,
                    ARGMAX,
                )
                looks = merge_looks(
                    looks, found, student_scale, ACTIVATION, TEACHER, TEMPERED, ARGMAX
                )
            looks = poisoned(looks, of_pixels[2], ACTIVATION, INTEGERS)

            seen = tl.zeros([1, BLOCK_P], DTYPE)
            for chunk in range(CHUNKS):
                if CHUNKS > 1:
                    current = read_chunk(
                        source, chunk, ACTIVATION, INTEGERS, DENSE_COLUMNS, FIRST_LABEL,
                        TEACHER, CLASSES, BLOCK_C, DTYPE,
                    )  # fmt: skip
                else:
                    current = values
                sum_terms, maximum_terms, total_terms, seen = chunk_terms(
                    current, looks, of_pixels, class_weights, seen, student_scale, CLASSES,
                    ACTIVATION, INDEPENDENT, INTEGERS, INTEGER_COLUMNS, DENSE_COLUMNS, HARD,
                    FIRST_LABEL, TEACHER, TEMPERED, ARGMAX,
                )  # fmt: skip
                sums = add_folded(sums, sum_terms, SUMS, FOLD, ADJACENT)
                maxima = raise_maxima(maxima, maximum_terms, MAXIMA)
                totals = add(totals, total_terms, TOTALS)
                if CHUNKS > 1:
                    flush(row, sums, maxima, chunk, is_first, CLASSES, BLOCK_C, SUMS, MAXIMA)
                    sums = zeros(SUMS, BLOCK_C, BLOCK_P // FOLD, DTYPE)
                    maxima = zeros(MAXIMA, BLOCK_C, BLOCK_P, DTYPE)
        if CHUNKS == 1:
            flush(row, sums, maxima, 0, is_first, CLASSES, BLOCK_C, SUMS, MAXIMA)
        flush_totals(row + (SUMS + MAXIMA) * CLASSES, totals, is_first, TOTALS)
        # The next group reads what this one wrote.
        tl.debug_barrier()
