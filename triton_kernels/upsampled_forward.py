"""The forward kernel of logits of lower resolution (upsampling.py): that of full-size ones
(forward.py), but for the order in which it walks over pixels.

    nodes on the left and on the right of the cells of a row -> tile of one pixel of each cell

A tile is one pixel of each of BLOCK_P neighbouring cells of a row. The nodes on both sides of the
cells, interpolated between rows of nodes, are read once for all pixels of the cells in that row,
and stay in registers; no pixel of full size is ever in memory.

Accounting, at a ratio of r in each of d dimensions. Bytes from memory: the logits once, integers,
mask and a dense target of full size once. From L1 comes for each row of pixels 2^d nodes of a cell.
An element costs what it costs in forward.py, 2 multiply-adds to be interpolated, and what the r
pixels of a row share. Of sm_90's instructions the 8 elements of a thread take, of 19 and of 150
classes, 241 and 273 a tile, as many an element as in forward.py, and 180 more a row of pixels. It
is bound by instructions. Forward and backward of ratio 4 take 90 instructions of a warp a pixel
with 19 classes, and 810 with 150: an H100 that issues all it can needs 0.7 and 0.85 of the time in
which it moves the bytes of kernels that interpolate to memory before and after (5 times the full
size in float32, which logits of every type are interpolated to).
"""

import triton
import triton.language as tl

from .chunk import source_of
from .forward import add_tile
from .pixel_math import SOFTMAX
from .sums import flush, flush_totals, zeros
from .tile_io import Position, read_nodes, view_of, with_pixels
from .upsampling import axis_of, first_pixel


@triton.jit(do_not_specialize=["parts", "strips", "rows", "pixels", "widest"])
def upsampled_forward_kernel(
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
    strips,
    rows,
    pixels,
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
    SUMS: tl.constexpr,
    MAXIMA: tl.constexpr,
    TOTALS: tl.constexpr,
    WIDE: tl.constexpr,
    DTYPE: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_P: tl.constexpr,
):
    """One row of partial sums for each program, see `forward_kernel`, for other arguments too.

    `parts` programs share an image. They take by turns what is added up at a time: BLOCK_P cells,
    one of `strips` that a row has, in `rows` rows of pixels; and of the pixels of a cell in a row,
    `widest` at most, `pixels` one after another.
    """
    LABEL_COUNT: tl.constexpr = 2 if CLASSES == 1 and ACTIVATION != SOFTMAX else CLASSES
    INDEX: tl.constexpr = tl.int64 if WIDE else tl.int32
    ROW: tl.constexpr = (SUMS + MAXIMA) * CLASSES + TOTALS

    program = tl.program_id(0)
    image = (program // parts).to(tl.int64)
    logits_view = view_of(logits, logits_strides, logits_axes, image)
    integers_view = view_of(integers, integers_strides, None, image)
    dense_view = view_of(dense, dense_strides, dense_axes, image)
    mask_view = view_of(mask, mask_strides, None, image)
    row = partials + program.to(tl.int64) * ROW
    label_deficit = tl.full([1, 1], label_deficit, DTYPE)
    target_elsewhere = tl.full([1, 1], target_elsewhere, DTYPE)
    teacher_scale = tl.full([1, 1], teacher_scale, DTYPE)
    student_scale = tl.full([1, 1], student_scale, DTYPE)
    column_axis = axis_of(logits_axes, 0)
    classes = tl.arange(0, BLOCK_C)[:, None]
    lines = depth * height
    pieces = tl.cdiv(widest, pixels)

    first = program % parts
    for group in range(first, tl.cdiv(lines, rows) * strips * pieces, parts):
        is_first = group == first
        sums = zeros(SUMS, BLOCK_C, BLOCK_P, DTYPE)
        maxima = zeros(MAXIMA, BLOCK_C, BLOCK_P, DTYPE)
        totals = zeros(TOTALS, 1, BLOCK_P, DTYPE)
        strip = group % strips
        first_in_cell = group // strips % pieces * pixels
        first_line = group // (strips * pieces) * rows
        cell = (strip * BLOCK_P + tl.arange(0, BLOCK_P)[None, :]).to(INDEX)
        cell = tl.minimum(cell, column_axis.nodes + 1)
        cell_start = first_pixel(column_axis, cell, width) + first_in_cell
        cell_end = first_pixel(column_axis, cell + 1, width)
        inside = (classes < CLASSES) & (cell <= column_axis.nodes)
        for line in range(first_line, tl.minimum(first_line + rows, lines)):
            plane = tl.full([1, 1], line // height, INDEX)
            line_in_plane = tl.full([1, 1], line % height, INDEX)
            start = Position(cell_start, plane, line_in_plane, cell_start)
            nodes_view = read_nodes(logits_view, classes, start, cell, inside, DTYPE)
            for number in range(tl.minimum(pixels, widest - first_in_cell)):
                column = cell_start + number
                in_image = column < cell_end
                position = Position(
                    (plane * height + line_in_plane) * width + column, plane, line_in_plane, column
                )
                source = source_of(
                    with_pixels(nodes_view, column, cell, DTYPE), integers_view, dense_view,
                    mask_view, position, in_image, (depth, height, width), ignore_index,
                    label_deficit, target_elsewhere, teacher_scale, INTEGERS, LABEL_COUNT, WINDOW,
                    SPATIAL, DTYPE,
                )  # fmt: skip
                sums, maxima, totals = add_tile(
                    source, sums, maxima, totals, row, is_first, ce_class_weights, student_scale,
                    CLASSES, ACTIVATION, INTEGERS, INTEGER_COLUMNS, DENSE_COLUMNS, IGNORES, HARD,
                    TEACHER, TEMPERED, SUMS, MAXIMA, TOTALS, DTYPE, BLOCK_C, 1, BLOCK_P, 1, False,
                )  # fmt: skip
        flush(row, sums, maxima, 0, is_first, CLASSES, BLOCK_C, SUMS, MAXIMA)
        flush_totals(row + (SUMS + MAXIMA) * CLASSES, totals, is_first, TOTALS)
        # The next group reads what this one wrote.
        tl.debug_barrier()
