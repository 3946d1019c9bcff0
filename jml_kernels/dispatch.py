"""From the arguments of a loss to an operator: check the tensors, choose a backend, call it.

    loss(objective, logits, target, ...) -> operator that finishes the loss
                                         -> or operator of the statistics -> formulas

A module has its objective ready (objective.py); nothing here depends on a loss alone.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from . import checks, formulas, option_checks
from .backend import BY_NAME, choose
from .objective import Objective, TargetLists
from .ops import LOSSES, STATISTICS, has_tangent
from .options import TargetOptions
from .statistics import by_name
from .upsampling import at_full_size, full_size

#: The tensors that the operators read: logits, labels, dense target, mask, weights of the
#: cross-entropy's classes. See `reference.statistics`.
Inputs = tuple[Tensor, Tensor | None, Tensor | None, Tensor | None, Tensor | None]


def target_loss(
    objective: Objective,
    logits: Tensor,
    target: Tensor,
    mask: Tensor | None,
    ce_class_weights: Tensor | None,
    class_weights: Tensor | None,
    names: checks.Names = checks.NAMES,
) -> Tensor:
    """The loss against one target, labels or dense; see `functional.jaccard_cross_entropy_loss`."""
    options = objective.options
    inputs = _inputs_of_target(logits, target, mask, ce_class_weights, options, names)
    call = _prepared(inputs, objective.target, options, names)
    return _loss_in_words(call, objective, class_weights, names)


def distillation_loss(
    objective: Objective,
    student_logits: Tensor,
    labels: Tensor | None,
    teacher_logits: Tensor,
    mask: Tensor | None,
    ce_class_weights: Tensor | None,
    class_weights: Tensor | None,
) -> Tensor:
    """The loss against labels, where there are any, and a teacher; see
    `functional.jaccard_distillation_loss`."""
    options = objective.options
    student_logits = checks.checked_logits(student_logits, options, "student_logits")
    dense = checks.checked_teacher(teacher_logits, student_logits, options)
    if labels is not None:
        labels = checks.checked_labels(student_logits, labels, options)
        if not objective.needs_dense:
            dense = None  # no term needs it, so that it is not even looked at
    # The weights of the cross-entropy are the labels'.
    if labels is None:
        ce_class_weights = None
    elif ce_class_weights is not None:
        ce_class_weights = _checked_weights(
            ce_class_weights, student_logits, "ce_class_weights", options
        )
    inputs = (student_logits, labels, dense, mask, ce_class_weights)
    names = checks.Names("student_logits", "labels", "teacher_logits")
    call = _prepared(inputs, objective.target, options, names)
    return _loss_in_words(call, objective, class_weights, names)


def target_statistics(
    logits: Tensor,
    target: Tensor,
    mask: Tensor | None,
    ce_class_weights: Tensor | None,
    options: TargetOptions,
    lists: TargetLists,
    names: checks.Names = checks.NAMES,
) -> dict[str, Tensor]:
    """Statistics against one target, by name: float64, (N, C), totals (N,). Those that `lists` do
    not ask for are 0."""
    inputs = _inputs_of_target(logits, target, mask, ce_class_weights, options, names)
    call = _prepared(inputs, lists, options, names)
    return _statistics(call, options)[0]


def _inputs_of_target(
    logits: Tensor,
    target: Tensor,
    mask: Tensor | None,
    ce_class_weights: Tensor | None,
    options: TargetOptions,
    names: checks.Names,
) -> Inputs:
    logits = checks.checked_logits(logits, options, names.logits)
    labels, dense = checks.split_target(logits, target, options, names.dense)
    if ce_class_weights is not None:
        ce_class_weights = _checked_weights(ce_class_weights, logits, "ce_class_weights", options)
    return logits, labels, dense, mask, ce_class_weights


class Call(NamedTuple):
    """What an operator is called with, checked."""

    backend: str
    inputs: Inputs
    lists: TargetLists


def _statistics(call: Call, options: TargetOptions) -> list[dict[str, Tensor]]:
    """Those of each target, labels first."""
    backend, inputs, lists = call
    run = STATISTICS[backend]
    columns = run(*inputs, lists.ints, lists.floats, options.inplace_backward)
    return by_name(*columns, of_logits_alone=backend != "reference")


def _loss_in_words(
    call: Call, objective: Objective, class_weights: Tensor | None, names: checks.Names
) -> Tensor:
    """`_loss`, whose kernels have names of their own for what is wrong with a value."""
    if names is checks.NAMES or torch.compiler.is_compiling():
        return _loss(call, objective, class_weights)
    try:
        return _loss(call, objective, class_weights)
    except (IndexError, ValueError) as error:
        raise type(error)(_renamed(str(error), names)) from None


def _loss(call: Call, objective: Objective, class_weights: Tensor | None) -> Tensor:
    """The value of an objective, float64 for float64 logits, else float32; 0-dim, but for the
    reductions "image" and "none"."""
    backend, inputs, target = call
    logits, labels, dense, *_ = inputs
    options, formula = objective.options, objective.formula
    finishes = backend in LOSSES and options.reduction != "none"
    if class_weights is not None:
        class_weights = _checked_weights(class_weights, logits, "class_weights", options)
        # The operators give the logits a gradient, and nothing else; the formula does.
        finishes = finishes and not (class_weights.requires_grad or has_tangent(class_weights))
    class_mask = None if options.classes is None else objective.class_mask(logits)
    if finishes:
        return LOSSES[backend](
            *inputs,
            target.ints,
            target.floats,
            class_weights,
            class_mask,
            *formula,
            options.inplace_backward,
        )[0]
    statistics = _statistics(call, options)
    value = formulas.objective_loss(
        statistics[0] if labels is not None else None,
        statistics[-1] if dense is not None else None,
        objective,
        class_weights,
        class_mask,
    )
    return value.to(checks.result_dtype(logits))


def _checked_weights(weights: Tensor, logits: Tensor, name: str, options: TargetOptions) -> Tensor:
    """As the operators take them: plain, and in one of two dtypes; a module has others after
    .half(). Its buffers may have been written since they were given: their values are looked at
    like those of a target."""
    checks.check_class_weights(weights, logits, name)
    weights = checks.plain(weights)
    if checks.can_look_at(weights, waits=options.validate):
        option_checks.check_weight_values(name, weights)
    return weights if weights.dtype in (torch.float32, torch.float64) else weights.float()


def _renamed(message: str, names: checks.Names) -> str:
    """What a kernel says of a value, with the name that the argument has in the user's call."""
    for ours, theirs in (("logits", names.logits), ("target", names.labels)):
        if message.startswith(f"{ours} has "):
            return theirs + message.removeprefix(ours)
    return message


def _prepared(
    inputs: Inputs, lists: TargetLists, options: TargetOptions, names: checks.Names
) -> Call:
    """The backend to run and what it is called with. What depends on the backend is checked:
    gradients that it does not give, and wrong values where looking for them makes no device wait.
    For one that does not interpolate logits itself they are interpolated here."""
    logits, labels, dense, mask, ce_class_weights = inputs
    size = logits.shape[2:]
    if options.upsample is not None:
        size = full_size(logits, labels, dense, lists.has_teacher)
        _check_lower(inputs, size, lists, options, names)
    if mask is not None:
        checks.check_mask(mask, logits, size, names.mask)
        mask = checks.plain(mask)
        inputs = (logits, labels, dense, mask, ce_class_weights)
    backend = choose(options.backend, logits.device)
    if backend != "reference":
        others = (
            (labels, names.labels),
            (dense, names.dense),
            (ce_class_weights, "ce_class_weights"),
        )
        for tensor, name in others:
            if tensor is not None and tensor.requires_grad:
                raise ValueError(
                    f"{name} requires grad: expected {name}.detach(), or backend='reference' for "
                    "its gradient"
                )
    if options.inplace_backward and not torch.compiler.is_compiling():
        checks.check_inplace(inputs)
    if logits.device.type == "cpu":
        # The CPU kernels look for themselves.
        looks = backend == "reference" and checks.can_look_at(*inputs)
    else:
        looks = checks.can_look_at(*inputs, waits=options.validate)
    if options.upsample is not None and not BY_NAME[backend].upsamples:
        inputs, lists = _interpolated(inputs, lists, options), lists.at_full_size()
    if looks:
        with torch.no_grad():
            logits, _, dense, *_ = _interpolated(inputs, lists, options)
        checks.check_values(
            logits,
            labels,
            dense,
            mask,
            options.activation,
            options.ignore_index,
            lists.has_teacher,
            names,
        )
    return Call(backend, inputs, lists)


def _check_lower(
    inputs: Inputs,
    size: tuple[int, ...],
    lists: TargetLists,
    options: TargetOptions,
    names: checks.Names,
) -> None:
    """Whether the logits, and a teacher's, can be interpolated to the full size."""
    logits, labels, dense, *_ = inputs
    owner = names.labels if labels is not None else names.dense
    checks.check_lower(names.logits, logits, size, options, owner)
    if lists.has_teacher and dense is not None:
        checks.check_lower(names.dense, dense, size, options, owner)


def _interpolated(inputs: Inputs, lists: TargetLists, options: TargetOptions) -> Inputs:
    """The same at full size; of a call without upsampling, or one that has it already, itself."""
    if options.upsample is None:
        return inputs
    logits, labels, dense, *others = inputs
    has_teacher = lists.has_teacher
    logits, dense = at_full_size(logits, labels, dense, has_teacher, options.align_corners)
    return (logits, labels, dense, *others)
