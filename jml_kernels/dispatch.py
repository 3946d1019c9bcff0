"""From arguments to statistics and losses: validate, choose a backend, call its operator."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from . import checks, formulas, ops, reference
from .backends import choose
from .formulas import Objective
from .options import TargetOptions
from .statistics import by_name


class Call(NamedTuple):
    """Tensors of a call, validated: see `reference.statistics`."""

    logits: Tensor
    labels: Tensor | None
    dense: Tensor | None
    mask: Tensor | None
    ce_class_weights: Tensor | None
    teacher_temperature: float | None = None
    student_temperature: float = 1.0
    label_name: str = "target"
    dense_name: str = "target"


def call_of_target(
    logits: Tensor,
    target: Tensor,
    mask: Tensor | None,
    options: TargetOptions,
    ce_class_weights: Tensor | None = None,
) -> Call:
    """Against one target, labels or dense (`checks.split_target`)."""
    checks.check_logits(logits)
    labels, dense = checks.split_target(logits, target, options.activation)
    if dense is not None and checks.is_integer(dense) and options.boundary_size is not None:
        raise ValueError(
            f"boundary_size={options.boundary_size!r}: expected None with a target of shape "
            f"{tuple(dense.shape)}, which has no map of labels"
        )
    return _validated(Call(logits, labels, dense, mask, ce_class_weights))


def call_of_labels_and_teacher(
    logits: Tensor,
    labels: Tensor | None,
    teacher_logits: Tensor,
    mask: Tensor | None,
    temperatures: tuple[float, float],
    options: TargetOptions,
    ce_class_weights: Tensor | None,
) -> Call:
    """Against labels, where there are any, and a teacher.

    Args:
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
    names = ("labels", "teacher_logits")
    call = Call(
        logits, labels, teacher_logits, mask, ce_class_weights, *map(float, temperatures), *names
    )
    return _validated(call)


def _validated(call: Call) -> Call:
    if call.mask is not None:
        checks.check_mask(call.mask, call.logits)
    weights = call.ce_class_weights
    if weights is not None:
        checks.check_class_weights(weights, call.logits, "ce_class_weights")
        call = call._replace(ce_class_weights=_weights(weights))
    return call


def _weights(weights: Tensor | None) -> Tensor | None:
    """As the operators take them: a module after .half() has others."""
    if weights is None or weights.dtype in (torch.float32, torch.float64):
        return weights
    return weights.float()


def _backend_of(call: Call, options: TargetOptions) -> str:
    backend = choose(options.backend, call.logits.device)
    for name, target in ((call.label_name, call.labels), (call.dense_name, call.dense)):
        if backend != "reference" and target is not None and target.requires_grad:
            raise ValueError(
                f"{name} requires grad: expected {name}.detach(), or backend='reference' for the "
                "gradient of a soft target"
            )
    integers = call.labels if call.labels is not None else call.dense
    on_cpu = call.logits.device.type == "cpu"
    # The CPU kernels look for themselves, and a compiled graph cannot branch on values.
    reference_looks = backend == "reference" and not torch.compiler.is_compiling()
    if (reference_looks if on_cpu else options.validate) and checks.is_integer(integers):
        num_labels = checks.label_count(call.logits.shape[1], options.activation)
        num_labels = num_labels if call.labels is not None else 2
        checks.check_label_range(integers, call.mask, num_labels, options.ignore_index)
    return backend


def _arguments(call: Call, columns: tuple[int, int], options: TargetOptions) -> tuple:
    """Of the operators, up to the temperatures."""
    return (
        call.logits,
        call.labels,
        call.dense,
        call.mask,
        call.ce_class_weights,
        *columns,
        options.activation,
        float(options.label_smoothing),
        options.boundary_size or 0,
        options.ignore_index,
        call.teacher_temperature,
        call.student_temperature,
    )


def statistics(call: Call, columns: tuple[int, int], options: TargetOptions) -> list[dict]:
    """Statistics against each target, labels first, by name: float64, (N, C), totals (N,). Those
    that `columns`, of labels and of the dense target, does not ask for are 0."""
    return _statistics(_backend_of(call, options), call, columns, options)


def _statistics(
    backend: str, call: Call, columns: tuple[int, int], options: TargetOptions
) -> list[dict]:
    arguments = _arguments(call, columns, options)
    if backend == "reference":
        return by_name(*reference.statistics(*arguments))
    return by_name(*ops.statistics(backend, *arguments, options.inplace_backward))


def loss(call: Call, objective: Objective, class_weights: Tensor | None) -> Tensor:
    """The value of an objective, float64 for float64 logits, else float32; 0-dim, but for a
    reduction other than "mean"."""
    if class_weights is not None:
        checks.check_class_weights(class_weights, call.logits)
    options, columns = objective.options, objective.columns
    if call.labels is not None and columns[1] == 0:
        call = call._replace(dense=None)  # what no term needs is not even looked at
    backend = _backend_of(call, options)
    needs_autograd = class_weights is not None and class_weights.requires_grad
    if backend in ops.FINISHED and options.reduction == "mean" and not needs_autograd:
        return ops.loss(
            backend,
            *_arguments(call, columns, options),
            _weights(class_weights),
            *_formula(objective),
            options.inplace_backward,
        )
    found = _statistics(backend, call, columns, options)
    value = formulas.objective_loss(
        found[0] if call.labels is not None else None,
        found[-1] if call.dense is not None else None,
        objective,
        class_weights,
    )
    return value.to(checks.result_dtype(call.logits))


def _formula(objective: Objective) -> tuple:
    """Of the operators, after the weights of classes."""
    options, aggregation = objective.options, objective.options.aggregation_weights
    of_labels, of_dense = objective.of_labels, objective.of_dense
    return (
        objective.overlap,
        float(options.alpha),
        float(options.beta),
        float(options.gamma),
        float(options.smooth),
        options.log_loss,
        *(float(aggregation.get(how, 0.0)) for how in checks.AGGREGATIONS),
        float(options.active_threshold),
        of_labels.active_classes,
        of_dense.active_classes,
        float(of_labels.ce_weight),
        float(of_dense.ce_weight),
        float(of_labels.overlap_weight),
        float(of_dense.overlap_weight),
        objective.is_divergence,
    )
