"""Counting for metrics, over maps of small integers: labels become marks before the pass over the
logits, and the marks of predictions are searched for boundaries after it.

A mark is one integer for each pixel, of the fewest bytes that hold it: two flags, and above them a
class. Above all classes come CLASSES, for a label that is out of range, and CLASSES + 1, for one
that is ignored.
"""

import triton
import triton.language as tl

from .labels import IGNORED, OUT_OF_RANGE, label_codes
from .tile_io import Position, fill_pixels, locate, view_of

#: Whether the pixel counts, if its label is in range.
COUNTS = tl.constexpr(1)
#: Of labels: whether they have a boundary here. Of predictions: whether the prediction is right at
#: a boundary of the labels.
AT_BOUNDARY = tl.constexpr(2)
FLAGS = tl.constexpr(2)

#: The columns of bins, and the rows of images: `reference_tally.BIN_COLUMNS`, `IMAGE_ROWS`.
PIXELS = tl.constexpr(0)
CORRECT = tl.constexpr(1)
PROBABILITY = tl.constexpr(2)
COLUMNS = tl.constexpr(3)
HITS = tl.constexpr(0)
PREDICTED = tl.constexpr(1)
LABELLED = tl.constexpr(2)
BOUNDARY_HITS = tl.constexpr(3)
BOUNDARY_PREDICTED = tl.constexpr(4)
BOUNDARY_LABELLED = tl.constexpr(5)
ROWS = tl.constexpr(6)


@triton.jit
def clear(numbers, count, program, programs, BLOCK: tl.constexpr):
    """Makes int64 numbers 0, together with other programs."""
    zeros = tl.zeros([BLOCK], tl.int64)
    for start in range(program * BLOCK, count, programs * BLOCK):
        place = start + tl.arange(0, BLOCK)
        tl.store(numbers + place, zeros, mask=place < count)


@triton.jit
def class_at(source, position, inside, ignore_index, CLASSES: tl.constexpr, OF_MARKS: tl.constexpr):
    """The class that a map shows: less than 0 where the pixel is ignored."""
    if OF_MARKS:
        shown = tl.load(source + position.number, mask=inside, other=0).to(tl.int32) >> FLAGS
        return tl.where(shown > CLASSES, IGNORED, shown)
    else:
        code = label_codes(source, position, inside, ignore_index, CLASSES)
        # A label out of range is none that is ignored.
        return tl.where(code == OUT_OF_RANGE, CLASSES, code)


@triton.jit
def has_other_class(
    source,
    position,
    inside,
    size,
    ignore_index,
    CLASSES: tl.constexpr,
    OF_MARKS: tl.constexpr,
    RADIUS: tl.constexpr,
    SPATIAL: tl.constexpr,
):
    """Whether pixels are at a boundary of a map: their window holds another class, and none that is
    ignored. A window that leaves the image is read at the image's edge, which it holds anyway."""
    depth, height, width = size
    DEPTH_RADIUS: tl.constexpr = RADIUS if SPATIAL > 2 else 0
    ROW_RADIUS: tl.constexpr = RADIUS if SPATIAL > 1 else 0
    lowest = tl.full(inside.shape, CLASSES + 1, tl.int32)
    highest = tl.full(inside.shape, -1, tl.int32)
    for depth_offset in range(-DEPTH_RADIUS, DEPTH_RADIUS + 1):
        plane = tl.minimum(tl.maximum(position.depth + depth_offset, 0), depth - 1)
        for row_offset in range(-ROW_RADIUS, ROW_RADIUS + 1):
            row = tl.minimum(tl.maximum(position.row + row_offset, 0), height - 1)
            for column_offset in range(-RADIUS, RADIUS + 1):
                column = tl.minimum(tl.maximum(position.column + column_offset, 0), width - 1)
                number = (plane * height + row) * width + column
                neighbour = Position(number, plane, row, column)
                shown = class_at(source, neighbour, inside, ignore_index, CLASSES, OF_MARKS)
                lowest = tl.minimum(lowest, shown)
                highest = tl.maximum(highest, shown)
    return (lowest >= 0) & (lowest < highest)


@triton.jit
def mark_kernel(
    marks,
    labels,
    labels_strides,
    mask,
    mask_strides,
    of_images,
    confusion,
    calibration,
    classwise,
    wrong,
    copies,
    n_of_images,
    n_confusion,
    n_calibration,
    n_classwise,
    n_copies,
    depth,
    height,
    width,
    images,
    ignore_index,
    CLASSES: tl.constexpr,
    RADIUS: tl.constexpr,
    SPATIAL: tl.constexpr,
    WIDE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Writes the marks of labels. It also makes 0 what the next kernels add to.

    RADIUS: of windows; 0 where boundaries are not looked for.
    """
    program = tl.program_id(0).to(tl.int64)
    programs = tl.num_programs(0)
    clear(of_images, n_of_images, program, programs, BLOCK)
    clear(confusion, n_confusion, program, programs, BLOCK)
    clear(calibration, n_calibration, program, programs, BLOCK)
    clear(classwise, n_classwise, program, programs, BLOCK)
    clear(wrong, 1, program, programs, BLOCK)
    clear(copies, n_copies, program, programs, BLOCK)

    pixels = depth * height * width
    tiles = tl.cdiv(pixels, BLOCK)
    for job in range(program, images * tiles, programs):
        image = job // tiles
        pixel = (job % tiles).to(tl.int32) * BLOCK + tl.arange(0, BLOCK)[None, :]
        if WIDE:
            pixel = job % tiles * BLOCK + tl.arange(0, BLOCK)[None, :]
        inside = pixel < pixels
        position = locate(pixel, height, width, WIDE)
        labels_view = view_of(labels, labels_strides, None, image)
        code = class_at(labels_view, position, inside, ignore_index, CLASSES, False)
        counts = inside & (code >= 0)
        mask_view = view_of(mask, mask_strides, None, image)
        if len(mask_view) > 0:
            counts = counts & (fill_pixels(mask_view, position, inside) != 0)
        mark = tl.where(code < 0, CLASSES + 1, code) << FLAGS
        mark = mark | tl.where(counts, COUNTS, 0)
        if RADIUS > 0:
            at_boundary = has_other_class(
                labels_view, position, inside, (depth, height, width), ignore_index, CLASSES,
                False, RADIUS, SPATIAL,
            )  # fmt: skip
            mark = mark | tl.where(at_boundary, AT_BOUNDARY, 0)
        to = marks + image * pixels + pixel
        tl.store(to, mark.to(marks.dtype.element_ty), mask=inside)


@triton.jit
def count_boundaries(
    marks,
    of_images,
    job,
    tiles,
    size,
    CLASSES: tl.constexpr,
    RADIUS: tl.constexpr,
    SPATIAL: tl.constexpr,
    WIDE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Counts boundary pixels of the predictions, which are few, among BLOCK pixels of an image."""
    depth, height, width = size
    pixels = depth * height * width
    image = (job // tiles).to(tl.int64)
    pixel = job % tiles * BLOCK + tl.arange(0, BLOCK)[None, :]
    if WIDE:
        pixel = (job % tiles).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)[None, :]
    inside = pixel < pixels
    position = locate(pixel, height, width, WIDE)
    of_image = marks + image * pixels
    at_boundary = has_other_class(
        of_image, position, inside, size, 0, CLASSES, True, RADIUS, SPATIAL
    )
    mark = tl.load(of_image + pixel, mask=inside, other=0).to(tl.int32)
    is_counted = at_boundary & inside & ((mark & COUNTS) != 0)
    to = of_images + image * (ROWS * CLASSES) + (mark >> FLAGS)
    one = tl.full(mark.shape, 1, tl.int64)
    tl.atomic_add(to + BOUNDARY_PREDICTED * CLASSES, one, mask=is_counted, sem="relaxed")
    is_hit = is_counted & ((mark & AT_BOUNDARY) != 0)
    tl.atomic_add(to + BOUNDARY_HITS * CLASSES, one, mask=is_hit, sem="relaxed")
