"""A step of a loss: forward and backward."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def step(
    function: Callable[..., Tensor], logits: Tensor, *others: Tensor | None, **options: object
) -> tuple[Tensor, Tensor]:
    """(loss, gradient of the logits), by any module or function."""
    leaf = logits.detach().requires_grad_()
    loss = function(leaf, *others, **options)
    (gradient,) = torch.autograd.grad(loss, leaf)
    return loss.detach(), gradient
