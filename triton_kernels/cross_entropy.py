"""The cross-entropy of a tile of (classes, pixels) and its gradient. y is the target."""

import triton
import triton.language as tl

from .pixel_math import SIGMOID, SOFTMAX
from .softmax import finite_max


@triton.jit
def log1p(u):
    """log(1 + u) for u >= 0: the logarithm of the rounded sum, corrected for its rounding."""
    rounded = 1.0 + u
    return tl.where(rounded == 1.0, u, tl.log(rounded) * (u / (rounded - 1.0)))


@triton.jit
def log_sigmoid(z):
    return tl.minimum(z, 0.0) - log1p(tl.exp(-tl.abs(z)))


@triton.jit
def weighted_negative_log(y, log_p):
    """-y log p, where a class that is ruled out, and that the target does not ask for, adds 0."""
    return tl.where((y == 0) & (log_p == float("-inf")), 0.0, -y * log_p)


@triton.jit
def cross_entropy_terms(
    z,
    y,
    softmax,
    scale,
    ACTIVATION: tl.constexpr,
    INDEPENDENT: tl.constexpr,
    TEMPERED: tl.constexpr,
):
    """-y log p (eq. 14), and -(1 - y) log(1 - p) too where classes are independent.

    scale: 1 / temperature, of which p is; TEMPERED: whether that may be another than 1.
    """
    if ACTIVATION == SOFTMAX:
        if TEMPERED:
            log_exp_sum = log1p(softmax.tempered_exp_sum_minus_1)
            log_p = (z - finite_max(softmax.z_max)) * scale - log_exp_sum
        else:
            log_p = z - finite_max(softmax.z_max) - log1p(softmax.exp_sum_minus_1)
        terms = weighted_negative_log(y, log_p)
    elif ACTIVATION == SIGMOID:
        z = z * scale
        terms = weighted_negative_log(y, log_sigmoid(z)) + weighted_negative_log(
            1.0 - y, log_sigmoid(-z)
        )
    else:
        z = z * scale
        terms = weighted_negative_log(y, tl.log(z))
        if INDEPENDENT:
            terms += weighted_negative_log(1.0 - y, tl.log(1.0 - z))
    return terms


@triton.jit
def ce_gradient(z, p, y, qw, q_mass, scale, ACTIVATION: tl.constexpr, INDEPENDENT: tl.constexpr):
    """The gradient of the logits that comes from a cross-entropy.

    Args:
        p: the probabilities of z * scale.
        qw: (classes, 1), the gradient of the loss by a class's terms, times scale: q is that by
            the cross-entropy, w the weight of the class.
        q_mass: (1, pixels), of a softmax: the sum of q w y over classes, q times the target mass.
    """
    if ACTIVATION == SOFTMAX:
        return q_mass * p - qw * y
    elif ACTIVATION == SIGMOID:
        return qw * (p - y)
    else:
        z = z * scale
        g = tl.where((y == 0) & (z == 0), 0.0, -y / z)  # 0 log 0 has gradient 0 too
        if INDEPENDENT:
            g += tl.where((y == 1) & (z == 1), 0.0, (1.0 - y) / (1.0 - z))
        # It may be infinite where nobody asked for it.
        return tl.where(qw == 0, 0.0, qw * g)
