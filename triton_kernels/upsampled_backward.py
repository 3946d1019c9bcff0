"""The backward kernel of logits of lower resolution (upsampling.py): the gradient of their nodes.

    nodes on the left and on the right of the cells of a row -> tile of one pixel of each cell
        -> dz, the gradient of the pixels (backward.py)
        -> shares of the nodes on both sides, added up over the pixels of a cell in their row
        -> shares of the rows of nodes above and below, added up over the rows of a cell

A program owns a patch of nodes: CELLS - 1 columns and `band` rows, of one image, one slice and one
chunk of classes. It visits every pixel that these have a share of, and no other, and writes each
node once: no sum needs atomics, and each is taken in the same order however nodes are shared out.
Pixels between the nodes of two programs are computed by both.

A tile is one pixel of each of CELLS neighbouring cells of a row, so that a thread holds what it
adds up; only when a row of nodes is complete are the two sides of a node, which are in two cells,
brought together.

    for rows of cells of the patch:
        for rows of pixels in them, in each slice that the nodes have a share of:
            for pixels of the cells: left += (1 - wx) dz, right += wx dz
            above += (1 - wy) (left, right), below += wy (left, right)
        write what is above, which is complete; what is below is above the next row of cells

Accounting, at a ratio of r in each of d dimensions. Bytes from memory: integers, mask and a dense
target of full size once, the logits once, the gradient once. From L1 comes for each row of pixels
2^d nodes of a cell. An element costs what it costs in backward.py, 2 multiply-adds to be
interpolated, 2 to be added up, and what the r pixels of a row share. Of sm_90's instructions the 8
elements of a thread take, of 19 and of 150 classes, 225 and 275 a tile and 210 more a row of
pixels. Computed twice are one of CELLS cells of a row, one of `band` + 1 rows of cells, and in
volumes the pixels between two slices of nodes. Eight tiles stay in registers: two of nodes, six of
sums. upsampled_forward.py has the time of both.

With more classes than one chunk the nodes are read for every tile, and each chunk finds the state
of its pixels anew: all chunks are read twice for each that is written. Chunks could share the state
only through memory of full size.
"""

import triton
import triton.language as tl

from .backward import logits_gradient, read_elements, read_pixels
from .chunk import source_of
from .coefficients import chunk_coefficients
from .pixel_math import NONE, SIGMOID, SOFTMAX
from .tile_io import Position, read_nodes, store_tile, view_of, with_pixels
from .upsampling import axis_of, cell_of, first_pixel, gradient_weights


@triton.jit
def from_next_cell(values, CELLS: tl.constexpr):
    """What the next cell holds: (classes, CELLS), where the last one has no next."""
    next_cell = tl.minimum(tl.arange(0, CELLS)[None, :] + 1, CELLS - 1)
    return tl.gather(values, tl.broadcast_to(next_cell, values.shape), 1)


@triton.jit(do_not_specialize=["images", "band", "bands", "strips", "widest"])
def upsampled_backward_kernel(
    grad,
    grad_strides,
    grad_sums,
    grad_totals,
    grad_loss,
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
    images,
    band,
    bands,
    strips,
    widest,
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
    WIDE: tl.constexpr,
    DTYPE: tl.constexpr,
    BLOCK_C: tl.constexpr,
    CHUNKS: tl.constexpr,
    CELLS: tl.constexpr,
    LOSS_OF_IMAGES: tl.constexpr,
):
    """Writes `grad`, a row of nodes at a time. bands, strips: how many patches share the rows and
    the columns of an image. pitches: how many tiles it takes to get through the widest cell.
    CELLS, PITCH: see above. The other arguments are those of `backward_kernel`."""
    INDEPENDENT: tl.constexpr = ACTIVATION == SIGMOID or (ACTIVATION == NONE and CLASSES == 1)
    BINARY: tl.constexpr = CLASSES == 1 and ACTIVATION != SOFTMAX
    FIRST_LABEL: tl.constexpr = 1 if BINARY else 0
    LABEL_COUNT: tl.constexpr = 2 if BINARY else CLASSES
    INDEX: tl.constexpr = tl.int64 if WIDE else tl.int32

    column_axis = axis_of(logits_axes, 0)
    row_axis = axis_of(logits_axes, 1)
    slice_axis = axis_of(logits_axes, 2)
    program = tl.program_id(0)
    own_chunk = program % CHUNKS
    patch = program // CHUNKS
    first_node = (patch % strips) * (CELLS - 1)
    patch = patch // strips
    first_row = ((patch % bands) * band).to(INDEX)
    patch = patch // bands
    node_slice = (patch % slice_axis.nodes).to(INDEX)
    image = (patch // slice_axis.nodes).to(tl.int64)
    if LOSS_OF_IMAGES:
        grad_loss += image
    grad_view = view_of(grad, grad_strides, None, image)
    logits_view = view_of(logits, logits_strides, logits_axes, image)
    integers_view = view_of(integers, integers_strides, None, image)
    dense_view = view_of(dense, dense_strides, dense_axes, image)
    mask_view = view_of(mask, mask_strides, None, image)
    coefficients = chunk_coefficients(
        grad_sums, grad_totals, grad_loss, ce_class_weights, 0, image, images, student_scale,
        INTEGERS, INTEGER_COLUMNS, DENSE_COLUMNS, CLASSES, BLOCK_C, DTYPE,
    )  # fmt: skip
    label_deficit = tl.full([1, 1], label_deficit, DTYPE)
    target_elsewhere = tl.full([1, 1], target_elsewhere, DTYPE)
    teacher_scale = tl.full([1, 1], teacher_scale, DTYPE)
    scale = tl.full([1, 1], student_scale, DTYPE)

    # Cell m of the tile lies between nodes first_node + m - 1 and first_node + m.
    cell = tl.minimum((first_node + tl.arange(0, CELLS)[None, :]).to(INDEX), column_axis.nodes + 1)
    cell_start = first_pixel(column_axis, cell, width)
    cell_end = first_pixel(column_axis, cell + 1, width)
    nodes = (first_node + tl.arange(0, CELLS)[None, :]).to(INDEX)
    is_own = (tl.arange(0, CELLS)[None, :] < CELLS - 1) & (nodes < column_axis.nodes)
    own_classes = own_chunk * BLOCK_C + tl.arange(0, BLOCK_C)[:, None]
    inside = (own_classes < CLASSES) & (cell <= column_axis.nodes)

    slice_start = first_pixel(slice_axis, node_slice, depth)
    slice_end = first_pixel(slice_axis, node_slice + 2, depth)
    above_left = tl.zeros([BLOCK_C, CELLS], DTYPE)
    above_right = tl.zeros([BLOCK_C, CELLS], DTYPE)
    last_row = tl.minimum(first_row + band, row_axis.nodes)
    for cell_row in range(first_row, last_row + 1):
        row_cell = tl.full([1, 1], cell_row, INDEX)
        below_left = tl.zeros([BLOCK_C, CELLS], DTYPE)
        below_right = tl.zeros([BLOCK_C, CELLS], DTYPE)
        row_start = first_pixel(row_axis, cell_row, height)
        row_end = first_pixel(row_axis, cell_row + 1, height)
        for slice_number in range(slice_start, slice_end):
            for row_number in range(row_start, row_end):
                plane = tl.full([1, 1], slice_number, INDEX)
                row = tl.full([1, 1], row_number, INDEX)
                source_view = logits_view
                if CHUNKS == 1:
                    start = Position(cell_start, plane, row, cell_start)
                    source_view = read_nodes(logits_view, own_classes, start, cell, inside, DTYPE)
                left = tl.zeros([BLOCK_C, CELLS], DTYPE)
                right = tl.zeros([BLOCK_C, CELLS], DTYPE)
                for number in range(widest):
                    column = cell_start + number
                    in_image = column < cell_end
                    position = Position((plane * height + row) * width + column, plane, row, column)
                    pixels_view = source_view
                    if CHUNKS == 1:
                        pixels_view = with_pixels(source_view, column, cell, DTYPE)
                    source = source_of(
                        pixels_view, integers_view, dense_view, mask_view, position, in_image,
                        (depth, height, width), ignore_index, label_deficit, target_elsewhere,
                        teacher_scale, INTEGERS, LABEL_COUNT, WINDOW, SPATIAL, DTYPE,
                    )  # fmt: skip
                    chunk, elements, state, sums = read_pixels(
                        source, coefficients, grad_sums, grad_totals, grad_loss, ce_class_weights,
                        image, images, student_scale, scale, ACTIVATION, INTEGERS, INTEGER_COLUMNS,
                        DENSE_COLUMNS, IGNORES, HARD, FIRST_LABEL, TEACHER, TEMPERED, CLASSES,
                        BLOCK_C, CHUNKS, DTYPE,
                    )  # fmt: skip
                    own_coefficients = coefficients
                    if CHUNKS > 1:
                        chunk, own_coefficients, elements = read_elements(
                            source, state, grad_sums, grad_totals, grad_loss, ce_class_weights,
                            own_chunk, image, images, student_scale, ACTIVATION, INTEGERS,
                            INTEGER_COLUMNS, DENSE_COLUMNS, IGNORES, HARD, FIRST_LABEL, TEACHER,
                            CLASSES, BLOCK_C, DTYPE,
                        )  # fmt: skip
                    dz = logits_gradient(
                        chunk, state, elements, own_coefficients, sums, scale, ACTIVATION,
                        INDEPENDENT, INTEGER_COLUMNS, DENSE_COLUMNS, IGNORES, TEMPERED,
                    )  # fmt: skip
                    of_left, of_right = gradient_weights(column_axis, column, cell, DTYPE)
                    left += of_left * dz
                    right += of_right * dz
                of_above, of_below = gradient_weights(row_axis, row, row_cell, DTYPE)
                if SPATIAL == 3:
                    plane_cell = cell_of(slice_axis, plane)
                    before, after = gradient_weights(slice_axis, plane, plane_cell, DTYPE)
                    of_slice = tl.where(plane_cell == node_slice, after, before)
                    of_above *= of_slice
                    of_below *= of_slice
                above_left += of_above * left
                above_right += of_above * right
                below_left += of_below * left
                below_right += of_below * right
        if cell_row > first_row:
            gradient = above_right + from_next_cell(above_left, CELLS)
            node_row = tl.full([1, 1], cell_row - 1, INDEX)
            node_plane = tl.full([1, 1], node_slice, INDEX)
            node = Position(nodes, node_plane, node_row, nodes)
            store_tile(grad_view, own_classes, node, is_own & (own_classes < CLASSES), gradient)
        above_left = below_left
        above_right = below_right
