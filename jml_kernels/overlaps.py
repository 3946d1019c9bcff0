"""The overlaps of the family: how true positives, false positives and false negatives are counted.

The three counts are linear in the six sums of `statistics.SUMS`, so an overlap is a matrix of
3 x 6 numbers. This table is the only place that knows the overlaps: kernels are handed the matrix,
and its transpose takes the gradients of the counts back to those of the sums. A new overlap is one
more row.
"""

from __future__ import annotations

from .option_checks import one_or_two
from .statistics import SUMS, column_bits

#: A row for each count, TP, FP and FN; a column for each of `statistics.SUMS`.
Overlap = tuple[tuple[float, ...], ...]

OVERLAPS: dict[str, Overlap] = {
    #              TP FP FN  XY XX YY
    # JML1, eq. 12: the sums themselves.
    "metric1": (
        (1, 0, 0, 0, 0, 0),
        (0, 1, 0, 0, 0, 0),
        (0, 0, 1, 0, 0, 0),
    ),
    # JML2, eq. 13: <x, y> in place of min(x, y).
    "metric2": (
        (0, 0, 0, 1, 0, 0),
        (0, 1, 0, 0, 0, 0),
        (0, 0, 1, 0, 0, 0),
    ),
    # SJL with the L1 norm, eq. 2: ||x|| - <x, y> and ||y|| - <x, y>, where ||x|| = TP + FP and
    # ||y|| = TP + FN.
    "soft1": (
        (0, 0, 0, 1, 0, 0),
        (1, 1, 0, -1, 0, 0),
        (1, 0, 1, -1, 0, 0),
    ),
    # SJL with the squared L2 norm, eq. 3: ||x||^2 - <x, y> and ||y||^2 - <x, y>.
    "soft2": (
        (0, 0, 0, 1, 0, 0),
        (0, 0, 0, -1, 1, 0),
        (0, 0, 0, -1, 0, 1),
    ),
}

#: The columns in the order in which a count adds them up: XY, TP, then the rest. TP - XY is exactly
#: 0 wherever x or y is hard, and what is exactly 0 stays so. csrc/formula.h has the same order.
ORDER_OF_SUMMATION = tuple(
    SUMS.index(name)
    for name in (
        "intersection",
        "true_positive",
        "false_positive",
        "false_negative",
        "prediction_squared",
        "target_squared",
    )
)


def overlap_columns(overlap: Overlap) -> int:
    """The columns that an overlap needs, as bits: those with a number other than 0."""
    needed = (name for i, name in enumerate(SUMS) if any(row[i] for row in overlap))
    return column_bits(*needed)


def overlap_name(family: str, parameter: str, value: int) -> str:
    """The overlap of variant 1 or 2 (family "metric") or norm 1 or 2 (family "soft")."""
    return f"{family}{one_or_two(parameter, value)}"


def overlap_of_objective(variant: int | None, norm: int | None) -> str:
    """The overlap of an objective: that of a metric loss (`variant`, 1 by default) or, where `norm`
    is given, of a soft loss."""
    if norm is None:
        return overlap_name("metric", "variant", 1 if variant is None else variant)
    if variant is not None:
        raise ValueError(f"variant={variant!r} and norm={norm!r}: expected only one of them")
    return overlap_name("soft", "norm", norm)
