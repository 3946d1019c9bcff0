"""Logits of lower resolution: where the pixels of the full size lie between their nodes.

Along an axis of `nodes` logits and `size` pixels, pixel x lies at

    (x + 1/2) nodes / size - 1/2        align_corners=False
    x (nodes - 1) / (size - 1)          align_corners=True

as in torch.nn.functional.interpolate. Both are fractions of whole numbers, and are computed without
rounding: which cell a pixel lies in, and how far, are quotient and rest of

    (step x + first) / unit.

Cell m lies between nodes m - 1 and m. The outermost cells, 0 and `nodes`, have a node on one side:
their pixels are copies of the first node and of the last. So every pixel has one cell, and the
first pixel of a cell has a closed form too, by which kernels walk over cells.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import triton
import triton.language as tl

#: How many numbers describe an axis: step, first, unit and nodes.
AXIS = tl.constexpr(4)


# ---- on the host ---------------------------------------------------------------------------------


def axes(nodes: Sequence[int], size: Sequence[int], align_corners: bool) -> tuple[int, ...] | None:
    """The numbers of each axis, the last axis first. None for logits of full size, which are read
    as they lie.

    Args:
        nodes: the spatial sizes of the logits.
        size: those of the pixels.
    """
    if tuple(nodes) == tuple(size):
        return None
    numbers = []
    for low, full in zip(reversed(nodes), reversed(size), strict=True):
        if align_corners and low > 1:
            rule = (low - 1, full - 1, full - 1)
        else:  # from one node all pixels are copied, wherever they lie
            rule = (2 * low, low + full, 2 * full)
        divisor = math.gcd(*rule)
        numbers += [number // divisor for number in rule] + [low]
    return tuple(numbers)


def largest_product(axes: tuple[int, ...] | None, size: Sequence[int]) -> int:
    """The largest number that kernels meet on the way to a pixel's cell."""
    if axes is None:
        return 0
    rules = zip(axes[:: AXIS.value], axes[1 :: AXIS.value], axes[2 :: AXIS.value], strict=True)
    sizes = reversed(size)
    return max(
        step * full + first + 2 * unit
        for (step, first, unit), full in zip(rules, sizes, strict=True)
    )


def widest_cell(axes: tuple[int, ...]) -> int:
    """How many pixels of a row a cell has at most."""
    step, _, unit, nodes = axes[: AXIS.value]
    return -(-unit // (step if nodes > 1 else 2 * step))  # around one node there are two halves


# ---- in kernels ----------------------------------------------------------------------------------


class Axis(NamedTuple):
    """One axis, see above; step, first and unit have no common divisor."""

    step: tl.tensor
    first: tl.tensor
    unit: tl.tensor
    nodes: tl.tensor


class Corners(NamedTuple):
    """The two nodes that pixels lie between along one axis: tiles of (1, pixels), or (1, 1)."""

    near: tl.tensor
    """how far the node before lies behind the first one, in elements"""
    far: tl.tensor
    """the same of the node after"""
    weight: tl.tensor
    """of the node after; the other one has what is left of 1"""


class Nodes(NamedTuple):
    """What pixels lie between in their row, where the kernel holds it."""

    left: tl.tensor
    """(classes, pixels), the node on the left, interpolated between rows and slices"""
    right: tl.tensor
    weight: tl.tensor
    """(1, pixels), of the one on the right"""


@triton.jit
def axis_of(axes, index: tl.constexpr):
    """The axis of columns (0), rows (1) or slices (2); one that is not there has one pixel."""
    if len(axes) > AXIS * index:
        return Axis(
            axes[AXIS * index], axes[AXIS * index + 1], axes[AXIS * index + 2],
            axes[AXIS * index + 3],
        )  # fmt: skip
    else:
        return Axis(1, 1, 1, 1)


@triton.jit
def cell_of(axis, pixel):
    return (pixel * axis.step + axis.first) // axis.unit


@triton.jit
def first_pixel(axis, cell, size):
    """The first pixel of a cell, and so the one after the last of the cell before."""
    ahead = tl.maximum(cell * axis.unit - axis.first, 0)
    return tl.minimum((ahead + (axis.step - 1)) // axis.step, size)


@triton.jit
def share_of_far(axis, pixel, cell, DTYPE: tl.constexpr):
    """How far pixels lie in their cell, which is the weight of the node after: 0 to 1."""
    rest = (pixel * axis.step + axis.first) - cell * axis.unit
    unit = tl.zeros([1, 1], rest.dtype) + axis.unit
    return rest.to(DTYPE) * (1.0 / unit.to(DTYPE))


@triton.jit
def gradient_weights(axis, pixel, cell, DTYPE: tl.constexpr):
    """What the nodes (before, after) get of the gradient of pixels. Pixels beyond the first node or
    the last give it all of theirs."""
    far = share_of_far(axis, pixel, cell, DTYPE)
    far = tl.where(cell == 0, 1.0, tl.where(cell >= axis.nodes, 0.0, far))
    return 1.0 - far, far


@triton.jit
def corners(axis, stride, pixel, cell, DTYPE: tl.constexpr):
    """The nodes around pixels of known cells. Along an axis of as many pixels as nodes both are the
    pixel's own: the next one, were it infinite, would make NaN in spite of its weight of 0."""
    near = tl.minimum(tl.maximum(cell - 1, 0), axis.nodes - 1)
    far = tl.minimum(cell, axis.nodes - 1)
    share = share_of_far(axis, pixel, cell, DTYPE)
    is_copied = (tl.zeros([1, 1], near.dtype) + axis.step) == axis.unit
    return Corners(
        near * stride, tl.where(is_copied, near, far) * stride, tl.where(is_copied, 0.5, share)
    )


@triton.jit
def between(near, far, weight):
    """The order of operations keeps 1 between two ones, which probabilities may be."""
    return near * (1.0 - weight) + far * weight


@triton.jit
def at_row(pointers, rows, column, inside, DTYPE: tl.constexpr):
    """Nodes of one column, interpolated between rows. column: how far it lies behind the first."""
    if len(rows) == 0:
        return tl.load(pointers + column, mask=inside, other=0.0).to(DTYPE)
    else:
        # The column comes last: before it there is one pointer a class.
        near = tl.load(pointers + rows.near + column, mask=inside, other=0.0).to(DTYPE)
        far = tl.load(pointers + rows.far + column, mask=inside, other=0.0).to(DTYPE)
        return between(near, far, rows.weight)


@triton.jit
def at_slice(pointers, slices, rows, column, inside, DTYPE: tl.constexpr):
    """The same, interpolated between slices too."""
    if len(slices) == 0:
        return at_row(pointers, rows, column, inside, DTYPE)
    else:
        near = at_row(pointers + slices.near, rows, column, inside, DTYPE)
        far = at_row(pointers + slices.far, rows, column, inside, DTYPE)
        return between(near, far, slices.weight)


@triton.jit
def nodes_around(pointers, strides, axes, position, cell, inside, DTYPE: tl.constexpr):
    """The nodes between which pixels lie in their row. pointers: to the first logit of each class.
    position: where pixels lie. cell: their cells in the row. inside: which elements are there."""
    rows = ()
    slices = ()
    if len(axes) > AXIS:
        axis = axis_of(axes, 1)
        rows = corners(axis, strides[3], position.row, cell_of(axis, position.row), DTYPE)
    if len(axes) > 2 * AXIS:
        axis = axis_of(axes, 2)
        slices = corners(axis, strides[2], position.depth, cell_of(axis, position.depth), DTYPE)
    columns = corners(axis_of(axes, 0), strides[4], position.column, cell, DTYPE)
    left = at_slice(pointers, slices, rows, columns.near, inside, DTYPE)
    right = at_slice(pointers, slices, rows, columns.far, inside, DTYPE)
    return Nodes(left, right, columns.weight)


@triton.jit
def of_pixels(nodes, axes, column, cell, DTYPE: tl.constexpr):
    """The same nodes, for other pixels of the same cells."""
    weight = corners(axis_of(axes, 0), 1, column, cell, DTYPE).weight
    return Nodes(nodes.left, nodes.right, weight)
