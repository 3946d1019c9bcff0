"""From the arguments of a loss to an operator: check the tensors, choose a backend, call it.

    loss(objective, logits, target, ...) -> operator that finishes the loss
                                         -> or operator of the statistics -> formulas

A module has its objective ready (objective.py); nothing here depends on a loss alone.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import torch
from torch import Tensor

from . import (
    accumulation,
    checks,
    class_parallel,
    distributed,
    formulas,
    option_checks,
    shards,
)
from .backend import BY_NAME, choose
from .formulas import SumsOfBatch
from .objective import Objective, TargetLists
from .ops import LOSSES, STATISTICS, has_tangent
from .options import LossOptions, TargetOptions
from .shards import NO_SHARDS, Shards, local_shards
from .statistics import by_name
from .upsampling import at_full_size, full_size, interpolated

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
    others = {names.dense: target, "mask": mask}
    tensors, lies_in = local_shards(logits, others, options, names.logits)
    if lies_in.classes:
        return _class_parallel_loss(
            logits, *tensors, ce_class_weights, class_weights, objective, lies_in, names
        )
    logits, target, mask = tensors
    inputs = _inputs_of_target(logits, target, mask, ce_class_weights, options, names)
    call = _prepared(inputs, objective.target, options, names)._replace(shards=lies_in)
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
    others = {"labels": labels, "teacher_logits": teacher_logits, "mask": mask}
    tensors, lies_in = local_shards(student_logits, others, options, "student_logits")
    if lies_in.classes:
        raise _no_class_shards("student_logits", "replicated classes for distillation")
    student_logits, labels, teacher_logits, mask = tensors
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
    call = _prepared(inputs, objective.target, options, names)._replace(shards=lies_in)
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
    others = {names.dense: target, "mask": mask}
    tensors, lies_in = local_shards(logits, others, options, names.logits)
    if lies_in.classes:
        raise _no_class_shards(names.logits, "replicated classes for class_statistics")
    logits, target, mask = tensors
    inputs = _inputs_of_target(logits, target, mask, ce_class_weights, options, names)
    call = _prepared(inputs, lists, options, names)._replace(shards=lies_in)
    return _statistics(call, options, whole_images=bool(lies_in.pixels))[0]


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
    shards: Shards = NO_SHARDS


def _statistics(call: Call, options: TargetOptions, whole_images: bool) -> list[dict[str, Tensor]]:
    """Those of each target, labels first.

    Args:
        whole_images: whether those of whole images are needed, whose pixels lie on several ranks.
    """
    backend, inputs, lists, lies_in = call
    run = STATISTICS[backend]
    columns = run(*inputs, lists.ints, lists.floats, options.inplace_backward)
    if whole_images:
        columns = shards.whole_images(*columns, lies_in.pixels)
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
    logits, labels, dense, *_ = call.inputs
    options, formula = objective.options, objective.formula
    whole_images = _needs_whole_images(options, call.shards)
    whole_batch = _whole_batch(options, call.shards, whole_images)
    class_weights, class_mask = _of_classes(class_weights, logits, objective)
    # The operators give the logits a gradient, and nothing else; the formula does.
    has_other_gradient = class_weights is not None and (
        class_weights.requires_grad or has_tangent(class_weights)
    )
    is_own = whole_batch is None and not call.shards.pixels and not has_other_gradient
    if call.backend in LOSSES and options.reduction != "none" and is_own:
        return LOSSES[call.backend](
            *call.inputs,
            call.lists.ints,
            call.lists.floats,
            class_weights,
            class_mask,
            *formula,
            options.inplace_backward,
        )[0]
    statistics = _statistics(call, options, whole_images)
    value = formulas.objective_loss(
        statistics[0] if labels is not None else None,
        statistics[-1] if dense is not None else None,
        objective,
        class_weights,
        class_mask,
        whole_batch,
    )
    return value.to(checks.result_dtype(logits))


def _of_classes(
    class_weights: Tensor | None, logits: Tensor, objective: Objective
) -> tuple[Tensor | None, Tensor | None]:
    """Weights of the classes, checked, and which classes may enter the mean."""
    if class_weights is not None:
        class_weights = _checked_weights(class_weights, logits, "class_weights", objective.options)
    has_mask = objective.options.classes is not None
    return class_weights, objective.class_mask(logits) if has_mask else None


def _needs_whole_images(options: LossOptions, lies_in: Shards) -> bool:
    """Whether the formula asks for statistics of images whose pixels lie on several ranks."""
    return bool(lies_in.pixels) and not formulas.is_of_sums(options)


def _whole_batch(options: LossOptions, lies_in: Shards, whole_images: bool) -> SumsOfBatch | None:
    """What makes the sums of the whole batch of those of this call's images; None where these are
    the batch."""
    running = accumulation.running_pass()
    groups = lies_in.images if whole_images else lies_in.images + lies_in.pixels
    if running is None and options.process_group is None and not groups:
        return None
    if formulas.keeps_images(options):
        if running is not None:
            raise ValueError(
                f"reduction={options.reduction!r}: expected one number of the batch in accumulate"
            )
        return None
    then = None
    if running is not None:
        then = functools.partial(running.sums_of_batch, options=options)
    elif options.process_group is not None:
        then = functools.partial(
            distributed.sums_over_ranks,
            process_group=options.process_group,
            gradients=options.gradients,
        )
    return functools.partial(shards.whole_batch, groups=groups, then=then) if groups else then


def _class_parallel_loss(
    logits: Tensor,
    local: Tensor,
    labels: Tensor,
    mask: Tensor | None,
    ce_class_weights: Tensor | None,
    class_weights: Tensor | None,
    objective: Objective,
    lies_in: Shards,
    names: checks.Names,
) -> Tensor:
    """The loss of logits whose classes lie on several ranks.

    Args:
        logits: the DTensor; `local` is this rank's shard of it.
    """
    options = objective.options
    checks.checked_logits(logits, options, names.logits)
    if options.activation != "softmax":
        raise _no_class_shards(
            names.logits, f"replicated ones for activation={options.activation!r}"
        )
    if len(lies_in.classes) != 1:
        raise _no_class_shards(names.logits, "one dimension of the mesh for them")
    checks.check_labels(names.labels, labels)
    checks.check_same_device(names.labels, labels, local)
    local, labels = checks.plain(local), checks.plain(labels)
    size = (local.shape[0], *local.shape[2:])
    if options.upsample is not None and labels.dim() == logits.dim() - 1:
        checks.check_lower(names.logits, logits, tuple(labels.shape[1:]), options, names.labels)
        local = interpolated(local, labels.shape[1:], options.align_corners)
        size = (local.shape[0], *local.shape[2:])
    if tuple(labels.shape) != size:
        raise ValueError(
            f"{names.labels} has shape {tuple(labels.shape)}: expected integer labels of shape "
            f"{size} with {names.logits} whose classes are sharded"
        )
    if mask is not None:
        checks.check_mask(mask, local, size[1:], names.mask)
        mask = checks.plain(mask)
    if ce_class_weights is not None:
        ce_class_weights = _checked_weights(ce_class_weights, logits, "ce_class_weights", options)
        if ce_class_weights.requires_grad:
            raise ValueError(
                "ce_class_weights requires grad: expected ce_class_weights.detach() with logits "
                "whose classes are sharded"
            )
    class_weights, class_mask = _of_classes(class_weights, logits, objective)
    if checks.can_look_at(labels, mask, waits=options.validate):
        checks.check_label_range(labels, mask, logits.shape[1], options.ignore_index, names.labels)
    statistics = class_parallel.label_statistics(
        local,
        labels,
        mask,
        ce_class_weights,
        class_parallel.class_shard(lies_in.classes[0], logits.shape[1], local.shape[1]),
        objective.of_labels.columns(objective.matrix, False),
        options,
        choose(options.backend, local.device),
    )
    whole_images = _needs_whole_images(options, lies_in)
    if whole_images:
        statistics = shards.whole_images(*statistics, lies_in.pixels)
    value = formulas.objective_loss(
        by_name(*statistics)[0],
        None,
        objective,
        class_weights,
        class_mask,
        _whole_batch(options, lies_in, whole_images),
    )
    return value.to(checks.result_dtype(local))


def _no_class_shards(name: str, expected: str) -> ValueError:
    return ValueError(
        f"{name} are sharded over classes: expected {expected}; "
        f"{name}.redistribute(placements=...) gathers them"
    )


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
