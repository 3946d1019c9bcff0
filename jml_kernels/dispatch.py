"""From arguments to statistics: validate, choose a backend, call its operator."""

from __future__ import annotations

import torch
from torch import Tensor

from . import checks, ops, reference
from .backends import choose
from .options import TargetOptions
from .statistics import by_name


def statistics_of_target(
    logits: Tensor,
    target: Tensor,
    mask: Tensor | None,
    columns: int,
    options: TargetOptions,
    ce_class_weights: Tensor | None = None,
) -> dict[str, Tensor]:
    """Statistics against one target, labels or dense (`checks.split_target`), by name: float64,
    (N, C), totals (N,). Those that `columns` does not ask for are 0."""
    checks.check_logits(logits)
    labels, dense = checks.split_target(logits, target, options.activation)
    if dense is not None and checks.is_integer(dense) and options.boundary_size is not None:
        raise ValueError(
            f"boundary_size={options.boundary_size!r}: expected None with a target of shape "
            f"{tuple(dense.shape)}, which has no map of labels"
        )
    (statistics,) = _call(
        logits, labels, dense, mask, ce_class_weights, columns, columns, None, 1.0, options
    )
    return statistics


def statistics_of_labels_and_teacher(
    logits: Tensor,
    labels: Tensor | None,
    teacher_logits: Tensor,
    mask: Tensor | None,
    columns: tuple[int, int],
    temperatures: tuple[float, float],
    options: TargetOptions,
    ce_class_weights: Tensor | None,
) -> list[dict[str, Tensor]]:
    """Statistics against labels, where there are any, and against a teacher, where it is asked for
    any column, as `statistics_of_target`, from one read of all.

    Args:
        columns: asked for of the labels and of the teacher.
        temperatures: of the teacher, and of the student in the cross-entropy against it.
    """
    checks.check_logits(logits, "student_logits")
    checks.check_teacher(teacher_logits, logits)
    if labels is not None:
        labels, dense = checks.split_target(logits, labels, options.activation, "labels")
        if dense is not None:
            raise ValueError(
                f"labels has shape {tuple(dense.shape)} and dtype {dense.dtype}: expected integer "
                f"labels of shape {(logits.shape[0], *logits.shape[2:])} beside a teacher"
            )
    return _call(
        logits,
        labels,
        teacher_logits if columns[1] else None,  # what no term needs is not even looked at
        mask,
        ce_class_weights,
        *columns,
        *temperatures,
        options,
        ("labels", "teacher_logits"),
    )


def _call(
    logits: Tensor,
    labels: Tensor | None,
    dense: Tensor | None,
    mask: Tensor | None,
    ce_class_weights: Tensor | None,
    label_columns: int,
    dense_columns: int,
    teacher_temperature: float | None,
    student_temperature: float,
    options: TargetOptions,
    names: tuple[str, str] = ("target", "target"),
) -> list[dict[str, Tensor]]:
    """`names`: of labels and of the dense target, for messages."""
    if mask is not None:
        checks.check_mask(mask, logits)
    if ce_class_weights is not None:
        checks.check_class_weights(ce_class_weights, logits, "ce_class_weights")
        if ce_class_weights.dtype not in (torch.float32, torch.float64):
            ce_class_weights = ce_class_weights.float()  # as a module after .half()
    backend = choose(options.backend, logits.device)
    for name, target in zip(names, (labels, dense), strict=True):
        if backend != "reference" and target is not None and target.requires_grad:
            raise ValueError(
                f"{name} requires grad: expected {name}.detach(), or backend='reference' for the "
                "gradient of a soft target"
            )
    integers = labels if labels is not None else dense
    on_cpu = logits.device.type == "cpu"
    # The CPU kernels look for themselves, and a compiled graph cannot branch on values.
    reference_looks = backend == "reference" and not torch.compiler.is_compiling()
    if (reference_looks if on_cpu else options.validate) and checks.is_integer(integers):
        num_labels = checks.label_count(logits.shape[1], options.activation)
        num_labels = num_labels if labels is not None else 2
        checks.check_label_range(integers, mask, num_labels, options.ignore_index)
    arguments = (
        logits,
        labels,
        dense,
        mask,
        ce_class_weights,
        label_columns,
        dense_columns,
        options.activation,
        float(options.label_smoothing),
        options.boundary_size or 0,
        options.ignore_index,
        teacher_temperature,
        float(student_temperature),
    )
    if backend == "reference":
        return by_name(*reference.statistics(*arguments))
    return by_name(*ops.statistics(backend, *arguments, options.inplace_backward))
