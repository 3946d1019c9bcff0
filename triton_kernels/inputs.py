"""What the operators are called with, unpacked and checked: whoever calls them directly gets an
exception, not a read outside the arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .. import checks, option_checks
from ..overlaps import Overlap
from ..packing import FormulaFloats, FormulaInts, TargetFloats, TargetInts
from ..statistics import SUMS, TOTALS
from ..upsampling import at_full_size, full_size

N_COUNTS = 3  # TP, FP, FN: the rows of an overlap's matrix


class Inputs(NamedTuple):
    """What every operator reads, see `reference.statistics`."""

    logits: Tensor
    labels: Tensor | None
    dense: Tensor | None
    mask: Tensor | None
    ce_class_weights: Tensor | None
    ints: TargetInts
    floats: TargetFloats

    @property
    def activation(self) -> str:
        return checks.ACTIVATIONS[self.ints.activation]

    @property
    def targets(self) -> int:
        return (self.labels is not None) + (self.dense is not None)

    @property
    def has_teacher(self) -> bool:
        """Whether the dense target holds a teacher's logits."""
        return self.dense is not None and self.floats.teacher_temperature > 0

    @property
    def size(self) -> tuple[int, ...]:
        """The spatial size that the statistics are of, see `upsampling.full_size`."""
        if not self.ints.upsample:
            return tuple(self.logits.shape[2:])
        return full_size(self.logits, self.labels, self.dense, self.has_teacher)


class FormulaInputs(NamedTuple):
    """What an operator that finishes a loss reads beside these."""

    class_weights: Tensor | None
    class_mask: Tensor | None
    ints: FormulaInts
    floats: FormulaFloats
    overlap: Overlap


#: How many arguments of an operator make `Inputs`, and `FormulaInputs`.
N_INPUTS, N_FORMULA_INPUTS = len(Inputs._fields), len(FormulaInputs._fields)


def checked_inputs(
    logits: Tensor,
    labels: Tensor | None,
    dense: Tensor | None,
    mask: Tensor | None,
    ce_class_weights: Tensor | None,
    target_ints: Sequence[int],
    target_floats: Sequence[float],
) -> Inputs:
    """Raise TypeError or ValueError, naming argument, value and what was expected."""
    ints = TargetInts(*_checked_list("target_ints", target_ints, len(TargetInts._fields)))
    floats = TargetFloats(*_checked_list("target_floats", target_floats, len(TargetFloats._fields)))
    inputs = Inputs(logits, labels, dense, mask, ce_class_weights, ints, floats)
    checks.check_logits(logits)
    _check_index("activation", ints.activation, checks.ACTIVATIONS)
    if ints.boundary_size != 0:
        option_checks.boundary_size("boundary_size", ints.boundary_size)
    _check_weights("ce_class_weights", ce_class_weights, logits)
    if floats.teacher_temperature != 0:
        option_checks.positive("teacher_temperature", floats.teacher_temperature)
    option_checks.positive("student_temperature", floats.student_temperature)
    _check_targets(inputs)
    if mask is not None:
        checks.check_mask(mask, logits, inputs.size)
    return inputs


def _check_targets(inputs: Inputs) -> None:
    logits, labels, dense = inputs[:3]
    if not inputs.targets:
        raise ValueError("labels=None, dense=None: expected at least one target")
    if inputs.ints.upsample and logits.dim() == 2:
        raise ValueError("upsample=1: expected logits with spatial dimensions")
    size = inputs.size
    check_lower("logits", logits, size)
    if labels is not None:
        checks.check_labels("labels", labels)
        _check_shape("labels", labels, (logits.shape[0], *size))
        checks.check_same_device("labels", labels, logits)
    if dense is not None:
        if inputs.ints.upsample and inputs.has_teacher:
            check_lower("dense", dense, size)
            size = tuple(dense.shape[2:])
        _check_shape("dense", dense, (*logits.shape[:2], *size))
        checks.check_same_device("dense", dense, logits)
        may_hold_integers = labels is None and not inputs.has_teacher
        if not (may_hold_integers and checks.is_integer(dense)):
            checks.check_logits(dense, "dense")


def check_values(inputs: Inputs) -> None:
    """Raise the errors of `checks.check_values`; only where looking at values makes nobody wait."""
    dense_name = "teacher_logits" if inputs.has_teacher else "target"
    logits, labels, dense, mask = inputs[:4]
    if inputs.ints.upsample:
        has_teacher, align_corners = inputs.has_teacher, bool(inputs.ints.align_corners)
        logits, dense = at_full_size(logits, labels, dense, has_teacher, align_corners)
    checks.check_values(
        logits,
        labels,
        dense,
        mask,
        inputs.activation,
        inputs.ints.ignore_index,
        inputs.has_teacher,
        checks.Names(dense=dense_name),
    )


def checked_formula_inputs(
    logits: Tensor,
    class_weights: Tensor | None,
    class_mask: Tensor | None,
    formula_ints: Sequence[int],
    formula_floats: Sequence[float],
    overlap: Sequence[float],
) -> FormulaInputs:
    """The same of these; overlap: the matrix, row by row."""
    _check_weights("class_weights", class_weights, logits)
    if class_mask is not None:
        checks.check_class_weights(class_mask, logits, "class_mask")
        if class_mask.dtype != torch.bool:
            raise TypeError(f"class_mask has dtype {class_mask.dtype}: expected torch.bool")
    ints = FormulaInts(*_checked_list("formula_ints", formula_ints, len(FormulaInts._fields)))
    floats = _checked_list("formula_floats", formula_floats, len(FormulaFloats._fields))
    matrix = _checked_list("overlap", overlap, N_COUNTS * len(SUMS))
    _check_index("label_active", ints.label_active, checks.ACTIVE_MODES)
    _check_index("dense_active", ints.dense_active, checks.ACTIVE_MODES)
    rows = tuple(tuple(matrix[i : i + len(SUMS)]) for i in range(0, len(matrix), len(SUMS)))
    return FormulaInputs(class_weights, class_mask, ints, FormulaFloats(*floats), rows)


def check_gradients(
    grad_sums: Tensor, grad_totals: Tensor, scale: Tensor | None, inputs: Inputs
) -> None:
    logits, targets = inputs.logits, inputs.targets
    n, c = logits.shape[:2]
    _check_gradient("grad_sums", grad_sums, (targets, len(SUMS), n, c), logits)
    _check_gradient("grad_totals", grad_totals, (targets, len(TOTALS), n), logits)
    if scale is None:
        return
    checks.check_same_device("scale", scale, logits)
    fits = scale.numel() == 1 or tuple(scale.shape) == (n,)
    if not fits or not scale.dtype.is_floating_point:
        raise ValueError(
            f"scale has shape {tuple(scale.shape)} and dtype {scale.dtype}: expected one number, "
            "or one for each image"
        )


def check_not_expanded(logits: Tensor) -> None:
    """Raise RuntimeError for logits of which several elements share memory."""
    sizes_and_strides = zip(logits.shape, logits.stride(), strict=True)
    if any(size > 1 and stride == 0 for size, stride in sizes_and_strides):
        raise RuntimeError(
            "logits is expanded: its memory cannot hold a gradient (inplace_backward)"
        )


def _checked_list(name: str, numbers: Sequence, expected: int) -> Sequence:
    if len(numbers) != expected:
        raise ValueError(f"{name} has {len(numbers)} numbers: expected {expected}")
    return numbers


def _check_index(name: str, index: int, choices: Sequence[str]) -> None:
    if not 0 <= index < len(choices):
        raise ValueError(f"{name}={index}: expected 0 to {len(choices) - 1}")


def _check_weights(name: str, weights: Tensor | None, logits: Tensor) -> None:
    if weights is None:
        return
    checks.check_class_weights(weights, logits, name)
    if not weights.dtype.is_floating_point:
        raise TypeError(f"{name} has dtype {weights.dtype}: expected a floating dtype")


def _check_gradient(name: str, grad: Tensor, shape: tuple[int, ...], logits: Tensor) -> None:
    _check_shape(name, grad, shape)
    checks.check_same_device(name, grad, logits)
    if not grad.is_floating_point() or grad.element_size() != 8:
        raise TypeError(f"{name} has dtype {grad.dtype}: expected float64")
    if not grad.is_contiguous():
        raise ValueError(f"{name} has strides {grad.stride()}: expected contiguous memory")


def check_lower(name: str, logits: Tensor, size: tuple[int, ...]) -> None:
    """Whether logits have a size, or can be interpolated to it."""
    low = tuple(logits.shape[2:])
    if len(low) != len(size) or any(
        n != full and not 0 < n < full for n, full in zip(low, size, strict=True)
    ):
        raise ValueError(
            f"{name} has shape {tuple(logits.shape)}: expected spatial sizes from 1 to {size}, "
            "those of the target"
        )


def _check_shape(name: str, tensor: Tensor, expected: tuple[int, ...]) -> None:
    if tuple(tensor.shape) != expected:
        raise ValueError(f"{name} has shape {tuple(tensor.shape)}: expected {expected}")
