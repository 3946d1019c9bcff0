"""The mathematics of one tile: softmax pieces, target rule, statistic terms, gradient rule.

Tiles are (classes, pixels); what is one number for each pixel is (1, pixels). x is a probability,
y its target, gap is y - x. Nothing here knows how a tensor lies in memory.
"""

import triton
import triton.language as tl

from .columns import (
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

SOFTMAX = tl.constexpr(0)
SIGMOID = tl.constexpr(1)
NONE = tl.constexpr(2)

# ---- softmax over chunks of classes --------------------------------------------------------------
# The state of a pixel is (top, rest, own, excess, tempered): the largest logit so far; sums of
# e^(z - top) over the classes that are not the label, over the label, and over all but one of the
# largest; and the last once more with logits divided by a temperature. 1 - x at the label is
# rest / total, and -log x of the largest class is log1p(excess): 1 - x and log(total) themselves
# would leave nothing in float32 of a confident prediction.


@triton.jit
def finite(top):
    """What to subtract: where all classes are ruled out, -inf would leave NaN, not 0, for them."""
    return tl.where(top == float("-inf"), 0.0, top)


@triton.jit
def over_largest(e, is_top):
    """Sum over classes less 1, which is what the largest class has."""
    peak = tl.sum(tl.where(is_top, e, 0.0), 0, keep_dims=True)
    return tl.sum(tl.where(is_top, 0.0, e), 0, keep_dims=True) + (peak - 1.0)


@triton.jit
def softmax_state(
    z, hit, scale, HAS_LABEL: tl.constexpr, LOGARITHM: tl.constexpr, TEMPERED: tl.constexpr
):
    top = tl.max(z, 0, keep_dims=True)
    below = z - finite(top)
    e = tl.exp(below)
    own = tl.zeros_like(top)
    excess = own
    tempered = own
    if HAS_LABEL:
        rest = tl.sum(tl.where(hit, 0.0, e), 0, keep_dims=True)
        own = tl.sum(tl.where(hit, e, 0.0), 0, keep_dims=True)
    else:
        rest = tl.sum(e, 0, keep_dims=True)
    if LOGARITHM:
        excess = over_largest(e, z == top)
    if TEMPERED:
        tempered = over_largest(tl.exp(below * scale), z == top)
    return top, rest, own, excess, tempered


@triton.jit
def rescaled(top, new_top, scale):
    return tl.where(top == new_top, 1.0, tl.exp((top - new_top) * scale))


@triton.jit
def merged_excess(a, b, of_a, of_b, a_is_top):
    """The largest class is on one side; all of the other are beyond it."""
    return tl.where(a_is_top, a + (1.0 + b) * of_b, b + (1.0 + a) * of_a)


@triton.jit
def merge_states(a, b, scale, TEMPERED: tl.constexpr):
    """Of all classes of both: the online softmax."""
    top = tl.maximum(a[0], b[0])
    a_is_top = a[0] == top
    of_a = rescaled(a[0], top, 1.0)
    of_b = rescaled(b[0], top, 1.0)
    excess = merged_excess(a[3], b[3], of_a, of_b, a_is_top)
    tempered = a[4]
    if TEMPERED:
        of_a_tempered = rescaled(a[0], top, scale)
        of_b_tempered = rescaled(b[0], top, scale)
        tempered = merged_excess(a[4], b[4], of_a_tempered, of_b_tempered, a_is_top)
    return top, a[1] * of_a + b[1] * of_b, a[2] * of_a + b[2] * of_b, excess, tempered


@triton.jit
def total(state):
    return state[1] + state[2]


@triton.jit
def log1p(u):
    """log(1 + u), u >= 0: log of the rounded sum, corrected for its rounding."""
    w = 1.0 + u
    return tl.where(w == 1.0, u, tl.log(w) * (u / (w - 1.0)))


# ---- activations ---------------------------------------------------------------------------------


@triton.jit
def probabilities(z, state, ACTIVATION: tl.constexpr):
    """(x, 1 - x), the second right at the label only where classes share (softmax)."""
    if ACTIVATION == SOFTMAX:
        x = tl.exp(z - finite(state[0])) * (1.0 / total(state))
        return x, state[1] / total(state)
    elif ACTIVATION == SIGMOID:
        e = tl.exp(-tl.abs(z))
        share = 1.0 / (1.0 + e)
        return tl.where(z < 0, e, 1.0) * share, tl.where(z < 0, 1.0, e) * share
    else:
        return z, 1.0 - z


@triton.jit
def tempered_probabilities(z, state, scale, ACTIVATION: tl.constexpr):
    """x of logits divided by a temperature, of which `scale` is the inverse."""
    if ACTIVATION == SOFTMAX:
        return tl.exp((z - finite(state[0])) * scale) / (1.0 + state[4])
    else:
        return probabilities(z * scale, state, ACTIVATION)[0]


@triton.jit
def log_sigmoid(z):
    return tl.minimum(z, 0.0) - log1p(tl.exp(-tl.abs(z)))


@triton.jit
def share_of_log(p, log):
    """-p log, where a class that is ruled out and has no share of the target adds nothing."""
    return tl.where((p == 0) & (log == float("-inf")), 0.0, -p * log)


@triton.jit
def cross_entropy_terms(
    z, y, state, scale, ACTIVATION: tl.constexpr, INDEPENDENT: tl.constexpr, TEMPERED: tl.constexpr
):
    """-y log x (eq. 14), and -(1 - y) log(1 - x) too where classes are independent."""
    if ACTIVATION == SOFTMAX:
        if TEMPERED:
            log = (z - finite(state[0])) * scale - log1p(state[4])
        else:
            log = z - finite(state[0]) - log1p(state[3])
        terms = share_of_log(y, log)
    elif ACTIVATION == SIGMOID:
        z = z * scale
        terms = share_of_log(y, log_sigmoid(z)) + share_of_log(1.0 - y, log_sigmoid(-z))
    else:
        z = z * scale
        terms = share_of_log(y, tl.log(z))
        if INDEPENDENT:
            terms += share_of_log(1.0 - y, tl.log(1.0 - z))
    return terms


# ---- targets -------------------------------------------------------------------------------------


@triton.jit
def integer_target(hit, miss, x, share, off):
    """(y, y - x) of integers, smoothed: 1 - share at the label, `off` elsewhere."""
    return tl.where(hit, 1.0 - share, off), tl.where(hit, miss - share, off - x)


@triton.jit
def first_largest(values, classes):
    """(the largest value of each pixel, the first class that has it); NaN is larger than all."""
    values = tl.where(values == values, values, float("inf"))
    largest = tl.max(values, 0, keep_dims=True)
    index = tl.where(values == largest, classes, 2147483647)
    return largest, tl.min(index, 0, keep_dims=True)


@triton.jit
def merge_first_largest(a, b):
    """b's classes come after a's."""
    return tl.maximum(a[0], b[0]), tl.where(b[0] > a[0], b[1], a[1])


# ---- statistic terms -----------------------------------------------------------------------------
# Tuples of tiles, one for each column that is asked for, in the order of the columns.


@triton.jit
def hard_terms(x, miss, hit, COLUMNS: tl.constexpr):
    """Against labels 0 and 1: one number for each element, not four."""
    terms = ()
    if TRUE_POSITIVE & COLUMNS:
        terms = terms + (tl.where(hit, x, 0.0),)
    if FALSE_POSITIVE & COLUMNS:
        terms = terms + (tl.where(hit, 0.0, x),)
    if FALSE_NEGATIVE & COLUMNS:
        terms = terms + (tl.where(hit, miss, 0.0),)
    if PREDICTION_SQUARED & COLUMNS:
        terms = terms + (x * x,)
    return terms


@triton.jit
def overlap_terms(x, y, gap, COLUMNS: tl.constexpr):
    """The four non-negative parts of x and y themselves: differences of larger sums would cancel.
    Where gap is NaN so is the false positive."""
    terms = ()
    if TRUE_POSITIVE & COLUMNS:
        terms = terms + (tl.where(gap > 0, x, y),)
    if FALSE_POSITIVE & COLUMNS:
        terms = terms + (tl.where(gap > 0, 0.0, -gap),)
    if FALSE_NEGATIVE & COLUMNS:
        terms = terms + (tl.where(gap > 0, gap, 0.0),)
    if INTERSECTION & COLUMNS:
        terms = terms + (x * y,)
    if PREDICTION_SQUARED & COLUMNS:
        terms = terms + (x * x,)
    if TARGET_SQUARED & COLUMNS:
        terms = terms + (y * y,)
    return terms


@triton.jit
def maxima_terms(x, y, present, COLUMNS: tl.constexpr):
    terms = ()
    if PREDICTION_MAX & COLUMNS:
        terms = terms + (x,)
    if TARGET_MAX & COLUMNS:
        terms = terms + (y,)
    if JOINT_MAX & COLUMNS:
        terms = terms + (x + y,)
    if PRESENT & COLUMNS:
        terms = terms + (tl.where(present, 1.0, tl.zeros_like(x)),)
    return terms


# ---- gradient rule -------------------------------------------------------------------------------
# With G the gradient of the sums, g = sum over them of G * d(sum)/dx is
#     g = a + b sign(x - y) + c y + d x,
# from d min(x, y) = (1 - s)/2, d max(x - y, 0) = (1 + s)/2, d max(y - x, 0) = (s - 1)/2 with
# s = sign(x - y), 0 at x = y; d(xy) = y; d(x^2) = 2x.


@triton.jit
def hard_gradient(rule, x, hit, COLUMNS: tl.constexpr):
    """g against labels 0 and 1: x is below the label's 1 and above the others' 0."""
    a, b, c, d = rule
    g = tl.where(hit, a - b + c, a + b)
    if PREDICTION_SQUARED & COLUMNS:
        g += d * x
    return g


@triton.jit
def overlap_gradient(rule, x, y, gap, COLUMNS: tl.constexpr):
    a, b, c, d = rule
    g = tl.where(gap > 0, a - b, tl.where(gap < 0, a + b, a))
    if INTERSECTION & COLUMNS:
        g += c * y
    if PREDICTION_SQUARED & COLUMNS:
        g += d * x
    return g


@triton.jit
def cross_entropy_gradient(
    z, p, y, weight, all_y, scale, ACTIVATION: tl.constexpr, INDEPENDENT: tl.constexpr
):
    """Of the logits, from p = x of z * scale.

    weight: the gradient of the class's term, times scale.
    all_y: softmax, the sum of weight * y over classes.
    """
    if ACTIVATION == SOFTMAX:
        return all_y * p - weight * y
    elif ACTIVATION == SIGMOID:
        return weight * (p - y)
    else:
        z = z * scale
        g = tl.where((y == 0) & (z == 0), 0.0, -y / z)  # 0 log 0 has gradient 0 too
        if INDEPENDENT:
            g += tl.where((y == 1) & (z == 1), 0.0, (1.0 - y) / (1.0 - z))
        # Nobody asked for it, where it may be infinite.
        return tl.where(weight == 0, 0.0, weight * g)
