"""The operators of the Lovász losses: schemas, fake kernels and gradients.

    jml_kernels::<name>_lovasz            values of all classes of a softmax
    jml_kernels::<name>_lovasz_backward   gradient of the logits, from that of the values

for the name "any", in PyTorch on any device (by_class.py). The first reads

    logits, labels, mask   (N, C, *spatial), integers and bool (N, *spatial) or None
    ignore_index           `packing.NEVER` where nothing is ignored
    classes                those that are asked for
    only_present           whether a class without labels need not be computed
    per_image              whether a group is an image, else the batch
    align_corners          of logits with lower spatial sizes than the labels'
    with_slopes            whether a backward follows

and returns values and label counts, float64 (groups, C), and for the backward the slopes by the
probabilities, (N, C, *spatial), or none where they are not kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .. import checks
from ..ops import (
    NAMESPACE,
    library,
    operator_of,
    register_autograd,
    register_no_double_backward,
)
from . import by_class, extension
from .reference import label_counts

_CALL = (
    "Tensor logits, Tensor labels, Tensor? mask, int ignore_index, int[] classes, "
    "bool only_present, bool per_image, bool align_corners"
)
#: Those that come first.
_N_TENSORS = 3


def counted_pixels(labels: Tensor, mask: Tensor | None, ignore_index: int) -> Tensor:
    counted = ~checks.is_ignored(labels, ignore_index)
    return counted if mask is None else counted & mask


# ---- fake kernels --------------------------------------------------------------------------------


def _keeps_slopes(logits: Tensor, labels: Tensor) -> bool:
    """Those of logits that are interpolated would be larger than the logits."""
    return logits.shape[2:] == labels.shape[1:]


def _fake_forward(
    logits, labels, mask, ignore_index, classes, only_present, per_image, align_corners, with_slopes
):
    groups = logits.shape[0] if per_image else 1
    values = logits.new_empty(groups, logits.shape[1], dtype=torch.float64)
    size = logits.shape if with_slopes and _keeps_slopes(logits, labels) else (0,)
    # Of half types they would be too small.
    slopes = logits.new_empty(size, dtype=checks.result_dtype(logits))
    return values, torch.empty_like(values), slopes


def _fake_backward(grad_values, slopes, logits, *_):
    return torch.empty_like(logits)


# ---- any device ----------------------------------------------------------------------------------


def _call(
    logits: Tensor,
    labels: Tensor,
    mask: Tensor | None,
    ignore_index: int,
    classes: Sequence[int],
    only_present: bool,
    per_image: bool,
    align_corners: bool,
) -> by_class.Call:
    on_cpu = labels.device.type == "cpu"
    counted = counted_pixels(labels, mask, ignore_index)
    index = labels.to(torch.int64)
    needed = [c in classes for c in range(logits.shape[1])]
    if only_present and on_cpu:  # elsewhere the host would wait
        present = index[counted].bincount(minlength=logits.shape[1]) > 0
        needed = [n and p for n, p in zip(needed, present.tolist(), strict=True)]
    return by_class.Call(
        logits, index, counted, needed, per_image, align_corners, extension.evaluate
    )


def _forward(logits, labels, mask, ignore_index, *others):
    *of_call, with_slopes = others
    if labels.device.type == "cpu":
        checks.check_label_range(labels, mask, logits.shape[1], ignore_index)
    call = _call(logits, labels, mask, ignore_index, *of_call)
    values, slopes = by_class.forward(call, with_slopes and _keeps_slopes(logits, labels))
    counts = label_counts(call.labels, call.counted, logits.shape[1], call.per_image)
    return values, counts, slopes


def _backward(grad_values, slopes, *of_call):
    return by_class.backward(_call(*of_call), grad_values, slopes)


# ---- autograd ------------------------------------------------------------------------------------


def _save(ctx, inputs, output) -> None:
    *tensors, ctx.options = inputs
    ctx.save_for_backward(*tensors)
    ctx.mark_non_differentiable(*output[1:])
    ctx.set_materialize_grads(False)
    ctx.slopes = output[2]


def _define(name: str) -> Callable:
    forward, backward = f"{name}_lovasz", f"{name}_lovasz_backward"
    library.define(f"{forward}({_CALL}, bool with_slopes) -> (Tensor, Tensor, Tensor)")
    library.define(f"{backward}(Tensor grad_values, Tensor slopes, {_CALL}) -> Tensor")
    for operator, fake in ((forward, _fake_forward), (backward, _fake_backward)):
        torch.library.register_fake(f"{NAMESPACE}::{operator}", fake, lib=library)
    write_gradient = register_no_double_backward(operator_of(backward))

    def gradient(ctx, grad_values, *_):
        if grad_values is None:  # nobody asks
            return None
        tensors = ctx.saved_tensors
        *of_call, _with_slopes = ctx.options
        return write_gradient(grad_values.contiguous(), ctx.slopes, *tensors, *of_call)

    return register_autograd(operator_of(forward), _save, gradient, _N_TENSORS)


#: name -> `values` with a gradient.
VALUES: dict[str, Callable] = {"any": _define("any")}
library.impl("any_lovasz", _forward, "CompositeExplicitAutograd")
library.impl("any_lovasz_backward", _backward, "CompositeExplicitAutograd")
