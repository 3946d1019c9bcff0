"""What the operators are called with, and its checks: whoever calls them directly gets an
exception, not a read outside the arrays."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from .. import checks
from ..formulas import OVERLAPS
from ..statistics import SUMS, TOTALS


class Rule(NamedTuple):
    """The arguments of the operators after the logits, see `reference.statistics`."""

    labels: Tensor | None
    dense: Tensor | None
    mask: Tensor | None
    ce_class_weights: Tensor | None
    label_columns: int
    dense_columns: int
    activation: str
    label_smoothing: float
    boundary_size: int
    ignore_index: int
    teacher_temperature: float | None
    student_temperature: float

    @property
    def targets(self) -> int:
        return (self.labels is not None) + (self.dense is not None)


class Formula(NamedTuple):
    """The arguments after those, of operators that finish a loss: see `formulas.Objective`."""

    class_weights: Tensor | None
    overlap: str
    alpha: float
    beta: float
    gamma: float
    smooth: float
    log_loss: bool
    dataset: float
    image: float
    per_class: float
    active_threshold: float
    label_active: str
    dense_active: str
    label_ce: float
    dense_ce: float
    label_overlap: float
    dense_overlap: float
    divergence: bool


def check(logits: Tensor, rule: Rule) -> None:
    """Raise TypeError or ValueError, naming argument, value and what was expected."""
    checks.check_logits(logits)
    checks.check_choice("activation", rule.activation, checks.ACTIVATIONS)
    if rule.boundary_size != 0:
        checks.check_boundary_size(rule.boundary_size)
    if rule.mask is not None:
        checks.check_mask(rule.mask, logits)
    _check_weights("ce_class_weights", rule.ce_class_weights, logits)
    _check_targets(logits, rule)
    for name in ("teacher_temperature", "student_temperature"):
        if getattr(rule, name) is not None:
            checks.check_positive(name, getattr(rule, name))


def _check_targets(logits: Tensor, rule: Rule) -> None:
    if not rule.targets:
        raise ValueError("labels=None, dense=None: expected at least one target")
    if rule.labels is not None:
        checks.check_labels("labels", rule.labels)
        _check_shape("labels", rule.labels, (logits.shape[0], *logits.shape[2:]))
        checks.check_same_device("labels", rule.labels, logits)
    if rule.dense is not None:
        _check_shape("dense", rule.dense, tuple(logits.shape))
        checks.check_same_device("dense", rule.dense, logits)
        alone = rule.labels is None and rule.teacher_temperature is None
        if not (alone and checks.is_integer(rule.dense)):
            checks.check_logits(rule.dense, "dense")


def check_integers(logits: Tensor, rule: Rule) -> None:
    """Raise the IndexError of a label out of range; only where reading labels makes nobody wait."""
    if rule.labels is not None:
        count = checks.label_count(logits.shape[1], rule.activation)
        checks.check_label_range(rule.labels, rule.mask, count, rule.ignore_index)
    elif checks.is_integer(rule.dense):
        checks.check_label_range(rule.dense, rule.mask, 2, rule.ignore_index)


def _check_weights(name: str, weights: Tensor | None, logits: Tensor) -> None:
    if weights is None:
        return
    checks.check_class_weights(weights, logits, name)
    if not weights.dtype.is_floating_point:
        raise TypeError(f"{name} has dtype {weights.dtype}: expected a floating dtype")


def check_formula(logits: Tensor, formula: Formula) -> None:
    _check_weights("class_weights", formula.class_weights, logits)
    checks.check_choice("overlap", formula.overlap, tuple(OVERLAPS))
    checks.check_choice("label_active", formula.label_active, checks.ACTIVE_CLASSES)
    checks.check_choice("dense_active", formula.dense_active, checks.ACTIVE_CLASSES)


def check_scale(scale: Tensor | None, logits: Tensor) -> None:
    if scale is None:
        return
    checks.check_same_device("scale", scale, logits)
    if scale.numel() != 1 or not scale.dtype.is_floating_point:
        raise ValueError(
            f"scale has shape {tuple(scale.shape)} and dtype {scale.dtype}: expected one number"
        )


def check_gradients(grad_sums: Tensor, grad_totals: Tensor, logits: Tensor, rule: Rule) -> None:
    n, c = logits.shape[:2]
    _check_gradient("grad_sums", grad_sums, (rule.targets, len(SUMS), n, c), logits)
    _check_gradient("grad_totals", grad_totals, (rule.targets, len(TOTALS), n), logits)


def _check_gradient(name: str, grad: Tensor, shape: tuple[int, ...], logits: Tensor) -> None:
    _check_shape(name, grad, shape)
    checks.check_same_device(name, grad, logits)
    if not grad.is_floating_point() or grad.element_size() != 8:
        raise TypeError(f"{name} has dtype {grad.dtype}: expected float64")
    if not grad.is_contiguous():
        raise ValueError(f"{name} has strides {grad.stride()}: expected contiguous memory")


def _check_shape(name: str, tensor: Tensor, expected: tuple[int, ...]) -> None:
    if tuple(tensor.shape) != expected:
        raise ValueError(f"{name} has shape {tuple(tensor.shape)}: expected {expected}")
