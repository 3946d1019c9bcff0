"""The softmax of pixels, gathered from chunks of their classes.

A tile of z is (classes, pixels); the state that a softmax needs is one number for each pixel.
"""

from typing import NamedTuple

import triton
import triton.language as tl


class SoftmaxState(NamedTuple):
    """What a softmax needs of each pixel, of the classes that were looked at: tiles of (1, pixels).

    With exp_sum = exp_sum_others + exp_label, p_label is exp_label / exp_sum, p_not_label is
    exp_sum_others / exp_sum, and -log p of the largest class is log1p(exp_sum_minus_1). To subtract
    p from 1, or to take log(exp_sum), would leave nothing in float32 of a confident prediction.
    """

    z_max: tl.tensor
    """the largest logit"""
    exp_sum_others: tl.tensor
    """the sum of e^(z - z_max) over the classes that are not the label; over all without a label"""
    exp_label: tl.tensor
    """e^(z - z_max) at the label, 0 without a label"""
    exp_sum_minus_1: tl.tensor
    """the sum of e^(z - z_max) over all classes, less the 1 of the largest; 0 if not requested"""
    tempered_exp_sum_minus_1: tl.tensor
    """the same of logits over the student's temperature; 0 if not requested"""


@triton.jit
def finite_max(z_max):
    """What to subtract: where all classes are ruled out, -inf would leave NaN, not 0, for them."""
    return tl.where(z_max == float("-inf"), 0.0, z_max)


@triton.jit
def sum_minus_1(exponentials, is_max):
    """The sum over classes, less the 1 that the largest class has."""
    of_largest = tl.sum(tl.where(is_max, exponentials, 0.0), 0, keep_dims=True)
    of_others = tl.sum(tl.where(is_max, 0.0, exponentials), 0, keep_dims=True)
    return of_others + (of_largest - 1.0)


@triton.jit
def softmax_state(
    z,
    is_label,
    student_scale,
    HAS_LABEL: tl.constexpr,
    LOGARITHM: tl.constexpr,
    TEMPERED: tl.constexpr,
):
    """The state of one chunk of classes.

    LOGARITHM, TEMPERED: whether exp_sum_minus_1 and tempered_exp_sum_minus_1 are needed.
    """
    z_max = tl.max(z, 0, keep_dims=True)
    shifted = z - finite_max(z_max)
    exponentials = tl.exp(shifted)
    exp_label = tl.zeros_like(z_max)
    exp_sum_minus_1 = exp_label
    tempered_exp_sum_minus_1 = exp_label
    if HAS_LABEL:
        exp_sum_others = tl.sum(tl.where(is_label, 0.0, exponentials), 0, keep_dims=True)
        exp_label = tl.sum(tl.where(is_label, exponentials, 0.0), 0, keep_dims=True)
    else:
        exp_sum_others = tl.sum(exponentials, 0, keep_dims=True)
    if LOGARITHM:
        exp_sum_minus_1 = sum_minus_1(exponentials, z == z_max)
    if TEMPERED:
        tempered_exp_sum_minus_1 = sum_minus_1(tl.exp(shifted * student_scale), z == z_max)
    return SoftmaxState(z_max, exp_sum_others, exp_label, exp_sum_minus_1, tempered_exp_sum_minus_1)


@triton.jit
def rescaling(old_max, z_max, scale):
    """What turns exponentials below an old maximum into those below the new one."""
    return tl.where(old_max == z_max, 1.0, tl.exp((old_max - z_max) * scale))


@triton.jit
def merged_sum_minus_1(a, b, a_rescaling, b_rescaling, a_has_max):
    """The side that has the largest class leaves its 1 out; all classes of the other side count."""
    return tl.where(a_has_max, a + (1.0 + b) * b_rescaling, b + (1.0 + a) * a_rescaling)


@triton.jit
def merge_softmax_states(a, b, student_scale, TEMPERED: tl.constexpr):
    """The state of the classes of both sides: the online softmax."""
    z_max = tl.maximum(a.z_max, b.z_max)
    a_has_max = a.z_max == z_max
    a_rescaling = rescaling(a.z_max, z_max, 1.0)
    b_rescaling = rescaling(b.z_max, z_max, 1.0)
    exp_sum_minus_1 = merged_sum_minus_1(
        a.exp_sum_minus_1, b.exp_sum_minus_1, a_rescaling, b_rescaling, a_has_max
    )
    tempered_exp_sum_minus_1 = a.tempered_exp_sum_minus_1
    if TEMPERED:
        tempered_exp_sum_minus_1 = merged_sum_minus_1(
            a.tempered_exp_sum_minus_1,
            b.tempered_exp_sum_minus_1,
            rescaling(a.z_max, z_max, student_scale),
            rescaling(b.z_max, z_max, student_scale),
            a_has_max,
        )
    return SoftmaxState(
        z_max,
        a.exp_sum_others * a_rescaling + b.exp_sum_others * b_rescaling,
        a.exp_label * a_rescaling + b.exp_label * b_rescaling,
        exp_sum_minus_1,
        tempered_exp_sum_minus_1,
    )


@triton.jit
def exp_sum(state):
    """The sum of e^(z - z_max) over all classes."""
    return state.exp_sum_others + state.exp_label


@triton.jit
def add_poison(state, poison):
    """The state, with NaN for the probabilities of the pixels where `poison` is NaN."""
    return SoftmaxState(
        state.z_max,
        state.exp_sum_others + poison,
        state.exp_label,
        state.exp_sum_minus_1 + poison,
        state.tempered_exp_sum_minus_1 + poison,
    )
