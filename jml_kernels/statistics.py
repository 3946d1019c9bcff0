"""The statistics every loss of the family is made of: their names and the order of their columns.

This order is the one that kernels in every language write; `csrc/columns.h` repeats it for C++
and `tests/test_columns.py` holds the two equal.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

#: Sums over the valid pixels of an image, per class; differentiable in the logits.
SUMS = (
    "true_positive",
    "false_positive",
    "false_negative",
    "intersection",
    "prediction_squared",
    "target_squared",
)
#: Maxima over the valid pixels of an image, per class; they only choose active classes.
#: `counted` is 1 where a class has an element that counts: all classes of a pixel do, but those of
#: a dense target whose elements are ignored one by one.
EXTREMA = ("prediction_max", "target_max", "joint_max", "present", "counted")
#: Sums over the valid pixels of an image and their classes; the first differentiable in the logits.
#:     cross_entropy         of w_c * (-y * log x), and where classes are independent of
#:                           w_c * (-y * log x - (1 - y) * log(1 - x))
#:     cross_entropy_weight  what that is divided by in PyTorch's mean: the weights of the pixels'
#:                           labels, the pixels of a dense target, or independent elements
#:     target_entropy        of -y * log y (and 1 - y likewise), for a teacher; 0 for other targets
#:     valid                 the number of pixels; NaN where an image holds what is no label or no
#:                           probability, and looking at its values would make a device wait
TOTALS = ("cross_entropy", "cross_entropy_weight", "target_entropy", "valid")

COLUMNS = SUMS + EXTREMA + TOTALS


def column_bits(*names: str) -> int:
    """The bit set that asks a kernel for these columns: bit i is `COLUMNS[i]`."""
    return sum(1 << COLUMNS.index(name) for name in names)


ALL_COLUMNS = column_bits(*COLUMNS)


def by_name(
    sums: Tensor, extrema: Tensor, totals: Tensor, of_logits_alone: bool = True
) -> list[dict[str, Tensor]]:
    """What an operator returns, as name -> statistic for each target: (N, C), totals (N,).

    Args:
        of_logits_alone: whether nothing but the logits has a gradient, on which all totals but the
            first do not depend. They do on the weights of classes, and on a teacher.
    """
    detached = TOTALS[1:] if of_logits_alone else ("valid",)
    found = []
    for columns in zip(sums.unbind(0), extrema.unbind(0), totals.unbind(0), strict=True):
        statistics = dict(zip(COLUMNS, (row for of in columns for row in of), strict=True))
        found.append(statistics | {name: statistics[name].detach() for name in detached})
    return found


class ClassStatistics(NamedTuple):
    """Statistics per image and class; x are the probabilities, y the target, v the valid pixels.

    Every field has shape (N, C) but `cross_entropy` and `valid`, which have (N,). The sums are
    differentiable in the logits, the maxima, `present` and `valid` are not. dtype: float64 for
    float64 logits, else float32; `present` is bool.
    """

    true_positive: Tensor
    """sum of v * min(x, y), which is (||x + y|| - ||x - y||) / 2, eq. 9"""
    false_positive: Tensor
    """sum of v * max(x - y, 0)"""
    false_negative: Tensor
    """sum of v * max(y - x, 0)"""
    intersection: Tensor
    """sum of v * x * y, eq. 8"""
    prediction_squared: Tensor
    """sum of v * x^2, eq. 3"""
    target_squared: Tensor
    """sum of v * y^2, eq. 3"""
    prediction_max: Tensor
    """maximum of x over valid pixels (0 where there is none), Figure 4"""
    target_max: Tensor
    """maximum of y over valid pixels (0 where there is none), Figure 4"""
    joint_max: Tensor
    """maximum of x + y over valid pixels (0 where there is none), Figure 4"""
    present: Tensor
    """whether the class is the argmax of y at some valid pixel, Figure 4; where classes are
    independent (activation="sigmoid", or one class of probabilities) whether y > 1/2 at one"""
    cross_entropy: Tensor
    """sum of v * -y * log(x) over pixels and classes, eq. 14; where classes are independent, of
    v * (-y * log(x) - (1 - y) * log(1 - x))"""
    valid: Tensor
    """number of valid pixels"""
