"""The operators of the Lovász losses: schemas, fake kernels and gradients.

    jml_kernels::<name>_lovasz            values of all classes of a softmax
    jml_kernels::<name>_lovasz_backward   gradient of the logits, from that of the values

for two names: "any", in PyTorch on any device (by_class.py), and "cpu", the C++ kernels. The first
reads

    logits, labels, mask   (N, C, *spatial), integers and bool (N, *spatial) or None
    ignore_index           `packing.NEVER` where nothing is ignored
    classes                those that are asked for
    only_present           whether a class without labels need not be computed
    per_image              whether a group is an image, else the batch
    align_corners          of logits with lower spatial sizes than the labels'
    with_slopes            whether a backward follows
    inplace_backward       whether that may write over the slopes, which no one else is to read

and returns values and label counts, float64 (groups, C), and for the backward the slopes by the
probabilities, (N, C, *spatial), or none where they are not kept.

With those slopes s the gradient of the logits is that of the sum over pixels of s x, whose slopes
do not change: the statistic `intersection` against s as a dense target, for which backends have a
kernel (`gradient_arguments`). On the CPU there is also

    jml_kernels::cpu_lovasz_backward_     the same, written over the slopes
    jml_kernels::cpu_extension            errors of one class -> value and slopes, in C++
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .. import checks
from ..backend import BY_NAME
from ..ops import (
    NAMESPACE,
    library,
    operator_of,
    register_autograd,
    register_no_double_backward,
)
from ..packing import NEVER, TargetFloats, TargetInts
from ..statistics import SUMS, TOTALS, column_bits
from . import by_class, extension
from .reference import label_counts

_CALL = (
    "Tensor logits, Tensor labels, Tensor? mask, int ignore_index, int[] classes, "
    "bool only_present, bool per_image, bool align_corners"
)
#: The kernels know a pixel of a class by 32 bits.
MOST_ELEMENTS = 2**32
#: Those that come first.
_N_TENSORS = 3


def counted_pixels(labels: Tensor, mask: Tensor | None, ignore_index: int) -> Tensor:
    counted = ~checks.is_ignored(labels, ignore_index)
    return counted if mask is None else counted & mask


# ---- fake kernels --------------------------------------------------------------------------------


def _keeps_slopes(logits: Tensor, labels: Tensor) -> bool:
    """Those of logits that are interpolated would be larger than the logits."""
    return logits.shape[2:] == labels.shape[1:]


def _fake_forward(logits, labels, mask, ignore_index, classes, only_present, per_image, *others):
    _align_corners, with_slopes, _inplace_backward = others
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
    evaluate = evaluation("cpu" if on_cpu else "any", index.numel())
    return by_class.Call(logits, index, counted, needed, per_image, align_corners, evaluate)


def _forward(logits, labels, mask, ignore_index, *others):
    *of_call, with_slopes, _inplace_backward = others
    if labels.device.type == "cpu":
        checks.check_label_range(labels, mask, logits.shape[1], ignore_index)
    call = _call(logits, labels, mask, ignore_index, *of_call)
    values, slopes = by_class.forward(call, with_slopes and _keeps_slopes(logits, labels))
    counts = label_counts(call.labels, call.counted, logits.shape[1], call.per_image)
    return values, counts, slopes


def _backward(grad_values, slopes, *of_call):
    return by_class.backward(_call(*of_call), grad_values, slopes)


# ---- CPU -----------------------------------------------------------------------------------------


def evaluation(backend: str, pixels: int) -> by_class.Evaluate:
    """What evaluates the extension of one class."""
    has_kernel = backend == "cpu" and BY_NAME["cpu"].reason is None and pixels < MOST_ELEMENTS
    return _evaluate_on_cpu if has_kernel else extension.evaluate


def _evaluate_on_cpu(errors: Tensor, is_label: Tensor, counted: Tensor) -> tuple[Tensor, Tensor]:
    return operator_of("cpu_extension")(*(t.contiguous() for t in (errors, is_label, counted)))


def gradient_arguments(
    grad_values: Tensor,
    slopes: Tensor,
    logits: Tensor,
    labels: Tensor,
    mask: Tensor | None,
    ignore_index: int,
    *_,
) -> dict[str, object]:
    """Those of `<backend>_statistics_backward`."""
    n, c = logits.shape[:2]
    grad_sums = slopes.new_zeros(1, len(SUMS), n, c, dtype=torch.float64)
    grad_sums[0, SUMS.index("intersection")] = grad_values
    softmax = checks.ACTIVATIONS.index("softmax")
    return {
        "grad_sums": grad_sums,
        "grad_totals": grad_sums.new_zeros(1, len(TOTALS), n),
        "logits": logits,
        "labels": None,
        "dense": slopes,
        "mask": counted_pixels(labels, mask, ignore_index),
        "ce_class_weights": None,
        "target_ints": TargetInts(0, column_bits("intersection"), softmax, 0, NEVER, 0, 0),
        "target_floats": TargetFloats(0.0, 0.0, 1.0),
    }


def _backward_on_cpu(*arguments):
    return operator_of("cpu_statistics_backward")(**gradient_arguments(*arguments))


def _write_over_slopes(*arguments) -> Tensor:
    of = gradient_arguments(*arguments)
    slopes = of.pop("dense")
    del of["labels"], of["ce_class_weights"]
    counted = of.pop("mask")
    operator_of("cpu_lovasz_backward_")(slopes=slopes, counted=counted, **of)
    return slopes


# ---- autograd ------------------------------------------------------------------------------------


def _save(ctx, inputs, output) -> None:
    *tensors, ctx.options = inputs
    ctx.save_for_backward(*tensors)
    ctx.mark_non_differentiable(*output[1:])
    ctx.set_materialize_grads(False)
    ctx.slopes = output[2]


def _is_own(slopes: Tensor | None) -> bool:
    """Whether they can be written over, and are not one of a graph that is traced, which plans its
    own memory, or of a transformation of functions."""
    if torch.compiler.is_compiling():
        return False
    return slopes is None or (
        type(slopes) is Tensor and not torch._C._functorch.is_functorch_wrapped_tensor(slopes)
    )


def _define(name: str) -> Callable:
    forward, backward = f"{name}_lovasz", f"{name}_lovasz_backward"
    library.define(
        f"{forward}({_CALL}, bool with_slopes, bool inplace_backward) -> (Tensor, Tensor, Tensor)"
    )
    library.define(f"{backward}(Tensor grad_values, Tensor slopes, {_CALL}) -> Tensor")
    for operator, fake in ((forward, _fake_forward), (backward, _fake_backward)):
        torch.library.register_fake(f"{NAMESPACE}::{operator}", fake, lib=library)
    write_gradient = register_no_double_backward(operator_of(backward))

    def gradient(ctx, grad_values, *_):
        if grad_values is None:  # nobody asks
            return None
        tensors = ctx.saved_tensors
        *of_call, _with_slopes, inplace_backward = ctx.options
        if not inplace_backward or torch.is_grad_enabled() or not _is_own(ctx.slopes):
            return write_gradient(grad_values, ctx.slopes, *tensors, *of_call)
        slopes, ctx.slopes = ctx.slopes, None
        if slopes is None:  # an earlier backward has used them up
            with torch._C._AutoDispatchBelowAutograd():
                slopes = operator_of(forward)(*tensors, *of_call, True, True)[2]
        arguments = (grad_values, slopes, *tensors, *of_call)
        logits = tensors[0]
        if slopes.dtype == logits.dtype and logits.is_contiguous():
            return _write_over_slopes(*arguments)
        return write_gradient(*arguments)

    return register_autograd(operator_of(forward), _save, gradient, _N_TENSORS)


#: name -> `values` with a gradient.
VALUES: dict[str, Callable] = {name: _define(name) for name in ("any", "cpu")}
library.impl("any_lovasz", _forward, "CompositeExplicitAutograd")
library.impl("any_lovasz_backward", _backward, "CompositeExplicitAutograd")
library.impl("cpu_lovasz_backward", _backward_on_cpu, "CPU")

library.define(
    "cpu_lovasz_backward_(Tensor grad_sums, Tensor grad_totals, Tensor logits, Tensor(a!) slopes, "
    "Tensor counted, int[] target_ints, float[] target_floats) -> ()"
)
library.define("cpu_extension(Tensor errors, Tensor is_label, Tensor counted) -> (Tensor, Tensor)")
torch.library.register_fake(f"{NAMESPACE}::cpu_lovasz_backward_", lambda *_: None, lib=library)


@torch.library.register_fake(f"{NAMESPACE}::cpu_extension", lib=library)
def _fake_extension(errors, is_label, counted):
    return errors.new_empty(errors.shape[0], dtype=torch.float64), torch.empty_like(errors)
