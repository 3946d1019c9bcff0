"""The options of the operators, which travel as lists of integers and of floating numbers.

These classes name the places of the lists. csrc/packing.h has the same names in the same order for
C++ and CUDA, and tests/test_columns.py holds them equal; the Triton kernels' launchers use these.
"""

from __future__ import annotations

from typing import NamedTuple

#: In place of ignore_index=None: no label is that far from 0.
NEVER = -(2**63)


class TargetInts(NamedTuple):
    """How logits become probabilities and a target is read: the list `target_ints`."""

    label_columns: int
    """bits of `statistics.COLUMNS` that are asked for of the labels"""
    dense_columns: int
    """bits of the same of the dense target"""
    activation: int
    """index of `checks.ACTIVATIONS`"""
    boundary_size: int
    """the window of boundary smoothing; 0 smooths every pixel"""
    ignore_index: int
    upsample: int
    """whether logits, a teacher's too, may have lower spatial sizes than the target, and are then
    interpolated linearly in each spatial dimension"""
    align_corners: int
    """of this interpolation, as in `torch.nn.functional.interpolate`"""


class TargetFloats(NamedTuple):
    """The list `target_floats`."""

    label_smoothing: float
    teacher_temperature: float
    """what a teacher's logits are divided by; 0 where the dense target holds no logits"""
    student_temperature: float
    """what logits are divided by in the cross-entropy of the dense target"""


class FormulaInts(NamedTuple):
    """How statistics become a loss: the list `formula_ints`."""

    log_loss: int
    label_active: int
    """index of `checks.ACTIVE_MODES`, for the term of the labels"""
    dense_active: int
    is_divergence: int
    """whether the dense target's own entropy is taken off its cross-entropy"""
    has_inactive_loss: int
    """whether inactive classes count, with `inactive_loss`"""
    weighted_mean: int
    """whether a mean over classes is divided by the sum of their weights"""
    reduction: int
    """index of `checks.REDUCTIONS`"""


class FormulaFloats(NamedTuple):
    """The list `formula_floats`."""

    alpha: float
    beta: float
    gamma: float
    smooth_numerator: float
    smooth_denominator: float
    index_floor: float
    """what a logarithm takes in place of a smaller index"""
    inactive_loss: float
    dataset: float
    """the weights of the aggregations"""
    image: float
    per_class: float
    active_threshold: float
    label_ce_weight: float
    """the weights of the terms: of cross-entropies, then of overlap losses"""
    dense_ce_weight: float
    label_overlap_weight: float
    dense_overlap_weight: float


class TallyInts(NamedTuple):
    """What metrics count: the list `tally_ints` of the operators `tally`."""

    activation: int
    """index of `checks.ACTIVATIONS`: softmax or sigmoid"""
    bins: int
    """of probabilities"""
    boundary_size: int
    """the window that makes boundary pixels; 0 looks for none"""
    ignore_index: int
    upsample: int
    """whether logits of lower spatial sizes than the labels are interpolated, linearly"""
    align_corners: int
    calibration: int
    """whether confidences are binned"""
    classwise: int
    """whether the probabilities of each class are"""
