"""The operators: schemas, fake kernels and autograd, once for every compiled backend.

A backend is two functions, registered under its own name,

    jml_kernels::<backend>_statistics           forward, returns (sums, extrema, totals)
    jml_kernels::<backend>_statistics_backward  gradient of the logits, from those of sums, totals
    jml_kernels::<backend>_statistics_backward_ the same, written over the logits

and, where it finishes a loss itself, a third one, for inputs so small that the many operators of
the formula would cost more than the kernels do:

    jml_kernels::<backend>_loss                 forward, returns (loss, grad_sums, grad_totals)

which computes `formulas.objective_loss` on the statistics, and its gradients by them: the backward
multiplies these with the gradient of the loss.

`reference.statistics` describes the tensors and what comes back, `packing` the lists of options.
The operators exist without the compiled libraries, which only add kernels.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.autograd import forward_ad

from . import reference
from .backend import COMPILED
from .checks import REDUCTIONS, result_dtype
from .packing import FormulaInts
from .statistics import EXTREMA, SUMS, TOTALS

NAMESPACE = "jml_kernels"

_INPUTS = "Tensor? labels, Tensor? dense, Tensor? mask, Tensor? ce_class_weights"
_TARGET = f"{_INPUTS}, int[] target_ints, float[] target_floats"
_FORMULA = (
    "Tensor? class_weights, Tensor? class_mask, int[] formula_ints, float[] formula_floats, "
    "float[] overlap"
)
_GRADIENTS = "Tensor grad_sums, Tensor grad_totals"
#: The tensors that an operator reads come first: the logits and `_INPUTS`.
_N_TENSORS = 5

library = torch.library.Library(NAMESPACE, "DEF")


# ---- fake kernels: shapes and dtypes -------------------------------------------------------------


def _fake_statistics(logits, labels, dense, *_):
    targets = (labels is not None) + (dense is not None)
    n, c = logits.shape[:2]
    return tuple(
        logits.new_empty(shape, dtype=torch.float64)
        for shape in (
            (targets, len(SUMS), n, c),
            (targets, len(EXTREMA), n, c),
            (targets, len(TOTALS), n),
        )
    )


def _fake_loss(logits, labels, dense, mask, weights, ints, floats, *formula):
    sums, _, totals = _fake_statistics(logits, labels, dense)
    reduction = REDUCTIONS[FormulaInts(*formula[2]).reduction]
    size = logits.shape[:1] if reduction == "image" else ()
    return logits.new_empty(size, dtype=result_dtype(logits)), sums, totals


def _fake_backward(grad_sums, grad_totals, logits, *_):
    return torch.empty_like(logits)


# ---- autograd ------------------------------------------------------------------------------------


def register_no_double_backward(operator) -> Callable:
    """Whoever differentiates the gradient is told that it has no derivative. Returns the operator,
    to be called from Python."""

    class NotDifferentiable(torch.autograd.Function):
        generate_vmap_rule = True

        @staticmethod
        def forward(*inputs):
            with torch._C._AutoDispatchBelowAutograd():
                return operator(*inputs)

        @staticmethod
        def setup_context(ctx, inputs, output):
            pass

        @staticmethod
        def backward(ctx, *_):
            raise RuntimeError(
                "the gradient of a fused loss is not differentiable: for a double backward use "
                'backend="reference"'
            )

    def run(*inputs):
        if torch.is_grad_enabled():
            return NotDifferentiable.apply(*inputs)
        with torch._C._AutoDispatchBelowAutograd():
            return operator(*inputs)

    library.impl(operator._opname, run, "Autograd")
    return run


def _save_statistics(ctx, inputs, output) -> None:
    *tensors, ctx.lists = inputs
    ctx.save_for_backward(*tensors)
    ctx.mark_non_differentiable(output[1])


def _save_loss(ctx, inputs, output) -> None:
    *tensors, ctx.lists = inputs
    ctx.save_for_backward(*tensors, *output[1:])
    ctx.mark_non_differentiable(*output[1:])
    ctx.set_materialize_grads(False)  # zeros for outputs without a gradient would cost time


def _no_forward_mode(*_):
    raise RuntimeError(
        "the fused losses have no forward-mode derivative (torch.func.jvp, jacfwd, dual numbers): "
        'use backend="reference", or reverse mode (torch.func.grad, jacrev)'
    )


def has_tangent(*inputs) -> bool:
    """Whether one of the tensors among the inputs is differentiated in forward mode."""
    if forward_ad._current_level < 0:
        return False
    return any(
        isinstance(one, torch.Tensor) and forward_ad.unpack_dual(one).tangent is not None
        for one in inputs
    )


def register_autograd(
    operator, save: Callable, gradient: Callable, tensors: int = _N_TENSORS
) -> Callable:
    """As `torch.library.register_autograd`, which costs more time a call than the kernels take on a
    small crop.

    Args:
        save: (ctx, inputs, output) keeps what the backward needs; inputs are the tensors that
            the operator reads, and a tuple of what follows them.
        gradient: (ctx, *grads) -> gradient of the logits, the first argument.
        tensors: how many arguments come before that tuple; those of `_TARGET` by default.

    Returns:
        the operator, to be called from Python without the way through the dispatcher and back.
    """

    class Differentiable(torch.autograd.Function):
        generate_vmap_rule = True
        setup_context = staticmethod(save)
        jvp = staticmethod(_no_forward_mode)

        @staticmethod
        def forward(*inputs):  # the last one is a tuple: autograd looks at each of them
            *read, lists = inputs
            with torch._C._AutoDispatchBelowAutograd():
                return operator(*read, *lists)

        @staticmethod
        def backward(ctx, *grads):
            return (gradient(ctx, *grads), *[None] * tensors)

    def run(*inputs):
        if has_tangent(*inputs):
            _no_forward_mode()
        if torch.is_grad_enabled() and inputs[0].requires_grad:
            return Differentiable.apply(*inputs[:tensors], inputs[tensors:])
        with torch._C._AutoDispatchBelowAutograd():
            return operator(*inputs)

    def call(*inputs):
        # A compiled graph holds the operator itself.
        return operator(*inputs) if torch.compiler.is_compiling() else run(*inputs)

    library.impl(operator._opname, run, "Autograd")
    return call


def _define(name: str, finishes_loss: bool) -> dict[str, Callable]:
    """The operators of one backend: returns "statistics" and, where there is one, "loss"."""
    statistics, loss = f"{name}_statistics", f"{name}_loss"
    backward, inplace = f"{statistics}_backward", f"{statistics}_backward_"
    inplace_flag, scale = "bool inplace_backward=False", "Tensor? scale=None"
    schemas = {
        statistics: f"(Tensor logits, {_TARGET}, {inplace_flag})"
        " -> (Tensor sums, Tensor extrema, Tensor totals)",
        backward: f"({_GRADIENTS}, Tensor logits, {_TARGET}, {scale}) -> Tensor",
        inplace: f"({_GRADIENTS}, Tensor(a!) logits, {_TARGET}, {scale}) -> ()",
        loss: f"(Tensor logits, {_TARGET}, {_FORMULA}, {inplace_flag})"
        " -> (Tensor loss, Tensor grad_sums, Tensor grad_totals)",
    }
    fakes = {
        statistics: _fake_statistics,
        backward: _fake_backward,
        inplace: lambda *_: None,
        loss: _fake_loss,
    }
    if not finishes_loss:
        del schemas[loss]
    for operator, schema in schemas.items():
        library.define(operator + schema)
        torch.library.register_fake(f"{NAMESPACE}::{operator}", fakes[operator], lib=library)
    write_gradient = register_no_double_backward(operator_of(backward))
    write_gradient_inplace = operator_of(inplace)

    def logits_gradient(ctx, grad_sums, grad_totals, tensors, scale):
        logits, *others = tensors
        ints, floats, *_ = ctx.lists
        # Where there is no element there is nothing to write, and strides mean nothing.
        inplace_backward = ctx.lists[-1] is True and logits.numel() > 0
        # A compiled graph plans its own memory and knows no mutation of what it saved.
        if inplace_backward and not torch.compiler.is_compiling():
            # The storage of the logits becomes the gradient. The new version makes autograd
            # refuse, with its own words, whatever else had saved them.
            grad = logits.detach()
            write_gradient_inplace(grad_sums, grad_totals, grad, *others, ints, floats, scale)
            torch.autograd.graph.increment_version(logits)
            return grad
        return write_gradient(grad_sums, grad_totals, logits, *others, ints, floats, scale)

    def statistics_gradient(ctx, grad_sums, _, grad_totals):
        grads = (grad_sums.contiguous(), grad_totals.contiguous())
        return logits_gradient(ctx, *grads, ctx.saved_tensors, None)

    def loss_gradient(ctx, grad_loss, *_):
        if grad_loss is None:  # nobody asks
            return None
        *tensors, grad_sums, grad_totals = ctx.saved_tensors
        return logits_gradient(ctx, grad_sums, grad_totals, tensors, grad_loss)

    calls = {
        "statistics": register_autograd(
            operator_of(statistics), _save_statistics, statistics_gradient
        )
    }
    if finishes_loss:
        calls["loss"] = register_autograd(operator_of(loss), _save_loss, loss_gradient)
    return calls


def operator_of(name: str):
    return getattr(getattr(torch.ops, NAMESPACE), name).default


_CALLS = {backend.name: _define(backend.name, backend.finishes_loss) for backend in COMPILED}
for _backend in COMPILED:
    if _backend.register is not None:
        _backend.register(library)

#: backend -> its `statistics`, and its `loss` where it finishes one.
STATISTICS: dict[str, Callable] = {
    "reference": reference.statistics,
    **{name: calls["statistics"] for name, calls in _CALLS.items()},
}
LOSSES: dict[str, Callable] = {
    name: calls["loss"] for name, calls in _CALLS.items() if "loss" in calls
}
