"""A chunk: a tile of some classes before anything is computed of it. A tile holds all classes where
they fit, and is the only chunk then."""

from typing import NamedTuple

import triton
import triton.language as tl

from .labels import BITS, LABELS, LabelState, as_int64, label_state, poison_where
from .pixel_math import NONE, SOFTMAX, is_probability
from .tile_io import Position, View, fill_pixels, fill_tile, load_tile


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


@triton.jit
def source_of(
    logits_view,
    integers_view,
    dense_view,
    mask_view,
    position,
    in_image,
    size,
    ignore_index,
    label_deficit,
    target_elsewhere,
    teacher_scale,
    INTEGERS: tl.constexpr,
    LABEL_COUNT: tl.constexpr,
    WINDOW: tl.constexpr,
    SPATIAL: tl.constexpr,
    DTYPE: tl.constexpr,
):
    """The source of some pixels, with what labels and mask say of them. size: (depth, height,
    width). label_deficit, target_elsewhere: see `label_state`."""
    unmasked = in_image
    if len(mask_view) > 0:
        unmasked = in_image & (fill_pixels(mask_view, position, in_image) != 0)
    labels = label_state(
        integers_view, position, in_image, unmasked, size, ignore_index, label_deficit,
        target_elsewhere, INTEGERS, LABEL_COUNT, WINDOW, SPATIAL, DTYPE,
    )  # fmt: skip
    return Source(
        logits_view, integers_view, dense_view, labels, position, in_image, ignore_index,
        teacher_scale,
    )  # fmt: skip


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
    """(1, pixels), whether a pixel counts; (classes, pixels), whether an element does, where those
    of the target may be ignored one by one"""
    counts: tl.tensor
    """1 where `valid`, else 0; NaN where what counts has a wrong value"""
    dense: tl.tensor
    """(classes, pixels), the dense target, or a teacher's logits over the temperature; empty
    without one"""


@triton.jit
def ignored_value(view, ignore_index, DTYPE: tl.constexpr):
    """ignore_index as a tensor of probabilities holds it."""
    return ignore_index.to(tl.float32).to(view.start.dtype.element_ty).to(DTYPE)


@triton.jit
def read_chunk(
    source,
    chunk_index,
    ACTIVATION: tl.constexpr,
    INTEGERS: tl.constexpr,
    DENSE_COLUMNS: tl.constexpr,
    IGNORES: tl.constexpr,
    CHECKED: tl.constexpr,
    FIRST_LABEL: tl.constexpr,
    TEACHER: tl.constexpr,
    CLASSES: tl.constexpr,
    BLOCK_C: tl.constexpr,
    DTYPE: tl.constexpr,
):
    """IGNORES: whether elements of a dense target of probabilities that equal ignore_index do not
    count. CHECKED: whether what is no probability where one is expected becomes NaN: the forward
    tells, and the backward of a loss that is NaN need not."""
    position = source.position
    classes = chunk_index * BLOCK_C + tl.arange(0, BLOCK_C)[:, None]
    inside = source.in_image & (classes < CLASSES)
    ruled_out: tl.constexpr = 0.0 if ACTIVATION == NONE else float("-inf")
    z = fill_tile(source.logits, classes, position, inside, ruled_out, DTYPE)
    valid = source.labels.valid
    fits = valid
    is_label = ()
    if INTEGERS == BITS:
        bit = as_int64(load_tile(source.integers, classes, position, inside, 0))
        valid = valid & inside & (bit != source.ignore_index)
        is_label = valid & (bit == 1)
        fits = (bit == 0) | (bit == 1)
        z += poison_where(valid & ~fits, DTYPE)
    elif INTEGERS == LABELS:
        is_label = classes + FIRST_LABEL == source.labels.label
        if ACTIVATION != SOFTMAX:
            z += source.labels.poison
    dense = ()
    if DENSE_COLUMNS:
        outside: tl.constexpr = ruled_out if TEACHER else 0.0
        dense = fill_tile(source.dense, classes, position, inside, outside, DTYPE)
        if IGNORES:
            ignored = ignored_value(source.dense, source.ignore_index, DTYPE)
            valid = valid & inside & (dense != ignored)
        if CHECKED and (ACTIVATION == NONE or not TEACHER):
            fits = is_probability(dense)
            dense = tl.where(fits, dense, float("nan"))
        if TEACHER:
            dense = dense * source.teacher_scale
    if CHECKED and ACTIVATION == NONE:
        z_fits = is_probability(z)
        fits = fits & z_fits
        z = tl.where(z_fits, z, float("nan"))
    counts = tl.where(valid, tl.where(fits, 1.0, float("nan")), 0.0).to(DTYPE)
    if INTEGERS == LABELS:
        counts += source.labels.poison
    return Chunk(classes, inside, z, is_label, valid, counts, dense)
