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
    """The position of pixels, (number, depth, row, column), in 64 bits where offsets need them."""
    if WIDE:
        pixel = pixel.to(tl.int64)
    line = pixel // width
    return pixel, line // height, line % height, pixel % width


@triton.jit
def pixel_offsets(strides, position):
    """How far pixels lie behind the first one of their image and class, in elements."""
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
    """The one way out: writes a tile of gradients."""
    pointers = view[0] + tile_offsets(view[1], classes, position)
    tl.store(pointers, values.to(view[0].dtype.element_ty), mask=inside)


@triton.jit
def fill_pixels(view, position, inside):
    """One number for each pixel, of labels or of the mask; 0 outside."""
    return tl.load(view[0] + pixel_offsets(view[1], position), mask=inside, other=0)
