"""How a tile gets its numbers: everything that knows how tensors lie in memory.

A tile is (BLOCK_C, BLOCK_P): classes by pixels of one image. Its source is a tensor as it lies, or
one of lower resolution, which is interpolated (upsampling.py).
"""

from typing import NamedTuple

import triton
import triton.language as tl

from .upsampling import Nodes, axis_of, between, cell_of, nodes_around, of_pixels


class View(NamedTuple):
    """A tensor, as far as it belongs to one image."""

    start: tl.tensor
    """points to its first element"""
    strides: tuple
    """(image, class, depth, row, column), or (image, class, pixel) where one stride leads from
    pixel to pixel, as in both memory formats: then no pixel number is ever divided"""
    axes: tuple
    """of a tensor of lower resolution, see `upsampling.axes`; else empty"""
    nodes: Nodes
    """between which the pixels of such a tensor lie, where they are known already; else empty"""


class Position(NamedTuple):
    """Where pixels lie in their image: tiles of (1, pixels)."""

    number: tl.tensor
    depth: tl.tensor
    row: tl.tensor
    column: tl.tensor


@triton.jit
def view_of(tensor, strides, axes, image):
    """The view of an image; empty where there is no tensor. axes: None where its pixels lie as they
    are."""
    if tensor is None:
        return ()
    elif axes is None:
        return View(tensor + image * strides[0], strides, (), ())
    else:
        return View(tensor + image * strides[0], strides, axes, ())


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
def load_tile(view, classes, position, inside, other):
    """A tile of a tensor as it lies, in its dtype."""
    return tl.load(tile_pointers(view, classes, position), mask=inside, other=other)


@triton.jit
def fill_tile(view, classes, position, inside, other, DTYPE: tl.constexpr):
    """The one way in for logits and dense targets: a tile of classes by pixels."""
    if len(view.axes) == 0:
        return load_tile(view, classes, position, inside, other).to(DTYPE)
    else:
        nodes = view.nodes
        if len(nodes) == 0:
            cell = cell_of(axis_of(view.axes, 0), position.column)
            nodes = read_nodes(view, classes, position, cell, inside, DTYPE).nodes
        return tl.where(inside, between(nodes.left, nodes.right, nodes.weight), other)


@triton.jit
def read_nodes(view, classes, position, cell, inside, DTYPE: tl.constexpr):
    """The view with the nodes around pixels: a row of them lies between the same nodes."""
    pointers = view.start + classes.to(position.number.dtype) * view.strides[1]
    nodes = nodes_around(pointers, view.strides, view.axes, position, cell, inside, DTYPE)
    return View(view.start, view.strides, view.axes, nodes)


@triton.jit
def with_pixels(view, column, cell, DTYPE: tl.constexpr):
    """A view with the nodes of some cells, for other pixels of theirs."""
    nodes = of_pixels(view.nodes, view.axes, column, cell, DTYPE)
    return View(view.start, view.strides, view.axes, nodes)


@triton.jit
def store_tile(view, classes, position, inside, values):
    """The one way out: writes a tile of gradients."""
    pointers = tile_pointers(view, classes, position)
    tl.store(pointers, values.to(view.start.dtype.element_ty), mask=inside)


@triton.jit
def fill_pixels(view, position, inside):
    """One number for each pixel, of labels or of the mask; 0 outside."""
    return tl.load(view.start + pixel_offsets(view.strides, position), mask=inside, other=0)
