"""A chunk: a tile of some classes before anything is computed of it. A tile holds all classes where
they fit, and is the only chunk then."""

from typing import NamedTuple

import triton
import triton.language as tl

from .labels import BITS, LABELS, LabelState, poison_where
from .pixel_math import NONE, SOFTMAX
from .tile_io import Position, View, fill_tile


class Source(NamedTuple):
    """Where the chunks of some pixels come from."""

    logits: View
    integers: View
    dense: View
    """empty where there is no tensor"""
    labels: LabelState
    position: Position
    in_image: tl.tensor
    """(1, pixels), whether a pixel lies in the image"""
    ignore_index: tl.tensor
    teacher_scale: tl.tensor
    """1 / temperature of the teacher"""


class Chunk(NamedTuple):
    """A tile of classes by pixels."""

    classes: tl.tensor
    """(classes, 1), their numbers"""
    inside: tl.tensor
    """(classes, pixels), whether an element lies in the tensor"""
    z: tl.tensor
    """(classes, pixels), the logits; classes beyond the last are ruled out"""
    is_label: tl.tensor
    """(classes, pixels), whether a class is the label; empty without integers"""
    valid: tl.tensor
    """(1, pixels), whether a pixel counts; of bits (classes, pixels), for each element"""
    dense: tl.tensor
    """(classes, pixels), the dense target, or a teacher's logits over the temperature; empty
    without one"""


@triton.jit
def read_chunk(
    source,
    chunk_index,
    ACTIVATION: tl.constexpr,
    INTEGERS: tl.constexpr,
    DENSE_COLUMNS: tl.constexpr,
    FIRST_LABEL: tl.constexpr,
    TEACHER: tl.constexpr,
    CLASSES: tl.constexpr,
    BLOCK_C: tl.constexpr,
    DTYPE: tl.constexpr,
):
    position = source.position
    classes = chunk_index * BLOCK_C + tl.arange(0, BLOCK_C)[:, None]
    inside = source.in_image & (classes < CLASSES)
    ruled_out: tl.constexpr = 0.0 if ACTIVATION == NONE else float("-inf")
    z = fill_tile(source.logits, classes, position, inside, ruled_out).to(DTYPE)
    valid = source.labels.valid
    is_label = ()
    if INTEGERS == BITS:
        bit = fill_tile(source.integers, classes, position, inside, 0).to(tl.int64)
        valid = valid & inside & (bit != source.ignore_index)
        is_label = valid & (bit == 1)
        z += poison_where(valid & (bit != 0) & (bit != 1), DTYPE)
    elif INTEGERS == LABELS:
        is_label = classes + FIRST_LABEL == source.labels.label
        if ACTIVATION != SOFTMAX:
            z += source.labels.poison
    dense = ()
    if DENSE_COLUMNS:
        if TEACHER:
            dense = fill_tile(source.dense, classes, position, inside, float("-inf")).to(DTYPE)
            dense = dense * source.teacher_scale
        else:
            dense = fill_tile(source.dense, classes, position, inside, 0.0).to(DTYPE)
    return Chunk(classes, inside, z, is_label, valid, dense)
