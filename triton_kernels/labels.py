"""What integers and the mask say of each pixel.

Integers are labels of pixels (INTEGERS = LABELS) or 0 and 1 of each class (BITS). An integer that
counts and is out of range makes its pixel NaN, since the host cannot be told without waiting for
the GPU: `poison` is NaN there and 0 elsewhere.
"""

from typing import NamedTuple

import triton
import triton.language as tl

from .tile_io import Position, fill_pixels

NO_INTEGERS = tl.constexpr(0)
LABELS = tl.constexpr(1)
BITS = tl.constexpr(2)

#: Codes of labels that are none: less than any label.
IGNORED = tl.constexpr(-1)
OUT_OF_RANGE = tl.constexpr(-2)

LARGEST_INT64 = tl.constexpr(2**63 - 1)


class LabelState(NamedTuple):
    """What is one number for each pixel: tiles of (1, pixels). Without labels of pixels `label` and
    `poison` are empty, and the target of bits is the same at all pixels, (1, 1)."""

    label: tl.tensor
    """the label, -1 where none counts"""
    valid: tl.tensor
    """whether the pixel counts; of bits, whether it may"""
    poison: tl.tensor
    """NaN where the label is out of range, else 0"""
    label_deficit: tl.tensor
    """1 less the target at the label, 0 where labels are not smoothed"""
    target_elsewhere: tl.tensor
    """the target of all other classes, 0 where labels are not smoothed"""


@triton.jit
def poison_where(is_bad, DTYPE: tl.constexpr):
    return tl.where(is_bad, float("nan"), tl.zeros(is_bad.shape, DTYPE))


@triton.jit
def as_int64(integers):
    """Integers as kernels compare them. The upper half of uint64 is no int64, and counts as the
    largest of these: it must not wrap to a negative number, which could be ignore_index."""
    numbers = integers.to(tl.int64)
    if integers.dtype == tl.uint64:
        numbers = tl.where(numbers < 0, LARGEST_INT64, numbers)
    return numbers


@triton.jit
def label_codes(view, position, inside, ignore_index, LABEL_COUNT: tl.constexpr):
    """The label of each pixel, or IGNORED or OUT_OF_RANGE."""
    label = as_int64(fill_pixels(view, position, inside))
    code = tl.where((label >= 0) & (label < LABEL_COUNT), label, OUT_OF_RANGE)
    return tl.where(label == ignore_index, IGNORED, code).to(tl.int32)


@triton.jit
def at_boundary(
    view,
    position,
    inside,
    size,
    ignore_index,
    LABEL_COUNT: tl.constexpr,
    WINDOW: tl.constexpr,
    SPATIAL: tl.constexpr,
):
    """Whether pixels are at a boundary: their window holds another label, and none that is ignored
    or out of range (section 2.4.1 of the paper). A window that leaves the image is read at the
    image's edge, which it holds anyway. The labels come from the cache: only the first program that
    reads one waits for memory."""
    depth, height, width = size
    RADIUS: tl.constexpr = WINDOW // 2
    DEPTH_RADIUS: tl.constexpr = RADIUS if SPATIAL > 2 else 0
    ROW_RADIUS: tl.constexpr = RADIUS if SPATIAL > 1 else 0
    lowest = tl.full(inside.shape, LABEL_COUNT, tl.int32)
    highest = tl.full(inside.shape, -1, tl.int32)
    for depth_offset in range(-DEPTH_RADIUS, DEPTH_RADIUS + 1):
        plane = tl.minimum(tl.maximum(position.depth + depth_offset, 0), depth - 1)
        for row_offset in range(-ROW_RADIUS, ROW_RADIUS + 1):
            row = tl.minimum(tl.maximum(position.row + row_offset, 0), height - 1)
            for i in tl.static_range(WINDOW):
                column = tl.minimum(tl.maximum(position.column + (i - RADIUS), 0), width - 1)
                number = (plane * height + row) * width + column
                neighbour = Position(number, plane, row, column)
                code = label_codes(view, neighbour, inside, ignore_index, LABEL_COUNT)
                lowest = tl.minimum(lowest, code)
                highest = tl.maximum(highest, code)
    return (lowest >= 0) & (lowest < highest)


@triton.jit
def label_state(
    integers,
    position,
    inside,
    unmasked,
    size,
    ignore_index,
    label_deficit,
    target_elsewhere,
    INTEGERS: tl.constexpr,
    LABEL_COUNT: tl.constexpr,
    WINDOW: tl.constexpr,
    SPATIAL: tl.constexpr,
    DTYPE: tl.constexpr,
):
    """The state of some pixels. label_deficit, target_elsewhere: what they are where labels are
    smoothed."""
    if INTEGERS == LABELS:
        code = label_codes(integers, position, inside, ignore_index, LABEL_COUNT)
        valid = unmasked & (code != IGNORED)
        is_bad = valid & (code == OUT_OF_RANGE)
        smoothed = valid
        if WINDOW > 0:
            smoothed = valid & at_boundary(
                integers, position, inside, size, ignore_index, LABEL_COUNT, WINDOW, SPATIAL
            )
        return LabelState(
            tl.where(valid & (code >= 0), code, -1),
            valid,
            poison_where(is_bad, DTYPE),
            tl.where(smoothed, label_deficit, 0.0),
            tl.where(smoothed, target_elsewhere, 0.0),
        )
    else:
        return LabelState((), unmasked, (), label_deficit, target_elsewhere)
