"""The kernels that count for metrics: one pass over the logits, of which nothing is written but a
small integer for each pixel.

    labels, mask -> marks                              tally_maps.py
    tile of logits -> largest logit and its class -> sums of exponentials -> probabilities
        -> pairs of label and prediction, bins of confidences, bins of each class
    marks -> boundaries of the predictions, and what programs have counted, added up

What is described in `reference_tally.tally` is counted as integers, so that atomic additions make
the same of them in any order. Histograms stay with a program until it ends. Sums of probabilities
go to copies of the bins, of which programs have as many as memory has room for, so that few of them
add to one place.

Of a class's bins the first one holds most. What a program adds up of it is one number for each
class, and how many pixels it has is known at the end, from what is in the others.
"""

from typing import NamedTuple

import triton
import triton.language as tl

from .tally_maps import (
    AT_BOUNDARY,
    BOUNDARY_LABELLED,
    COLUMNS,
    CORRECT,
    COUNTS,
    FLAGS,
    HITS,
    LABELLED,
    PIXELS,
    PREDICTED,
    PROBABILITY,
    ROWS,
    count_boundaries,
)
from .tile_io import fill_tile, locate, view_of

#: How many units a probability of 1 is: 1 / `reference_tally.PROBABILITY_UNIT`.
UNITS = tl.constexpr(2**30)
#: Numbers of float32 from here on have no half.
WHOLE = tl.constexpr(2**23)
NO_CLASS = tl.constexpr(2**31 - 1)


# ---- pixels --------------------------------------------------------------------------------------


class Largest(NamedTuple):
    """The largest logit of each pixel, of the classes that were looked at: tiles of (1, pixels)."""

    z_max: tl.tensor
    """of the logits that are numbers"""
    has_nan: tl.tensor
    """1 where one is NaN, which is larger than all numbers; else 0"""
    first: tl.tensor
    """the first class that has it"""


@triton.jit
def largest_of(z, classes):
    is_nan = z != z
    has_nan = tl.max(is_nan.to(tl.int32), 0, keep_dims=True)
    z_max = tl.max(tl.where(is_nan, float("-inf"), z), 0, keep_dims=True)
    has_it = tl.where(has_nan > 0, is_nan, z == z_max)
    return Largest(z_max, has_nan, tl.min(tl.where(has_it, classes, NO_CLASS), 0, keep_dims=True))


@triton.jit
def merge_largest(a, b):
    """Of classes, and of others behind them."""
    is_b = (a.has_nan == 0) & ((b.has_nan > 0) | (b.z_max > a.z_max))
    return Largest(
        tl.maximum(a.z_max, b.z_max),
        tl.maximum(a.has_nan, b.has_nan),
        tl.where(is_b, b.first, a.first),
    )


@triton.jit
def to_units(p):
    """Probabilities as integers of 64 bits."""
    units = p * UNITS
    return tl.where(units < WHOLE, units + 0.5, units).to(tl.int32).to(tl.int64)


@triton.jit
def bin_of(p, BINS: tl.constexpr):
    return tl.minimum((p * BINS).to(tl.int32), BINS - 1)


@triton.jit
def add_to(place, number, inside):
    """Adds int64 numbers where `inside`."""
    numbers = tl.zeros(inside.shape, tl.int64) + number
    tl.atomic_add(place, numbers, mask=inside, sem="relaxed")


@triton.jit
def flat(tile):
    return tl.reshape(tile, [tile.shape[0] * tile.shape[1]])


@triton.jit
def count_keys(key, is_counted, COUNT: tl.constexpr):
    """How often each key in [0, COUNT) is met: COUNT int32 numbers."""
    return tl.histogram(flat(tl.where(is_counted, key, 0)), COUNT, mask=flat(is_counted))


# ---- the pass over the logits --------------------------------------------------------------------


@triton.jit
def add_classes(
    z,
    classes,
    z_max,
    scale,
    label,
    own,
    CLASSES: tl.constexpr,
    BINS: tl.constexpr,
):
    """Bins the probabilities of some classes, but for how many are in the first bin; returns the
    sums of what is in that, (classes,)."""
    p = tl.where(scale > 0, tl.exp(z - z_max) * scale, 0.0)
    place = bin_of(p, BINS)
    is_apart = (place > 0) & (classes < CLASSES)
    units = to_units(p)
    # own: 3 x CLASSES x BINS numbers, see `tally_kernel`.
    to = own + (classes * BINS + place)
    SIZE: tl.constexpr = CLASSES * BINS
    add_to(to + PIXELS * SIZE, 1, is_apart)
    add_to(to + CORRECT * SIZE, 1, is_apart & (classes == label))
    tl.atomic_add(to + PROBABILITY * SIZE, units, mask=is_apart, sem="relaxed")
    return tl.sum(tl.where(place == 0, units, 0), 1)


@triton.jit
def add_first_bins(own, sums, classes, CLASSES: tl.constexpr, BINS: tl.constexpr):
    to = own + PROBABILITY * CLASSES * BINS + classes * BINS
    tl.atomic_add(to, sums, mask=(classes < CLASSES) & (sums > 0), sem="relaxed")


@triton.jit
def tally_kernel(
    logits,
    logits_strides,
    logits_axes,
    marks,
    of_images,
    confusion,
    calibration,
    classwise,
    wrong,
    copies,
    depth,
    height,
    width,
    parts,
    n_copies,
    CLASSES: tl.constexpr,
    BINS: tl.constexpr,
    CALIBRATION: tl.constexpr,
    CLASSWISE: tl.constexpr,
    BOUNDARIES: tl.constexpr,
    MATRIX: tl.constexpr,
    KEYS: tl.constexpr,
    BIN_KEYS: tl.constexpr,
    WIDE: tl.constexpr,
    DTYPE: tl.constexpr,
    BLOCK_C: tl.constexpr,
    CHUNKS: tl.constexpr,
    BLOCK_P: tl.constexpr,
):
    """`parts` programs share an image.

    copies: n_copies times 2 x BINS sums of confidences, then numbers of pixels, of correct ones and
        sums of probabilities, each of CLASSES x BINS.
    BOUNDARIES: whether the marks become those of predictions.
    MATRIX: whether a program has a histogram of pairs; else it has some of classes, and pixels that
        are predicted wrongly go to the confusion matrix by themselves.
    KEYS, BIN_KEYS: powers of two, from CLASSES and BINS on.
    """
    ROW: tl.constexpr = 2 * BINS + COLUMNS * CLASSES * BINS
    program = tl.program_id(0)
    image = (program // parts).to(tl.int64)
    logits_view = view_of(logits, logits_strides, logits_axes, image)
    own = copies + (program % n_copies).to(tl.int64) * ROW
    pixels = depth * height * width
    of_image = of_images + image * (ROWS * CLASSES)
    marks_of_image = marks + image * pixels
    chunk_classes = tl.arange(0, BLOCK_C)[:, None]

    counted = tl.zeros([KEYS * KEYS if MATRIX else KEYS], tl.int32)  # pairs, or labels
    predicted = tl.zeros([KEYS], tl.int32)
    hits = tl.zeros([KEYS], tl.int32)
    near = tl.zeros([KEYS], tl.int32)
    confident = tl.zeros([4 * BIN_KEYS], tl.int32)
    first_bins = tl.zeros([BLOCK_C], tl.int64)
    is_wrong = tl.zeros([1, BLOCK_P], tl.int32)
    for tile in range(program % parts, tl.cdiv(pixels, BLOCK_P), parts):
        pixel = tile * BLOCK_P + tl.arange(0, BLOCK_P)[None, :]
        in_image = pixel < pixels
        position = locate(pixel, height, width, WIDE)
        mark = tl.load(marks_of_image + pixel, mask=in_image, other=0).to(tl.int32)
        label = mark >> FLAGS
        counts = ((mark & COUNTS) != 0) & (label < CLASSES)
        is_wrong += ((mark & COUNTS) != 0).to(tl.int32) - counts.to(tl.int32)

        # 1. the largest logit, and the first class that has it
        inside = in_image & (chunk_classes < CLASSES)
        z = fill_tile(logits_view, chunk_classes, position, inside, float("-inf"), DTYPE)
        largest = largest_of(z, chunk_classes)
        for chunk in range(1, CHUNKS):
            classes = chunk * BLOCK_C + chunk_classes
            inside = in_image & (classes < CLASSES)
            other = fill_tile(logits_view, classes, position, inside, float("-inf"), DTYPE)
            largest = merge_largest(largest, largest_of(other, classes))
        prediction = largest.first
        z_max = tl.where(largest.has_nan > 0, float("nan"), largest.z_max)

        # 2. the sum of exponentials; NaN makes all probabilities 0
        exp_sum = tl.sum(tl.exp(z - z_max), 0, keep_dims=True)
        for chunk in range(1, CHUNKS):
            classes = chunk * BLOCK_C + chunk_classes
            inside = in_image & (classes < CLASSES)
            other = fill_tile(logits_view, classes, position, inside, float("-inf"), DTYPE)
            exp_sum += tl.sum(tl.exp(other - z_max), 0, keep_dims=True)
        scale = tl.where(counts & (exp_sum == exp_sum), 1.0 / exp_sum, 0.0)

        # 3. once for each pixel
        is_hit = counts & (label == prediction)
        is_near = counts & ((mark & AT_BOUNDARY) != 0)
        if MATRIX:
            counted += count_keys(label * KEYS + prediction, counts, KEYS * KEYS)
        else:
            counted += count_keys(label, counts, KEYS)
            predicted += count_keys(prediction, counts, KEYS)
            hits += count_keys(label, is_hit, KEYS)
            pair = label.to(tl.int64) * CLASSES + prediction
            add_to(confusion + pair, 1, counts & (label != prediction))
        if CALIBRATION:  # the confidence is e^0 of the sum
            place = bin_of(scale, BINS)
            key = (place * 2 + is_hit.to(tl.int32)) * 2 + is_near.to(tl.int32)
            confident += count_keys(key, counts, 4 * BIN_KEYS)
            units = to_units(scale)
            tl.atomic_add(own + place, units, mask=counts, sem="relaxed")
            tl.atomic_add(own + BINS + place, units, mask=is_near, sem="relaxed")
        if BOUNDARIES:
            near += count_keys(label, is_near, KEYS)
            shown = tl.where(label > CLASSES, label, prediction) << FLAGS
            shown = shown | tl.where(counts, COUNTS, 0) | tl.where(is_hit & is_near, AT_BOUNDARY, 0)
            tl.store(marks_of_image + pixel, shown.to(marks.dtype.element_ty), mask=in_image)

        # 4. once for each class and pixel
        if CLASSWISE:
            own_classes = own + 2 * BINS
            if CHUNKS == 1:
                first_bins += add_classes(
                    z, chunk_classes, z_max, scale, label, own_classes, CLASSES, BINS
                )
            else:
                for chunk in range(CHUNKS):
                    classes = chunk * BLOCK_C + chunk_classes
                    inside = in_image & (classes < CLASSES)
                    other = fill_tile(logits_view, classes, position, inside, float("-inf"), DTYPE)
                    sums = add_classes(
                        other, classes, z_max, scale, label, own_classes, CLASSES, BINS
                    )
                    column = chunk * BLOCK_C + tl.arange(0, BLOCK_C)
                    add_first_bins(own_classes, sums, column, CLASSES, BINS)

    # 5. what the program has counted
    c = tl.arange(0, KEYS)
    labelled = counted
    if MATRIX:
        pairs = tl.reshape(counted, [KEYS, KEYS])  # labels x predictions
        row, column = c[:, None], c[None, :]
        add_to(confusion + row * CLASSES + column, pairs, pairs > 0)
        labelled = tl.sum(pairs, 1)
        predicted = tl.sum(pairs, 0)
        hits = tl.sum(tl.where(row == column, pairs, 0), 1)
    else:
        add_to(confusion + c.to(tl.int64) * (CLASSES + 1), hits, hits > 0)
    add_to(of_image + HITS * CLASSES + c, hits, hits > 0)
    add_to(of_image + PREDICTED * CLASSES + c, predicted, predicted > 0)
    add_to(of_image + LABELLED * CLASSES + c, labelled, labelled > 0)
    if BOUNDARIES:
        add_to(of_image + BOUNDARY_LABELLED * CLASSES + c, near, near > 0)
    if CALIBRATION:
        halves = tl.reshape(confident, [BIN_KEYS, 2, 2])  # bins x is right x at a boundary
        part = tl.arange(0, 2)[None, :]
        to = calibration + (part * BINS + tl.arange(0, BIN_KEYS)[:, None]) * COLUMNS
        all_of = tl.sum(halves, 1)
        is_right = tl.arange(0, 2)[None, :, None] == 1
        right = tl.sum(tl.where(is_right, halves, 0), 1)
        # In the first part are all pixels, those of boundaries too.
        add_to(to + PIXELS, all_of, all_of > 0)
        add_to(to + CORRECT, right, right > 0)
        first = calibration + tl.arange(0, BIN_KEYS)[:, None] * COLUMNS + 0 * part
        add_to(first + PIXELS, all_of, (part == 1) & (all_of > 0))
        add_to(first + CORRECT, right, (part == 1) & (right > 0))
    if CLASSWISE:
        # All pixels are in the first bin, before those of other bins are taken off.
        first = classwise + c.to(tl.int64) * (BINS * COLUMNS)
        add_to(first + PIXELS, tl.sum(labelled, 0), c < CLASSES)
        add_to(first + CORRECT, labelled, labelled > 0)
        if CHUNKS == 1:
            add_first_bins(own + 2 * BINS, first_bins, tl.arange(0, BLOCK_C), CLASSES, BINS)
    n_wrong = tl.sum(is_wrong, 1)
    add_to(wrong + tl.arange(0, 1), n_wrong, n_wrong > 0)


# ---- what programs have counted, added up --------------------------------------------------------


@triton.jit
def sum_of_copies(numbers, n_copies, row, inside, BLOCK_R: tl.constexpr):
    """Sums over copies. numbers: pointers to those of the first copy, (bins,)."""
    total = tl.zeros(inside.shape, tl.int64)
    for start in range(0, n_copies, BLOCK_R):
        copy = start + tl.arange(0, BLOCK_R)[:, None]
        values = tl.load(
            numbers[None, :] + copy.to(tl.int64) * row,
            mask=(copy < n_copies) & inside[None, :],
            other=0,
        )
        total += tl.sum(values, 0)
    return total


@triton.jit
def finish_bins(
    calibration,
    classwise,
    copies,
    n_copies,
    job,
    CLASSES: tl.constexpr,
    BINS: tl.constexpr,
    BIN_KEYS: tl.constexpr,
    BLOCK_R: tl.constexpr,
):
    """Jobs 0 and 1 are the two parts of the calibration, the others classes."""
    ROW: tl.constexpr = 2 * BINS + COLUMNS * CLASSES * BINS
    SIZE: tl.constexpr = CLASSES * BINS
    place = tl.arange(0, BIN_KEYS)
    inside = place < BINS
    if job < 2:
        own = copies + job * BINS + place
        units = sum_of_copies(own, n_copies, ROW, inside, BLOCK_R)
        to = calibration + (job * BINS + place) * COLUMNS
        tl.store(to + PROBABILITY, units, mask=inside)
    else:
        c = (job - 2).to(tl.int64)
        own = copies + 2 * BINS + c * BINS + place
        to = classwise + (c * BINS + place) * COLUMNS
        units = sum_of_copies(own + PROBABILITY * SIZE, n_copies, ROW, inside, BLOCK_R)
        tl.store(to + PROBABILITY, units, mask=inside)
        for column in tl.static_range(2):
            others = sum_of_copies(own + column * SIZE, n_copies, ROW, inside, BLOCK_R)
            all_of = tl.load(to + column, mask=inside, other=0)  # in the first bin
            first = all_of - tl.sum(others, 0)
            tl.store(to + column, tl.where(place == 0, first, others), mask=inside)


@triton.jit
def finish_tally_kernel(
    marks,
    of_images,
    calibration,
    classwise,
    copies,
    n_copies,
    depth,
    height,
    width,
    tiles,
    jobs,
    CLASSES: tl.constexpr,
    BINS: tl.constexpr,
    RADIUS: tl.constexpr,
    SPATIAL: tl.constexpr,
    BIN_KEYS: tl.constexpr,
    BLOCK_R: tl.constexpr,
    WIDE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """The first `jobs` programs add up copies of bins, the others look for boundaries in `tiles`
    runs of BLOCK pixels of each image."""
    program = tl.program_id(0)
    if program < jobs:
        finish_bins(
            calibration, classwise, copies, n_copies, program, CLASSES, BINS, BIN_KEYS, BLOCK_R
        )
    elif RADIUS > 0:
        count_boundaries(
            marks, of_images, program - jobs, tiles, (depth, height, width), CLASSES, RADIUS,
            SPATIAL, WIDE, BLOCK,
        )  # fmt: skip
