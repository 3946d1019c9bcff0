"""How right a loss and its gradient are, and how right they must be."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from . import reference, upsampling

#: |loss - oracle|, by the dtype of the logits. Half types are computed in float32.
LOSS_TOLERANCE = {
    torch.float64: 1e-12,
    torch.float32: 1e-6,
    torch.float16: 1e-5,
    torch.bfloat16: 1e-5,
}
#: ||gradient - oracle|| / ||oracle||: the rounding of the gradient's own dtype.
GRADIENT_TOLERANCE = {
    torch.float64: 1e-12,
    torch.float32: 1e-5,
    torch.float16: 1e-3,
    torch.bfloat16: 1e-2,
}
#: The gradient of |x - y| jumps at x = y. Where a probability in float32 cannot tell on which side
#: of a target it is, no gradient is wrong: pixels with a class this near, relatively, are left
#: out (of 18 million elements 6 are, and one alone is an error of 2e-4 in the whole gradient).
TIE = 1e-6


@dataclass(frozen=True)
class Answer:
    """Of a loss: its value, 0-dim, and its gradient by the logits, times `gradient_scale`; None of
    a metric."""

    loss: Tensor
    gradient: Tensor | None


def gradient_scale(logits: Tensor) -> Tensor:
    """What the loss is multiplied with before the backward, as a GradScaler does: the gradient of
    a mean over many pixels would be subnormal in float16."""
    return torch.tensor(2.0 ** math.ceil(math.log2(max(logits.numel(), 1))))


def made_by_an_operation(logits: Tensor) -> Tensor:
    """Logits in their own memory that require grad and are no leaf, as a layer makes them: a
    gradient may be written over these."""
    anchor = torch.zeros((), dtype=logits.dtype, device=logits.device, requires_grad=True)
    return logits.detach().add_(anchor)


def answer(loss: Callable[..., Tensor], logits: Tensor, *targets: Tensor | None) -> Answer:
    """Forward and backward of `loss(logits, *targets)`; the logits require grad."""
    value = loss(logits, *targets)
    (gradient,) = torch.autograd.grad(value, logits, gradient_scale(logits).to(value))
    return Answer(value.detach(), gradient)


def in_dtype(dtype: torch.dtype, *tensors: Tensor | None) -> list[Tensor | None]:
    """Floating tensors in another dtype, detached; labels, masks and None as they are."""
    return [t.detach().to(dtype) if t is not None and t.is_floating_point() else t for t in tensors]


def untied(
    logits: Tensor, targets: Iterable[Tensor], activation: str = "softmax", tie: float = TIE
) -> Tensor:
    """Whether a pixel has no tie, see `TIE`: bool (N, 1, *spatial).

    Args:
        targets: those that the probabilities may meet, float64 (N, C, *spatial), one after the
            other. Plain labels are 0 or 1, which a softmax does not meet.
        activation: of the logits, as in `options.TargetOptions`.
        tie: how near is too near, relatively.
    """
    found = torch.ones_like(logits[:, :1], dtype=torch.bool)
    x = reference.probabilities(logits.detach().double(), activation)
    for y in targets:
        found &= ((x - y).abs() > tie * (x + y)).all(dim=1, keepdim=True)
    return found


def at_low_resolution(counted: Tensor, size: Sequence[int], align_corners: bool = False) -> Tensor:
    """Of logits that are interpolated: which of them have a share in no pixel that does not count.

    Args:
        counted: bool (N, 1, *spatial), at full size.
        size: the spatial sizes of the logits.
    """
    low = counted.new_zeros((*counted.shape[:2], *size), dtype=torch.float64).requires_grad_()
    full = upsampling.interpolated(low, counted.shape[2:], align_corners)
    (share,) = torch.autograd.grad(full, low, (~counted).double())
    return share == 0


def errors(found: Answer, expected: Answer, counted: Tensor | None = None) -> tuple[float, float]:
    """(of the loss, absolute; of the gradient on the pixels counted, relative, or absolute where
    0 is expected everywhere). `found` may lie on another device."""
    distance = found.gradient.to(expected.gradient.device, torch.float64) - expected.gradient
    if counted is not None:
        distance = distance * counted
    error = torch.linalg.vector_norm(distance)
    size = torch.linalg.vector_norm(expected.gradient)
    return (
        abs(found.loss.item() - expected.loss.item()),
        (error / torch.where(size == 0, 1, size)).item(),
    )


def allowed(dtype: torch.dtype) -> tuple[float, float]:
    """Of `errors`, by the dtype of the logits."""
    return LOSS_TOLERANCE[dtype], GRADIENT_TOLERANCE[dtype]


def check(name: str, found: tuple[float, float], limits: tuple[float, float]) -> None:
    """Raise an ArithmeticError where an error exceeds what is allowed, or is no number."""
    for what, error, limit in zip(("loss", "gradient"), found, limits, strict=True):
        if not error <= limit:
            raise ArithmeticError(
                f"{name}: error of the {what} is {error:.2e}, allowed {limit:.0e}"
            )
