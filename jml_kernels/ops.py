"""The operators: schemas, fake kernels and autograd, once for every compiled backend.

A backend is two functions, registered under its own name:

    jml_kernels::<backend>_statistics           forward, returns (sums, extrema, totals)
    jml_kernels::<backend>_statistics_backward  gradient of the logits, from those of sums, totals

and, in `FINISHED` backends, the formula too, where many small operators would cost more than the
kernels do:

    jml_kernels::<backend>_loss                 forward, returns (loss, grad_sums, grad_totals)

It computes `formulas.objective_loss` on the statistics, and its gradients by them: the backward
multiplies these with that of the loss.

Shapes with T targets (labels first, then the dense one): see `reference.statistics`, which computes
the same. The operators exist without the compiled library, which only adds kernels.
"""

from __future__ import annotations

import importlib

import torch
from torch import Tensor

from .statistics import EXTREMA, SUMS, TOTALS

NAMESPACE = "jml_kernels"
BACKENDS = ("cuda", "triton", "cpu")
#: Those that finish a loss themselves.
FINISHED = ("cuda", "triton", "cpu")

_RULE = (
    "Tensor? labels, Tensor? dense, Tensor? mask, Tensor? ce_class_weights, int label_columns, "
    "int dense_columns, str activation, float label_smoothing, int boundary_size, "
    "int ignore_index, float? teacher_temperature, float student_temperature"
)
_FORMULA = (
    "Tensor? class_weights, str overlap, float alpha, float beta, float gamma, float smooth, "
    "bool log_loss, float dataset, float image, float per_class, float active_threshold, "
    "str label_active, str dense_active, float label_ce, float dense_ce, float label_overlap, "
    "float dense_overlap, bool divergence"
)
# Where they end in the arguments of an operator, which begin with the logits.
_RULE_END = 1 + _RULE.count(",") + 1
_FORMULA_END = _RULE_END + _FORMULA.count(",") + 1
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


def _fake_loss(logits, labels, dense, *_):
    sums, _, totals = _fake_statistics(logits, labels, dense, None)
    dtype = torch.float64 if logits.dtype == torch.float64 else torch.float32
    return logits.new_empty((), dtype=dtype), sums, totals


def _fake_backward(grad_sums, grad_totals, logits, *_):
    return torch.empty_like(logits)


def _no_double_backward(ctx, *_):
    raise RuntimeError(
        "the gradient of a fused loss is not differentiable: for a double backward use "
        'backend="reference"'
    )


def _register_autograd(name: str, setup_context, gradient) -> None:
    """As `torch.library.register_autograd`, whose time for a call grows with the square of the
    schema's length: 0.3 ms for these, more than the kernels take on a small crop.

    Args:
        setup_context: (ctx, inputs, output); inputs are the arguments but trailing defaults.
        gradient: (ctx, *grads) -> gradient of the logits, the first argument.
    """
    operator = getattr(getattr(torch.ops, NAMESPACE), name).default

    class Differentiable(torch.autograd.Function):
        @staticmethod
        def forward(ctx, *inputs):
            with torch._C._AutoDispatchBelowAutograd():
                output = operator(*inputs)
            setup_context(ctx, inputs, output)
            return output

        @staticmethod
        def backward(ctx, *grads):
            return (gradient(ctx, *grads), *[None] * (len(ctx.needs_input_grad) - 1))

    def run(*inputs):
        if torch.is_grad_enabled() and inputs[0].requires_grad:
            return Differentiable.apply(*inputs)
        with torch._C._AutoDispatchBelowAutograd():
            return operator(*inputs)

    _library.impl(name, run, "Autograd")


def _define(backend: str) -> None:
    forward = f"{backend}_statistics"
    backward = f"{forward}_backward"
    inplace = f"{backward}_"
    _library.define(
        f"{forward}(Tensor logits, {_RULE}, bool inplace_backward=False)"
        " -> (Tensor sums, Tensor extrema, Tensor totals)"
    )
    grads = "Tensor grad_sums, Tensor grad_totals"
    scale = "Tensor? scale=None"
    _library.define(f"{backward}({grads}, Tensor logits, {_RULE}, {scale}) -> Tensor")
    _library.define(f"{inplace}({grads}, Tensor(a!) logits, {_RULE}, {scale}) -> ()")
    torch.library.register_fake(f"{NAMESPACE}::{forward}", _fake_statistics, lib=_library)
    torch.library.register_fake(f"{NAMESPACE}::{backward}", _fake_backward, lib=_library)
    torch.library.register_fake(f"{NAMESPACE}::{inplace}", lambda *_: None, lib=_library)
    ops = getattr(torch.ops, NAMESPACE)

    def setup_context(ctx, inputs, output):
        ctx.rule, ctx.inplace = inputs[5:_RULE_END], inputs[_RULE_END:] == (True,)
        ctx.save_for_backward(*inputs[:5])
        ctx.mark_non_differentiable(output[1])

    def gradient(ctx, grad_sums, _, grad_totals):
        grads = (grad_sums.contiguous(), grad_totals.contiguous())
        return logits_gradient(ctx, *grads, ctx.saved_tensors, None)

    def logits_gradient(ctx, grad_sums, grad_totals, tensors, scale):
        logits = tensors[0]
        # A compiled graph plans its own memory and knows no mutation of what it saved.
        if ctx.inplace and not torch.compiler.is_compiling():
            # The storage of the logits becomes the gradient. The new version makes autograd
            # refuse, with its own words, whatever else had saved them.
            grad = logits.detach()
            getattr(ops, inplace)(grad_sums, grad_totals, grad, *tensors[1:], *ctx.rule, scale)
            torch.autograd.graph.increment_version(logits)
            return grad
        return getattr(ops, backward)(grad_sums, grad_totals, *tensors, *ctx.rule, scale)

    _register_autograd(forward, setup_context, gradient)
    torch.library.register_autograd(f"{NAMESPACE}::{backward}", _no_double_backward, lib=_library)
    if backend not in FINISHED:
        return

    _library.define(
        f"{backend}_loss(Tensor logits, {_RULE}, {_FORMULA}, bool inplace_backward=False)"
        " -> (Tensor loss, Tensor grad_sums, Tensor grad_totals)"
    )
    torch.library.register_fake(f"{NAMESPACE}::{backend}_loss", _fake_loss, lib=_library)

    def setup_loss(ctx, inputs, output):
        ctx.rule, ctx.inplace = inputs[5:_RULE_END], inputs[_FORMULA_END:] == (True,)
        ctx.save_for_backward(*output[1:], *inputs[:5])
        ctx.mark_non_differentiable(*output[1:])

    def loss_gradient(ctx, grad_loss, *_):
        grad_sums, grad_totals, *tensors = ctx.saved_tensors
        return logits_gradient(ctx, grad_sums, grad_totals, tensors, grad_loss)

    _register_autograd(f"{backend}_loss", setup_loss, loss_gradient)


def _register_triton() -> None:
    """The kernels are imported by the first call. On the CPU they run through Triton's interpreter,
    for which `backends` asks."""

    def implementation(module: str, name: str):
        def run(*arguments):
            kernels = importlib.import_module(f"jml_kernels.triton_kernels.{module}")
            return getattr(kernels, name)(*arguments)

        return run

    for module, name in (
        ("statistics", "statistics"),
        ("statistics", "statistics_backward"),
        ("statistics", "statistics_backward_"),
        ("loss", "loss"),
    ):
        for key in ("CUDA", "CPU"):
            _library.impl(f"triton_{name}", implementation(module, name), key)


for _backend in BACKENDS:
    _define(_backend)
_register_triton()


def statistics(backend: str, *arguments) -> tuple[Tensor, Tensor, Tensor]:
    """Call the operator of a backend: arguments of `reference.statistics`, and inplace_backward."""
    return getattr(getattr(torch.ops, NAMESPACE), f"{backend}_statistics")(*arguments)


def loss(backend: str, *arguments) -> Tensor:
    """The same of a `FINISHED` backend, with a formula: 0-dim."""
    return getattr(getattr(torch.ops, NAMESPACE), f"{backend}_loss")(*arguments)[0]
