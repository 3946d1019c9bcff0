"""How a tile gets its numbers: everything that knows how tensors lie in memory.

A tile is (BLOCK_C, BLOCK_P): classes by pixels of one image.
"""

from typing import NamedTuple

import triton
import triton.language as tl


class View(NamedTuple):
    """A tensor, as far as it belongs to one image."""

    start: tl.tensor
    """points to its first element"""
    strides: tuple
    """(image, class, depth, row, column), or (image, class, pixel) where one stride leads from
    pixel to pixel, as in both memory formats: then no pixel number is ever divided"""


class Position(NamedTuple):
    """Where pixels lie in their image: tiles of (1, pixels)."""

    number: tl.tensor
    depth: tl.tensor
    row: tl.tensor
    column: tl.tensor


@triton.jit
def view_of(tensor, strides, image):
    """The view of an image; empty where there is no tensor."""
    if tensor is None:
        return ()
    else:
        return View(tensor + image * strides[0], strides)


@triton.jit
def locate(pixel, height, width, WIDE: tl.constexpr):
    """The position of pixels by their number, in 64 bits where offsets may need them."""
    if WIDE:
        pixel = pixel.to(tl.int64)
    line = pixel // width
    return Position(pixel, line // height, line % height, pixel % width)


@triton.jit
def pixel_offsets(strides, position):
    """How far pixels lie behind the first one of their image and class, in elements."""
    if len(strides) == 3:
        return position.number * strides[2]
    else:
        return (
            position.depth * strides[2] + position.row * strides[3] + position.column * strides[4]
        )


@triton.jit
def tile_pointers(view, classes, position):
    class_offsets = classes.to(position.number.dtype) * view.strides[1]
    return view.start + (class_offsets + pixel_offsets(view.strides, position))


@triton.jit
def fill_tile(view, classes, position, inside, other):
    """The one way in for logits and dense targets: a tile of classes by pixels."""
    return tl.load(tile_pointers(view, classes, position), mask=inside, other=other)


@triton.jit
def store_tile(view, classes, position, inside, values):
    """The one way out: writes a tile of gradients."""
    pointers = tile_pointers(view, classes, position)
    tl.store(pointers, values.to(view.start.dtype.element_ty), mask=inside)


@triton.jit
def fill_pixels(view, position, inside):
    """One number for each pixel, of labels or of the mask; 0 outside."""
    return tl.load(view.start + pixel_offsets(view.strides, position), mask=inside, other=0)
