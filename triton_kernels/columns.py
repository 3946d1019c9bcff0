"""The columns of the statistics for device code: as bits of `jml_kernels.statistics.COLUMNS`."""

from __future__ import annotations

import triton.language as tl

from ..statistics import EXTREMA, SUMS, TOTALS, column_bits

TRUE_POSITIVE = tl.constexpr(column_bits("true_positive"))
FALSE_POSITIVE = tl.constexpr(column_bits("false_positive"))
FALSE_NEGATIVE = tl.constexpr(column_bits("false_negative"))
INTERSECTION = tl.constexpr(column_bits("intersection"))
PREDICTION_SQUARED = tl.constexpr(column_bits("prediction_squared"))
TARGET_SQUARED = tl.constexpr(column_bits("target_squared"))
PREDICTION_MAX = tl.constexpr(column_bits("prediction_max"))
TARGET_MAX = tl.constexpr(column_bits("target_max"))
JOINT_MAX = tl.constexpr(column_bits("joint_max"))
PRESENT = tl.constexpr(column_bits("present"))
COUNTED = tl.constexpr(column_bits("counted"))
CROSS_ENTROPY = tl.constexpr(column_bits("cross_entropy"))
CROSS_ENTROPY_WEIGHT = tl.constexpr(column_bits("cross_entropy_weight"))
TARGET_ENTROPY = tl.constexpr(column_bits("target_entropy"))
VALID = tl.constexpr(column_bits("valid"))

#: How many columns there are of each kind.
N_SUMS = tl.constexpr(len(SUMS))
N_EXTREMA = tl.constexpr(len(EXTREMA))
N_TOTALS = tl.constexpr(len(TOTALS))
