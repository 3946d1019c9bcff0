"""A call of a Lovász loss: tensors are checked, a backend is chosen, and the values of the classes
become the loss."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import checks
from ..accumulation import running_pass
from ..backend import BY_NAME, choose
from ..packing import NEVER
from ..upsampling import interpolated
from . import reference
from .extension import Extension
from .operators import MOST_ELEMENTS, VALUES, counted_pixels, evaluation
from .options import HingeOptions, SoftmaxOptions


def softmax_loss(
    logits: Tensor,
    target: Tensor,
    mask: Tensor | None,
    class_weights: Tensor | None,
    options: SoftmaxOptions,
) -> Tensor:
    """See `functional.lovasz_softmax_loss`."""
    logits, labels = _checked(logits, target, mask, options)
    if class_weights is not None:
        checks.check_class_weights(class_weights, logits, "class_weights")
    classes = options.classes_of(logits.shape[1])
    only_present, per_image = options.classes == "present", options.per_image
    backend = _chosen(options, logits)
    ignore_index = NEVER if options.ignore_index is None else options.ignore_index
    if backend == "reference":
        counted = counted_pixels(labels, mask, ignore_index)
        index = labels.to(torch.int64)
        values = reference.values(logits, index, counted, per_image, options.align_corners)
        counts = reference.label_counts(index, counted, logits.shape[1], per_image)
    else:
        upsamples = logits.shape[2:] != labels.shape[1:]
        name = "any" if upsamples or logits.numel() >= MOST_ELEMENTS else backend
        values, counts, _ = VALUES[name](
            logits,
            labels,
            mask,
            ignore_index,
            classes,
            only_present,
            per_image,
            options.align_corners,
            torch.is_grad_enabled() and logits.requires_grad,
            name == "cpu",
        )
    loss = mean_of_classes(values, counts, classes, only_present, class_weights)
    return loss.to(checks.result_dtype(logits))


def mean_of_classes(
    values: Tensor,
    counts: Tensor,
    classes: list[int],
    only_present: bool,
    class_weights: Tensor | None,
) -> Tensor:
    """The mean over classes of each group, then over the groups in which a class counts.

    Args:
        values: the extension of each class, float64 (groups, C).
        counts: its pixels, float64 (groups, C); NaN in a group that holds a label out of range.
        classes: those that may count; of those, with only_present, the ones that have a pixel.
    """
    pixels = counts.sum(1, keepdim=True)
    counts_here = (counts if only_present else pixels.expand_as(counts)) > 0
    asked_for = [c in classes for c in range(counts.shape[1])]
    if not all(asked_for):
        columns = [
            counts_here[:, c] if asked_for[c] else torch.zeros_like(counts_here[:, c])
            for c in range(counts.shape[1])
        ]
        counts_here = torch.stack(columns, dim=1)
    weighted = values if class_weights is None else values * class_weights.double()
    sums = torch.where(counts_here, weighted, 0).sum(1)
    number = counts_here.sum(1)
    groups = (number > 0).sum().clamp(min=1)
    # NaN times 0 is NaN.
    return (sums / number.clamp(min=1)).sum() / groups + 0 * pixels.sum()


def hinge_loss(
    logits: Tensor, target: Tensor, mask: Tensor | None, options: HingeOptions
) -> Tensor:
    """See `functional.lovasz_hinge_loss`."""
    logits, labels = _checked(logits, target, mask, options)
    if logits.shape[1] != 1:
        raise ValueError(
            f"logits has shape {tuple(logits.shape)}: expected one class, (N, 1, *spatial), or "
            "LovaszSoftmaxLoss for a softmax over several"
        )
    backend = _chosen(options, logits)
    ignore_index = NEVER if options.ignore_index is None else options.ignore_index
    z = interpolated(logits, labels.shape[1:], options.align_corners).squeeze(1)
    z = z if z.dtype == torch.float64 else z.float()
    counted, index = counted_pixels(labels, mask, ignore_index), labels.to(torch.int64)
    counts = reference.label_counts(index, counted, 2, options.per_image)
    is_label = index == 1
    margin = torch.where(is_label, z, -z)
    errors = torch.where(counted, torch.relu(1 - margin), 0)
    parts = (reference.groups_of(p, options.per_image) for p in (errors, is_label, counted))
    values, _ = Extension.apply(*parts, evaluation(backend, labels.numel()))
    loss = mean_of_classes(values.unsqueeze(1), counts.sum(1, keepdim=True), [0], False, None)
    return loss.to(checks.result_dtype(logits))


def _checked(
    logits: Tensor, target: Tensor, mask: Tensor | None, options: HingeOptions
) -> tuple[Tensor, Tensor]:
    """(logits, labels), as plain tensors."""
    if running_pass() is not None:
        raise RuntimeError(
            "accumulate has a Lovász loss: expected a loss that is a formula of sums over pixels, "
            "which errors that are sorted are not"
        )
    logits = checks.checked_logits(logits, options)
    is_soft = isinstance(target, Tensor) and target.is_floating_point()
    if is_soft and target.dim() == logits.dim() and target.shape[1] == logits.shape[1]:
        raise ValueError(
            f"target has shape {tuple(target.shape)} and dtype {target.dtype}: expected integer "
            "labels, since the Lovász extension is not defined for soft labels; JaccardMetricLoss "
            "takes them"
        )
    labels, dense = checks.split_target(logits, target, options)
    if dense is not None:
        raise ValueError(
            f"target has shape {tuple(target.shape)} and dtype {target.dtype}: expected integer "
            f"labels of shape {(len(logits), *dense.shape[2:])}"
        )
    if options.upsample is not None:
        size = tuple(labels.shape[1:])
        checks.check_lower("logits", logits, size, options, "target")
    if mask is not None:
        checks.check_mask(mask, logits, tuple(labels.shape[1:]))
    if checks.can_look_at(labels, mask, waits=options.validate):
        count = checks.label_count(logits.shape[1], options.activation)
        checks.check_label_range(labels, mask, count, options.ignore_index)
    return logits, labels


def _chosen(options: HingeOptions, logits: Tensor) -> str:
    """ "reference", "cpu", or "any" where there are no kernels of these losses."""
    if options.backend == "auto":
        is_cpu = logits.device.type == "cpu" and BY_NAME["cpu"].reason is None
        return "cpu" if is_cpu else "any"
    backend = choose(options.backend, logits.device)
    if backend not in ("cpu", "reference"):
        raise RuntimeError(
            f"backend={backend!r} cannot run here: it has no kernels of the Lovász losses, which "
            "backend='auto' computes in PyTorch on this device"
        )
    return backend
