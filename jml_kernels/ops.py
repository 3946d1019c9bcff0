"""The operators: schemas, fake kernels and autograd, once for every compiled backend.

A backend is two functions, registered under its own name:

    jml_kernels::<backend>_statistics           forward, returns (sums, extrema, totals)
    jml_kernels::<backend>_statistics_backward  gradient of the logits, from those of sums, totals

Shapes with T targets (labels first, then the dense one): see `reference.statistics`, which
computes the same. The operators exist without the compiled library, which only adds kernels.
"""

from __future__ import annotations

import importlib

import torch
from torch import Tensor

from .statistics import EXTREMA, SUMS, TOTALS

NAMESPACE = "jml_kernels"
BACKENDS = ("cpu", "triton")

_RULE = (
    "Tensor? labels, Tensor? dense, Tensor? mask, Tensor? ce_class_weights, int label_columns, "
    "int dense_columns, str activation, float label_smoothing, int boundary_size, "
    "int ignore_index, float? teacher_temperature, float student_temperature"
)
_RULE_LENGTH = _RULE.count(",") + 1
_library = torch.library.Library(NAMESPACE, "DEF")


def _fake_statistics(logits, labels, dense, mask, *_):
    targets = (labels is not None) + (dense is not None)
    n, c = logits.shape[:2]
    new = lambda *shape: logits.new_empty(shape, dtype=torch.float64)  # noqa: E731
    return (
        new(targets, len(SUMS), n, c),
        new(targets, len(EXTREMA), n, c),
        new(targets, len(TOTALS), n),
    )


def _fake_backward(grad_sums, grad_totals, logits, *_):
    return torch.empty_like(logits)


def _no_double_backward(ctx, *_):
    raise RuntimeError(
        "the gradient of a fused loss is not differentiable: for a double backward use "
        'backend="reference"'
    )


def _define(backend: str) -> None:
    forward = f"{backend}_statistics"
    backward = f"{forward}_backward"
    inplace = f"{backward}_"
    _library.define(
        f"{forward}(Tensor logits, {_RULE}, bool inplace_backward=False)"
        " -> (Tensor sums, Tensor extrema, Tensor totals)"
    )
    _library.define(
        f"{backward}(Tensor grad_sums, Tensor grad_totals, Tensor logits, {_RULE}) -> Tensor"
    )
    _library.define(
        f"{inplace}(Tensor grad_sums, Tensor grad_totals, Tensor(a!) logits, {_RULE}) -> ()"
    )
    torch.library.register_fake(f"{NAMESPACE}::{forward}", _fake_statistics, lib=_library)
    torch.library.register_fake(f"{NAMESPACE}::{backward}", _fake_backward, lib=_library)
    torch.library.register_fake(f"{NAMESPACE}::{inplace}", lambda *_: None, lib=_library)
    ops = getattr(torch.ops, NAMESPACE)

    def setup_context(ctx, inputs, output):
        logits, labels, dense, mask, ce_class_weights, *ctx.rule, ctx.inplace = inputs
        ctx.save_for_backward(logits, labels, dense, mask, ce_class_weights)
        ctx.mark_non_differentiable(output[1])

    def gradient(ctx, grad_sums, _, grad_totals):
        logits, *tensors = ctx.saved_tensors
        grads = (grad_sums.contiguous(), grad_totals.contiguous())
        # A compiled graph plans its own memory and knows no mutation of what it saved.
        if ctx.inplace and not torch.compiler.is_compiling():
            # The storage of the logits becomes the gradient. The new version makes autograd
            # refuse, with its own words, whatever else had saved them.
            grad = logits.detach()
            getattr(ops, inplace)(*grads, grad, *tensors, *ctx.rule)
            torch.autograd.graph.increment_version(logits)
        else:
            grad = getattr(ops, backward)(*grads, logits, *tensors, *ctx.rule)
        return (grad, *[None] * (_RULE_LENGTH + 1))

    torch.library.register_autograd(
        f"{NAMESPACE}::{forward}", gradient, setup_context=setup_context, lib=_library
    )
    torch.library.register_autograd(f"{NAMESPACE}::{backward}", _no_double_backward, lib=_library)


def _register_triton() -> None:
    """The kernels are imported by the first call. On the CPU they run through Triton's interpreter,
    for which `backends` asks."""

    def implementation(name: str):
        def run(*arguments):
            kernels = importlib.import_module("jml_kernels.triton_kernels.statistics")
            return getattr(kernels, name)(*arguments)

        return run

    for name in ("statistics", "statistics_backward", "statistics_backward_"):
        for key in ("CUDA", "CPU"):
            _library.impl(f"triton_{name}", implementation(name), key)


for _backend in BACKENDS:
    _define(_backend)
_register_triton()


def statistics(backend: str, *arguments) -> tuple[Tensor, Tensor, Tensor]:
    """Call the operator of a backend: arguments of `reference.statistics`, and inplace_backward."""
    return getattr(getattr(torch.ops, NAMESPACE), f"{backend}_statistics")(*arguments)
