"""How a tile gets its numbers: everything that knows how tensors lie in memory.

A tile is (BLOCK_C, BLOCK_P): classes by pixels of one image. A view is (first element of the image,
strides); strides are (image, class, depth, row, column), or (image, class, pixel) where one stride
leads from pixel to pixel, as in both memory formats: then no pixel number is ever divided.
"""

import triton
import triton.language as tl


@triton.jit
def view_of(tensor, strides, image):
    """The view of an image; empty where there is no tensor."""
    if tensor is None:
        return ()
    else:
        return tensor + image * strides[0], strides


@triton.jit
def locate(pixel, height, width, WIDE: tl.constexpr):
    """Where pixels lie: (number, depth, row, column). 64 bits wherever an offset may need them."""
    if WIDE:
        pixel = pixel.to(tl.int64)
    line = pixel // width
    return pixel, line // height, line % height, pixel % width


@triton.jit
def pixel_offsets(strides, position):
    if len(strides) == 3:
        return position[0] * strides[2]
    else:
        return position[1] * strides[2] + position[2] * strides[3] + position[3] * strides[4]


@triton.jit
def tile_offsets(strides, classes, position):
    return classes.to(position[0].dtype) * strides[1] + pixel_offsets(strides, position)


@triton.jit
def fill_tile(view, classes, position, inside, other):
    """The one way in for logits and dense targets: a tile of classes by pixels."""
    return tl.load(view[0] + tile_offsets(view[1], classes, position), mask=inside, other=other)


@triton.jit
def store_tile(view, classes, position, inside, values):
    at = view[0] + tile_offsets(view[1], classes, position)
    tl.store(at, values.to(view[0].dtype.element_ty), mask=inside)


@triton.jit
def read_mask(view, position, inside):
    """Which pixels count by the mask."""
    at = view[0] + pixel_offsets(view[1], position)
    return inside & (tl.load(at, mask=inside, other=0) != 0)


@triton.jit
def read_codes(view, position, inside, ignore_index, LABEL_COUNT: tl.constexpr):
    """The label of each pixel, -1 where it is ignored, -2 where it is none."""
    at = view[0] + pixel_offsets(view[1], position)
    label = tl.load(at, mask=inside, other=0).to(tl.int64)
    code = tl.where((label >= 0) & (label < LABEL_COUNT), label, -2)
    return tl.where(label == ignore_index, -1, code).to(tl.int32)


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
    """Which pixels have another label in their window and no ignored one (section 2.4.1 of the
    paper). A window that leaves the image is read at its edge, which it holds anyway. The labels
    come from cache: only their first reader waits for memory."""
    depth, height, width = size
    REACH: tl.constexpr = WINDOW // 2
    REACH_Z: tl.constexpr = REACH if SPATIAL > 2 else 0
    REACH_Y: tl.constexpr = REACH if SPATIAL > 1 else 0
    lowest = tl.full(inside.shape, LABEL_COUNT, tl.int32)
    highest = tl.full(inside.shape, -1, tl.int32)
    for dz in range(-REACH_Z, REACH_Z + 1):
        z = tl.minimum(tl.maximum(position[1] + dz, 0), depth - 1)
        for dy in range(-REACH_Y, REACH_Y + 1):
            y = tl.minimum(tl.maximum(position[2] + dy, 0), height - 1)
            for dx in tl.static_range(WINDOW):
                x = tl.minimum(tl.maximum(position[3] + (dx - REACH), 0), width - 1)
                neighbour = ((z * height + y) * width + x, z, y, x)
                code = read_codes(view, neighbour, inside, ignore_index, LABEL_COUNT)
                lowest = tl.minimum(lowest, code)
                highest = tl.maximum(highest, code)
    return (lowest >= 0) & (lowest < highest)
