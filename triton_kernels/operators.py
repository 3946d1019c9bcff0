"""The Triton backend: what ops.py registers. Here arguments are checked and outputs made; launch.py
and formula_launch.py choose the kernels. Imported only where Triton is there.

Each function begins with the arguments of `reference.statistics`, the backwards after the gradients
of sums and totals. inplace_backward, the last argument of a forward, is for autograd.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..checks import result_dtype
from .formula_launch import formula_launch
from .inputs import (
    N_FORMULA_INPUTS,
    N_INPUTS,
    Inputs,
    check_gradients,
    check_not_expanded,
    check_values,
    checked_formula_inputs,
    checked_inputs,
)
from .launch import Statistics, backward_launch, forward_launches, new_statistics, on_device
from .tally_launch import Counts, checked_ints, new_counts, tally_launches


def statistics(*arguments) -> Statistics:
    """(*inputs, inplace_backward): `reference.statistics` as two kernels."""
    return _statistics(checked_inputs(*arguments[:N_INPUTS]))


def loss(*arguments) -> tuple[Tensor, Tensor, Tensor]:
    """(*inputs, *formula_inputs, inplace_backward): (loss, grad_sums, grad_totals), which are
    `formulas.objective_loss` of the statistics and its gradients by them, with one kernel more."""
    inputs = checked_inputs(*arguments[:N_INPUTS])
    formula = checked_formula_inputs(
        inputs.logits, *arguments[N_INPUTS : N_INPUTS + N_FORMULA_INPUTS]
    )
    launch, (loss, *gradients) = formula_launch(inputs, formula, _statistics(inputs))
    with on_device(inputs.logits):
        launch.run()
    if loss.dim() > 0:  # the terms of each image
        loss = loss.sum(0).to(result_dtype(inputs.logits))
    return loss, *gradients


def statistics_backward(grad_sums: Tensor, grad_totals: Tensor, *arguments) -> Tensor:
    """(grad_sums, grad_totals, *inputs, scale): the gradient of the logits, with their dtype and
    memory format. scale: one number that the gradients are multiplied with, or None."""
    grad = torch.empty_like(arguments[0])
    _write_gradient(grad_sums, grad_totals, arguments, grad)
    return grad


def statistics_backward_(grad_sums: Tensor, grad_totals: Tensor, *arguments) -> None:
    """The same, written over the logits."""
    logits = arguments[0]
    check_not_expanded(logits)
    _write_gradient(grad_sums, grad_totals, arguments, logits)


def tally(logits: Tensor, labels: Tensor, mask: Tensor | None, tally_ints: Sequence[int]) -> Counts:
    """`reference_tally.tally`, of a softmax, as two kernels or three."""
    ints = checked_ints(logits, labels, mask, tally_ints)
    if labels.numel() == 0:
        return new_counts(logits, ints, torch.zeros)
    launches, counts = tally_launches(logits, labels, mask, ints)
    with on_device(logits):
        for launch in launches:
            launch.run()
    return counts


def _statistics(inputs: Inputs) -> Statistics:
    logits = inputs.logits
    if not logits.is_cuda:
        check_values(inputs)
    if logits.numel() == 0:
        return new_statistics(inputs, torch.zeros)
    launches, outputs = forward_launches(inputs)
    with on_device(logits):
        for launch in launches:
            launch.run()
    return outputs


def _write_gradient(grad_sums: Tensor, grad_totals: Tensor, arguments: tuple, grad: Tensor) -> None:
    inputs = checked_inputs(*arguments[:N_INPUTS])
    scale = arguments[N_INPUTS] if len(arguments) > N_INPUTS else None
    check_gradients(grad_sums, grad_totals, scale, inputs)
    if grad.numel():
        with on_device(inputs.logits):
            backward_launch(grad_sums, grad_totals, inputs, scale, grad).run()
