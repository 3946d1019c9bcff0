"""What has to be known of a pixel, from all of its classes, before any of them can be computed."""

from typing import NamedTuple

import triton
import triton.language as tl

from .labels import BITS, LABELS, NO_INTEGERS
from .pixel_math import SOFTMAX, first_largest, merge_first_largest
from .softmax import SoftmaxState, add_poison, merge_softmax_states, softmax_state


class PixelState(NamedTuple):
    """What the classes that were looked at say of each pixel; parts that nobody needs are empty."""

    softmax: SoftmaxState
    teacher_softmax: SoftmaxState
    """of the teacher's logits"""
    largest_target: tuple
    """(the largest target, the first class that has it), (1, pixels) each"""


@triton.jit
def pixel_state(
    chunk,
    student_scale,
    ACTIVATION: tl.constexpr,
    INTEGERS: tl.constexpr,
    TEACHER: tl.constexpr,
    LOGARITHM: tl.constexpr,
    ENTROPY: tl.constexpr,
    TEMPERED: tl.constexpr,
    ARGMAX: tl.constexpr,
):
    """The state of the pixels of a chunk, by the chunk's classes.

    LOGARITHM, ENTROPY: whether log p and log y are requested. ARGMAX: whether only all classes
    together tell which one is present.
    """
    softmax = ()
    teacher_softmax = ()
    largest_target = ()
    if ACTIVATION == SOFTMAX:
        softmax = softmax_state(
            chunk.z, chunk.is_label, student_scale, INTEGERS != NO_INTEGERS, LOGARITHM, TEMPERED
        )
        if TEACHER:
            teacher_softmax = softmax_state(chunk.dense, (), student_scale, False, ENTROPY, False)
    if ARGMAX:
        if INTEGERS == BITS:
            y = tl.where(chunk.is_label, 1.0, tl.zeros_like(chunk.z))
            y = tl.where(chunk.inside, y, float("-inf"))
        else:
            y = tl.where(chunk.valid, chunk.dense, 0.0)
            y = tl.where(chunk.inside, y, float("-inf"))
        largest_target = first_largest(y, chunk.classes)
    return PixelState(softmax, teacher_softmax, largest_target)


@triton.jit
def merge_pixel_states(
    a,
    b,
    student_scale,
    ACTIVATION: tl.constexpr,
    TEACHER: tl.constexpr,
    TEMPERED: tl.constexpr,
    ARGMAX: tl.constexpr,
):
    """The state by the classes of both sides, where b's come after a's."""
    softmax = ()
    teacher_softmax = ()
    largest_target = ()
    if ACTIVATION == SOFTMAX:
        softmax = merge_softmax_states(a.softmax, b.softmax, student_scale, TEMPERED)
        if TEACHER:
            teacher_softmax = merge_softmax_states(
                a.teacher_softmax, b.teacher_softmax, student_scale, False
            )
    if ARGMAX:
        largest_target = merge_first_largest(a.largest_target, b.largest_target)
    return PixelState(softmax, teacher_softmax, largest_target)


@triton.jit
def poisoned(state, poison, ACTIVATION: tl.constexpr, INTEGERS: tl.constexpr):
    """The state, with NaN for the probabilities of pixels whose label is out of range. Other
    activations get that from the logits, see read_chunk."""
    softmax = state.softmax
    if ACTIVATION == SOFTMAX and INTEGERS == LABELS:
        softmax = add_poison(softmax, poison)
    return PixelState(softmax, state.teacher_softmax, state.largest_target)
