"""The mathematics of a tile: probabilities, the target that a label makes, the terms of the
statistics, and the gradient that they have by a probability.

Tiles are (classes, pixels), and (1, pixels) where there is one number for each pixel. p is a
probability, y its target, gap is y - p. Nothing here knows how a tensor lies in memory.
"""

from typing import NamedTuple

import triton
import triton.language as tl

from ..checks import ACTIVATIONS, PROBABILITY_REACH
from .columns import (
    COUNTED,
    FALSE_NEGATIVE,
    FALSE_POSITIVE,
    INTERSECTION,
    JOINT_MAX,
    PREDICTION_MAX,
    PREDICTION_SQUARED,
    PRESENT,
    TARGET_MAX,
    TARGET_SQUARED,
    TRUE_POSITIVE,
)
from .softmax import exp_sum, finite_max

SOFTMAX = tl.constexpr(ACTIVATIONS.index("softmax"))
SIGMOID = tl.constexpr(ACTIVATIONS.index("sigmoid"))
NONE = tl.constexpr(ACTIVATIONS.index("none"))

REACH = tl.constexpr(PROBABILITY_REACH)


# ---- probabilities -------------------------------------------------------------------------------


@triton.jit
def probabilities(z, softmax, ACTIVATION: tl.constexpr):
    """(p, p_not): p_not is 1 - p, taken without cancellation. Of a softmax it is p_not_label,
    (1, pixels), and so right at the label alone."""
    if ACTIVATION == SOFTMAX:
        p = tl.exp(z - finite_max(softmax.z_max)) * (1.0 / exp_sum(softmax))
        p_not_label = softmax.exp_sum_others / exp_sum(softmax)
        return p, p_not_label
    elif ACTIVATION == SIGMOID:
        e = tl.exp(-tl.abs(z))
        inverse = 1.0 / (1.0 + e)
        return tl.where(z < 0, e, 1.0) * inverse, tl.where(z < 0, 1.0, e) * inverse
    else:
        return z, 1.0 - z


@triton.jit
def is_probability(values):
    """Whether numbers lie in [0, 1], up to rounding; NaN does not. See `checks.is_probability`."""
    return tl.abs(values - 0.5) <= REACH


@triton.jit
def tempered_probabilities(z, softmax, student_scale, ACTIVATION: tl.constexpr):
    """p of logits over the student's temperature, of which student_scale is the inverse."""
    if ACTIVATION == SOFTMAX:
        exponentials = tl.exp((z - finite_max(softmax.z_max)) * student_scale)
        return exponentials / (1.0 + softmax.tempered_exp_sum_minus_1)
    else:
        return probabilities(z * student_scale, softmax, ACTIVATION)[0]


# ---- targets -------------------------------------------------------------------------------------


@triton.jit
def label_target(is_label, p, p_not, label_deficit, target_elsewhere):
    """(y, gap) of integers, which may be smoothed: 1 - label_deficit where the label is, and
    target_elsewhere at all other classes."""
    y = tl.where(is_label, 1.0 - label_deficit, target_elsewhere)
    gap = tl.where(is_label, p_not - label_deficit, target_elsewhere - p)
    return y, gap


@triton.jit
def first_largest(values, classes):
    """(the largest value of each pixel, the first class that has it); NaN is larger than all."""
    values = tl.where(values == values, values, float("inf"))
    largest = tl.max(values, 0, keep_dims=True)
    index = tl.where(values == largest, classes, 2147483647)
    return largest, tl.min(index, 0, keep_dims=True)


@triton.jit
def merge_first_largest(a, b):
    """The same of the classes of both sides, where b's come after a's."""
    return tl.maximum(a[0], b[0]), tl.where(b[0] > a[0], b[1], a[1])


# ---- terms of the statistics ---------------------------------------------------------------------
# They are tuples of tiles, one for each column that is requested, in the order of the columns.


@triton.jit
def hard_terms(p, p_not, is_label, COLUMNS: tl.constexpr):
    """The terms against targets 0 and 1: one number for each element, not four."""
    terms = ()
    if TRUE_POSITIVE & COLUMNS:
        terms = terms + (tl.where(is_label, p, 0.0),)
    if FALSE_POSITIVE & COLUMNS:
        terms = terms + (tl.where(is_label, 0.0, p),)
    if FALSE_NEGATIVE & COLUMNS:
        terms = terms + (tl.where(is_label, p_not, 0.0),)
    if PREDICTION_SQUARED & COLUMNS:
        terms = terms + (p * p,)
    return terms


@triton.jit
def overlap_terms(p, y, gap, COLUMNS: tl.constexpr):
    """The non-negative parts of p and y themselves: differences of larger sums would cancel.
    Where gap is NaN, so is the false positive."""
    terms = ()
    if TRUE_POSITIVE & COLUMNS:
        terms = terms + (tl.where(gap > 0, p, y),)
    if FALSE_POSITIVE & COLUMNS:
        terms = terms + (tl.where(gap > 0, 0.0, -gap),)
    if FALSE_NEGATIVE & COLUMNS:
        terms = terms + (tl.where(gap > 0, gap, 0.0),)
    if INTERSECTION & COLUMNS:
        terms = terms + (p * y,)
    if PREDICTION_SQUARED & COLUMNS:
        terms = terms + (p * p,)
    if TARGET_SQUARED & COLUMNS:
        terms = terms + (y * y,)
    return terms


@triton.jit
def maxima_terms(p, y, present, counted, COLUMNS: tl.constexpr):
    """The terms of the extrema, whose maxima over pixels choose the active classes.

    counted: whether an element counts, (1, pixels) where those of a pixel do together."""
    terms = ()
    if PREDICTION_MAX & COLUMNS:
        terms = terms + (p,)
    if TARGET_MAX & COLUMNS:
        terms = terms + (y,)
    if JOINT_MAX & COLUMNS:
        terms = terms + (p + y,)
    if PRESENT & COLUMNS:
        terms = terms + (tl.where(present, 1.0, tl.zeros_like(p)),)
    if COUNTED & COLUMNS:
        terms = terms + (tl.where(counted, 1.0, tl.zeros_like(p)),)
    return terms


# ---- gradient by a probability -------------------------------------------------------------------


class GradientCoefficients(NamedTuple):
    """How the gradient by p follows from the gradients of the sums: tiles of (classes, 1).

    With G the gradient of the sums, g = sum over them of G * d(sum)/dp is made of four numbers,
        g = side + of_target y + of_probability p,
    where side is G of max(p - y, 0) above the target, p > y, and G of min(p, y) less that of
    max(y - p, 0) below it, p < y; at p = y it is the mean of both. d(p y) = y; d(p^2) = 2 p.

    The sides are kept apart, because one may be a thousand times the other, and has to keep its
    digits beside it. They are kept as halves, of which two are added: one of each at p = y.
    """

    half_above: tl.tensor
    half_below: tl.tensor
    of_target: tl.tensor
    of_probability: tl.tensor


@triton.jit
def hard_gradient(coefficients, p, is_label, COLUMNS: tl.constexpr):
    """g against targets 0 and 1: p is below the 1 of the label and above the 0 of all others."""
    half_above, half_below, of_target, of_probability = coefficients
    g = tl.where(is_label, 2 * half_below + of_target, 2 * half_above)
    if PREDICTION_SQUARED & COLUMNS:
        g += of_probability * p
    return g


@triton.jit
def overlap_gradient(coefficients, p, y, gap, COLUMNS: tl.constexpr):
    """g against any target."""
    half_above, half_below, of_target, of_probability = coefficients
    g = tl.where(gap > 0, half_below, half_above) + tl.where(gap < 0, half_above, half_below)
    if INTERSECTION & COLUMNS:
        g += of_target * y
    if PREDICTION_SQUARED & COLUMNS:
        g += of_probability * p
    return g
