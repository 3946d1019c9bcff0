"""The backward kernel: the gradient of the logits, from that of the sums and of cross-entropies.

    tile of logits -> state of each pixel (softmax) -> p, y -> g = d loss / d p
        softmax: dz = p (g - sum over classes of p g)
        sigmoid: dz = g p (1 - p)
        plus, for a cross-entropy with a softmax, p (sum over classes of q w y) - q w y

Here q is the gradient of the loss by the sum of cross-entropies, and w the weight of a class.

A program walks over tiles of one image; the coefficients of g are the image's. With more classes
than one tile holds (CHUNKS > 1) the classes of some pixels are read three times: for the softmax's
state, for the sum over classes, for the gradient. The second and third time finds in cache what the
first has read.

Bytes of memory: the logits, integers, dense target and mask read once, the gradient written once.
It may be written over the logits: a chunk is read for the last time before it is written.
"""

from typing import NamedTuple

import triton
import triton.language as tl

from .chunk import Chunk, read_chunk, source_of
from .coefficients import chunk_coefficients
from .columns import CROSS_ENTROPY
from .cross_entropy import ce_gradient
from .pixel_math import (
    NONE,
    SIGMOID,
    SOFTMAX,
    hard_gradient,
    label_target,
    overlap_gradient,
    probabilities,
    tempered_probabilities,
)
from .pixel_state import PixelState, merge_pixel_states, pixel_state, poisoned
from .softmax import exp_sum
from .tile_io import locate, store_tile, view_of


class Elements(NamedTuple):
    """The elements of a chunk: tiles of (classes, pixels)."""

    p: tl.tensor
    p_not: tl.tensor
    """1 - p, see `pixel_math.probabilities`"""
    g: tl.tensor
    """the gradient by p, of the overlaps"""
    label_y: tl.tensor
    """the target that the integers make; empty without them"""
    dense_y: tl.tensor
    """the dense target; empty without one"""


class ClassSums(NamedTuple):
    """Sums over the classes of each pixel, which a softmax needs: tiles of (1, pixels)."""

    dot: tl.tensor
    """of p g"""
    label_q_mass: tl.tensor
    """of q w y, with the target of integers: q times its target mass"""
    dense_q_mass: tl.tensor
    """of q w y, with the dense target"""


class Pixels(NamedTuple):
    """Some pixels before their gradient is computed."""

    chunk: Chunk
    """the first one"""
    elements: Elements
    """of this chunk"""
    state: PixelState
    sums: ClassSums


@triton.jit
def chunk_elements(
    chunk,
    state,
    labels,
    coefficients,
    ACTIVATION: tl.constexpr,
    INTEGERS: tl.constexpr,
    INTEGER_COLUMNS: tl.constexpr,
    DENSE_COLUMNS: tl.constexpr,
    IGNORES: tl.constexpr,
    HARD: tl.constexpr,
    TEACHER: tl.constexpr,
):
    valid = chunk.valid
    is_label = chunk.is_label
    p, p_not = probabilities(chunk.z, state.softmax, ACTIVATION)
    g = tl.zeros_like(p)
    label_y = ()
    dense_y = ()
    if INTEGERS:
        target_elsewhere = tl.where(valid & chunk.inside, labels.target_elsewhere, 0.0)
        label_y, gap = label_target(is_label, p, p_not, labels.label_deficit, target_elsewhere)
        if HARD:
            g = hard_gradient(coefficients.labels, p, is_label, INTEGER_COLUMNS)
        else:
            g = overlap_gradient(coefficients.labels, p, label_y, gap, INTEGER_COLUMNS)
    if DENSE_COLUMNS:
        dense_y = chunk.dense
        if TEACHER:
            dense_y = probabilities(chunk.dense, state.teacher_softmax, ACTIVATION)[0]
        dense_y = tl.where(valid, dense_y, 0.0)
        g += overlap_gradient(coefficients.dense, p, dense_y, dense_y - p, DENSE_COLUMNS)
    if IGNORES and ACTIVATION == SOFTMAX:
        # What is ignored is a class of the softmax all the same, and has no overlap.
        g = tl.where(valid, g, 0.0)
    return Elements(p, p_not, g, label_y, dense_y)


@triton.jit
def read_elements(
    source,
    state,
    grad_sums,
    grad_totals,
    grad_loss,
    ce_class_weights,
    chunk_index,
    image,
    images,
    student_scale,
    ACTIVATION: tl.constexpr,
    INTEGERS: tl.constexpr,
    INTEGER_COLUMNS: tl.constexpr,
    DENSE_COLUMNS: tl.constexpr,
    IGNORES: tl.constexpr,
    HARD: tl.constexpr,
    FIRST_LABEL: tl.constexpr,
    TEACHER: tl.constexpr,
    CLASSES: tl.constexpr,
    BLOCK_C: tl.constexpr,
    DTYPE: tl.constexpr,
):
    """(chunk, coefficients, elements) of a chunk that registers do not hold any more."""
    chunk = read_chunk(
        source, chunk_index, ACTIVATION, INTEGERS, DENSE_COLUMNS, IGNORES, False, FIRST_LABEL,
        TEACHER, CLASSES, BLOCK_C, DTYPE,
    )  # fmt: skip
    coefficients = chunk_coefficients(
        grad_sums, grad_totals, grad_loss, ce_class_weights, chunk_index, image, images,
        student_scale, INTEGERS, INTEGER_COLUMNS, DENSE_COLUMNS, CLASSES, BLOCK_C, DTYPE,
    )  # fmt: skip
    elements = chunk_elements(
        chunk, state, source.labels, coefficients, ACTIVATION, INTEGERS, INTEGER_COLUMNS,
        DENSE_COLUMNS, IGNORES, HARD, TEACHER,
    )  # fmt: skip
    return chunk, coefficients, elements


@triton.jit
def class_sums(elements, coefficients, INTEGER_COLUMNS: tl.constexpr, DENSE_COLUMNS: tl.constexpr):
    """The sums over the classes of one chunk."""
    dot = tl.sum(elements.p * elements.g, 0, keep_dims=True)
    label_q_mass = tl.zeros_like(dot)
    dense_q_mass = tl.zeros_like(dot)
    if CROSS_ENTROPY & INTEGER_COLUMNS:
        label_q_mass = tl.sum(coefficients.label_qw * elements.label_y, 0, keep_dims=True)
    if CROSS_ENTROPY & DENSE_COLUMNS:
        dense_q_mass = tl.sum(coefficients.dense_qw * elements.dense_y, 0, keep_dims=True)
    return ClassSums(dot, label_q_mass, dense_q_mass)


@triton.jit
def add_class_sums(a, b):
    return ClassSums(
        a.dot + b.dot, a.label_q_mass + b.label_q_mass, a.dense_q_mass + b.dense_q_mass
    )


@triton.jit
def read_pixels(
    source,
    coefficients,
    grad_sums,
    grad_totals,
    grad_loss,
    ce_class_weights,
    image,
    images,
    student_scale,
    scale,
    ACTIVATION: tl.constexpr,
    INTEGERS: tl.constexpr,
    INTEGER_COLUMNS: tl.constexpr,
    DENSE_COLUMNS: tl.constexpr,
    IGNORES: tl.constexpr,
    HARD: tl.constexpr,
    FIRST_LABEL: tl.constexpr,
    TEACHER: tl.constexpr,
    TEMPERED: tl.constexpr,
    CLASSES: tl.constexpr,
    BLOCK_C: tl.constexpr,
    CHUNKS: tl.constexpr,
    DTYPE: tl.constexpr,
):
    """What all classes of some pixels say. coefficients: of the first chunk. scale: student_scale
    as a tile."""
    chunk = read_chunk(
        source, 0, ACTIVATION, INTEGERS, DENSE_COLUMNS, IGNORES, False, FIRST_LABEL, TEACHER,
        CLASSES, BLOCK_C, DTYPE,
    )  # fmt: skip
    state = pixel_state(chunk, scale, ACTIVATION, INTEGERS, TEACHER, False, False, TEMPERED, False)
    for chunk_index in range(1, CHUNKS):
        other_chunk = read_chunk(
            source, chunk_index, ACTIVATION, INTEGERS, DENSE_COLUMNS, IGNORES, False,
            FIRST_LABEL, TEACHER, CLASSES, BLOCK_C, DTYPE,
        )  # fmt: skip
        other_state = pixel_state(
            other_chunk, scale, ACTIVATION, INTEGERS, TEACHER, False, False, TEMPERED, False
        )
        state = merge_pixel_states(state, other_state, scale, ACTIVATION, TEACHER, TEMPERED, False)
    state = poisoned(state, source.labels.poison, ACTIVATION, INTEGERS)

    elements = chunk_elements(
        chunk, state, source.labels, coefficients, ACTIVATION, INTEGERS, INTEGER_COLUMNS,
        DENSE_COLUMNS, IGNORES, HARD, TEACHER,
    )  # fmt: skip
    sums = class_sums(elements, coefficients, INTEGER_COLUMNS, DENSE_COLUMNS)
    for chunk_index in range(1, CHUNKS):
        other_chunk, other_coefficients, other_elements = read_elements(
            source, state, grad_sums, grad_totals, grad_loss, ce_class_weights, chunk_index,
            image, images, student_scale, ACTIVATION, INTEGERS, INTEGER_COLUMNS, DENSE_COLUMNS,
            IGNORES, HARD, FIRST_LABEL, TEACHER, CLASSES, BLOCK_C, DTYPE,
        )  # fmt: skip
        other_sums = class_sums(other_elements, other_coefficients, INTEGER_COLUMNS, DENSE_COLUMNS)
        sums = add_class_sums(sums, other_sums)
    return Pixels(chunk, elements, state, sums)


@triton.jit
def logits_gradient(
    chunk,
    state,
    elements,
    coefficients,
    sums,
    student_scale,
    ACTIVATION: tl.constexpr,
    INDEPENDENT: tl.constexpr,
    INTEGER_COLUMNS: tl.constexpr,
    DENSE_COLUMNS: tl.constexpr,
    IGNORES: tl.constexpr,
    TEMPERED: tl.constexpr,
):
    """dz of a chunk; `sums` are those over all classes."""
    z = chunk.z
    p, p_not, g, label_y, dense_y = elements
    if ACTIVATION == SOFTMAX:
        dz = p * (g - sums.dot)
    elif ACTIVATION == SIGMOID:
        dz = g * p * p_not
    else:
        dz = g
    if CROSS_ENTROPY & INTEGER_COLUMNS:
        dz += ce_gradient(
            z, p, label_y, coefficients.label_qw, sums.label_q_mass, 1.0, ACTIVATION,
            INDEPENDENT,
        )  # fmt: skip
    if CROSS_ENTROPY & DENSE_COLUMNS:
        tempered_p = p
        if TEMPERED:
            tempered_p = tempered_probabilities(z, state.softmax, student_scale, ACTIVATION)
        dz += ce_gradient(
            z, tempered_p, dense_y, coefficients.dense_qw, sums.dense_q_mass, student_scale,
            ACTIVATION, INDEPENDENT,
        )  # fmt: skip
    # What does not count may hold anything.
    if IGNORES and ACTIVATION == SOFTMAX:
        # A class that does not count has its part in the softmax of those that do. Where none does
        # that part is 0, but for logits that make no softmax.
        return tl.where(chunk.valid | (exp_sum(state.softmax) > 0), dz, 0.0)
    else:
        return tl.where(chunk.valid, dz, 0.0)


@triton.jit(do_not_specialize=["images"])
def backward_kernel(
    grad,
    grad_strides,
    grad_sums,
    grad_totals,
    grad_loss,
    logits,
    logits_strides,
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
    parts,
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
    BLOCK_P: tl.constexpr,
    LOSS_OF_IMAGES: tl.constexpr,
):
    """Writes `grad`, a tile at a time. grad_sums and grad_totals are multiplied with grad_loss, one
    number, or with LOSS_OF_IMAGES one for each image; or it is None. The other arguments are those
    of the forward."""
    INDEPENDENT: tl.constexpr = ACTIVATION == SIGMOID or (ACTIVATION == NONE and CLASSES == 1)
    BINARY: tl.constexpr = CLASSES == 1 and ACTIVATION != SOFTMAX
    FIRST_LABEL: tl.constexpr = 1 if BINARY else 0
    LABEL_COUNT: tl.constexpr = 2 if BINARY else CLASSES

    program = tl.program_id(0)
    image = (program // parts).to(tl.int64)
    if LOSS_OF_IMAGES:
        grad_loss += image
    grad_view = view_of(grad, grad_strides, None, image)
    logits_view = view_of(logits, logits_strides, None, image)
    integers_view = view_of(integers, integers_strides, None, image)
    dense_view = view_of(dense, dense_strides, dense_axes, image)
    mask_view = view_of(mask, mask_strides, None, image)
    pixels = depth * height * width
    coefficients = chunk_coefficients(
        grad_sums, grad_totals, grad_loss, ce_class_weights, 0, image, images, student_scale,
        INTEGERS, INTEGER_COLUMNS, DENSE_COLUMNS, CLASSES, BLOCK_C, DTYPE,
    )  # fmt: skip
    label_deficit = tl.full([1, 1], label_deficit, DTYPE)
    target_elsewhere = tl.full([1, 1], target_elsewhere, DTYPE)
    teacher_scale = tl.full([1, 1], teacher_scale, DTYPE)
    scale = tl.full([1, 1], student_scale, DTYPE)

    for tile in range(program % parts, tl.cdiv(pixels, BLOCK_P), parts):
        pixel = tile * BLOCK_P + tl.arange(0, BLOCK_P)[None, :]
        in_image = pixel < pixels
        position = locate(pixel, height, width, WIDE)
        source = source_of(
            logits_view, integers_view, dense_view, mask_view, position, in_image,
            (depth, height, width), ignore_index, label_deficit, target_elsewhere, teacher_scale,
            INTEGERS, LABEL_COUNT, WINDOW, SPATIAL, DTYPE,
        )  # fmt: skip
        chunk, elements, state, sums = read_pixels(
            source, coefficients, grad_sums, grad_totals, grad_loss, ce_class_weights, image,
            images, student_scale, scale, ACTIVATION, INTEGERS, INTEGER_COLUMNS, DENSE_COLUMNS,
            IGNORES, HARD, FIRST_LABEL, TEACHER, TEMPERED, CLASSES, BLOCK_C, CHUNKS, DTYPE,
        )  # fmt: skip
        dz = logits_gradient(
            chunk, state, elements, coefficients, sums, scale, ACTIVATION, INDEPENDENT,
            INTEGER_COLUMNS, DENSE_COLUMNS, IGNORES, TEMPERED,
        )  # fmt: skip
        store_tile(grad_view, chunk.classes, position, chunk.inside, dz)
        for chunk_index in range(1, CHUNKS):
            other_chunk, other_coefficients, other_elements = read_elements(
                source, state, grad_sums, grad_totals, grad_loss, ce_class_weights, chunk_index,
                image, images, student_scale, ACTIVATION, INTEGERS, INTEGER_COLUMNS, DENSE_COLUMNS,
                IGNORES, HARD, FIRST_LABEL, TEACHER, CLASSES, BLOCK_C, DTYPE,
            )  # fmt: skip
            dz = logits_gradient(
                other_chunk, state, other_elements, other_coefficients, sums, scale, ACTIVATION,
                INDEPENDENT, INTEGER_COLUMNS, DENSE_COLUMNS, IGNORES, TEMPERED,
            )  # fmt: skip
            store_tile(grad_view, other_chunk.classes, position, other_chunk.inside, dz)
