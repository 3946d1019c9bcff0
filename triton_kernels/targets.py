"""A tile before it is computed: its logits, its integers, its dense target, and the first look that
finds what the softmax needs of each pixel.

Integers are labels of pixels (INTEGERS = LABELS) or 0 and 1 of each class (BITS). An integer that
counts and is no label makes its pixel NaN, since whether there is one cannot be told without
waiting for the GPU: `poison` is NaN there and 0 elsewhere.
"""

import triton
import triton.language as tl

from .pixel_math import (
    NONE,
    SOFTMAX,
    first_largest,
    merge_first_largest,
    merge_states,
    softmax_state,
)
from .tile_io import at_boundary, fill_tile, read_codes

NO_INTEGERS = tl.constexpr(0)
LABELS = tl.constexpr(1)
BITS = tl.constexpr(2)


@triton.jit
def poison_where(bad, DTYPE: tl.constexpr):
    return tl.where(bad, float("nan"), tl.zeros(bad.shape, DTYPE))


@triton.jit
def integers_of_pixels(
    integers,
    position,
    inside,
    counted,
    size,
    ignore_index,
    share,
    off,
    INTEGERS: tl.constexpr,
    LABEL_COUNT: tl.constexpr,
    WINDOW: tl.constexpr,
    SPATIAL: tl.constexpr,
    DTYPE: tl.constexpr,
):
    """What is one number for each pixel: (label, valid, poison, share, off). The target is
    1 - share at the label and off elsewhere; the label is -1 where none counts."""
    if INTEGERS == LABELS:
        code = read_codes(integers, position, inside, ignore_index, LABEL_COUNT)
        valid = counted & (code != -1)
        bad = valid & (code == -2)
        smoothed = valid
        if WINDOW > 0:
            smoothed = valid & at_boundary(
                integers, position, inside, size, ignore_index, LABEL_COUNT, WINDOW, SPATIAL
            )
        return (
            tl.where(valid & (code >= 0), code, -1),
            valid,
            poison_where(bad, DTYPE),
            tl.where(smoothed, share, 0.0),
            tl.where(smoothed, off, 0.0),
        )
    else:
        return (), counted, (), share, off


@triton.jit
def read_chunk(
    source,
    chunk,
    ACTIVATION: tl.constexpr,
    INTEGERS: tl.constexpr,
    DENSE_COLUMNS: tl.constexpr,
    FIRST_LABEL: tl.constexpr,
    TEACHER: tl.constexpr,
    CLASSES: tl.constexpr,
    BLOCK_C: tl.constexpr,
    DTYPE: tl.constexpr,
):
    """A chunk of the classes of some pixels: (classes, inside, z, hit, valid, raw).

    z are logits, classes beyond the last ruled out; hit tells whether a class is the label, valid
    whether it counts; raw is the dense target, of a teacher its logits over the temperature.
    """
    logits, integers, dense, of_pixels, position, in_image, ignore_index, teacher_scale = source
    classes = chunk * BLOCK_C + tl.arange(0, BLOCK_C)[:, None]
    inside = in_image & (classes < CLASSES)
    beyond: tl.constexpr = 0.0 if ACTIVATION == NONE else float("-inf")
    z = fill_tile(logits, classes, position, inside, beyond).to(DTYPE)
    label, valid, poison, _, _ = of_pixels
    hit = ()
    if INTEGERS == BITS:
        value = fill_tile(integers, classes, position, inside, 0).to(tl.int64)
        valid = valid & inside & (value != ignore_index)
        hit = valid & (value == 1)
        z += poison_where(valid & (value != 0) & (value != 1), DTYPE)
    elif INTEGERS == LABELS:
        hit = classes + FIRST_LABEL == label
        if ACTIVATION != SOFTMAX:
            z += poison
    raw = ()
    if DENSE_COLUMNS:
        if TEACHER:
            raw = fill_tile(dense, classes, position, inside, float("-inf")).to(DTYPE)
            raw = raw * teacher_scale
        else:
            raw = fill_tile(dense, classes, position, inside, 0.0).to(DTYPE)
    return classes, inside, z, hit, valid, raw


@triton.jit
def look(
    values,
    student_scale,
    ACTIVATION: tl.constexpr,
    INTEGERS: tl.constexpr,
    TEACHER: tl.constexpr,
    LOGARITHM: tl.constexpr,
    ENTROPY: tl.constexpr,
    TEMPERED: tl.constexpr,
    ARGMAX: tl.constexpr,
):
    """What a chunk says of its pixels: (softmax state, the teacher's, first largest target), empty
    where nothing needs it.

    LOGARITHM, ENTROPY: log x, log y are asked for. ARGMAX: only all classes together tell which one
    is present.
    """
    classes, inside, z, hit, valid, raw = values
    state = ()
    teacher = ()
    largest = ()
    if ACTIVATION == SOFTMAX:
        state = softmax_state(z, hit, student_scale, INTEGERS != NO_INTEGERS, LOGARITHM, TEMPERED)
        if TEACHER:
            teacher = softmax_state(raw, (), student_scale, False, ENTROPY, False)
    if ARGMAX:
        if INTEGERS == BITS:
            y = tl.where(inside, tl.where(hit, 1.0, tl.zeros_like(z)), float("-inf"))
        else:
            y = tl.where(inside & valid, raw, float("-inf"))
        largest = first_largest(y, classes)
    return state, teacher, largest


@triton.jit
def merge_looks(
    a,
    b,
    student_scale,
    ACTIVATION: tl.constexpr,
    TEACHER: tl.constexpr,
    TEMPERED: tl.constexpr,
    ARGMAX: tl.constexpr,
):
    """Of the classes of a, and those of b, which come after."""
    state = ()
    teacher = ()
    largest = ()
    if ACTIVATION == SOFTMAX:
        state = merge_states(a[0], b[0], student_scale, TEMPERED)
        if TEACHER:
            teacher = merge_states(a[1], b[1], student_scale, False)
    if ARGMAX:
        largest = merge_first_largest(a[2], b[2])
    return state, teacher, largest


@triton.jit
def poisoned(looks, poison, ACTIVATION: tl.constexpr, INTEGERS: tl.constexpr):
    """The same, with NaN for the probabilities of pixels whose label is none."""
    state, teacher, largest = looks
    if ACTIVATION == SOFTMAX and INTEGERS == LABELS:
        state = (state[0], state[1] + poison, state[2], state[3] + poison, state[4] + poison)
    return state, teacher, largest
