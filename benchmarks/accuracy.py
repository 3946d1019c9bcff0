"""Nothing is timed that is not right: the loss and its gradient on the very inputs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

import jml_kernels as jml

from .cases import Case
from .competitors import Loss, fused

#: |loss - oracle|, and ||gradient - oracle|| / ||oracle||, by the dtype of the logits.
LOSS_TOLERANCE = {"float64": 1e-12, "float32": 1e-6, "float16": 1e-5, "bfloat16": 1e-5}
GRADIENT_TOLERANCE = {"float64": 1e-12, "float32": 1e-5, "float16": 1e-3, "bfloat16": 1e-2}
#: The naive loss cancels in float32; it must only be the same loss.
NAIVE_LOSS_TOLERANCE = 1e-4
NAIVE_GRADIENT_TOLERANCE = 1e-2


#: The gradient of |x - y| jumps at x = y. Where a probability in float32 cannot tell on which side
#: of a target it is, no gradient is wrong: pixels with a class this near, relatively, are left
#: out (of 18 million elements 6 are, and one alone is an error of 2e-4 in the whole gradient).
TIE = 1e-6


@dataclass(frozen=True)
class Answer:
    loss: Tensor
    gradient: Tensor


def gradient_scale(logits: Tensor) -> Tensor:
    """What the loss is multiplied with before the backward, as a GradScaler does: the gradient of
    a mean over many pixels would be subnormal in float16."""
    return torch.tensor(2.0 ** math.ceil(math.log2(max(logits.numel(), 1))))


def answer(loss: Loss, logits: Tensor, *targets: Tensor) -> Answer:
    """Forward and backward: what a step of every competitor is."""
    value = loss(logits, *targets)
    (gradient,) = torch.autograd.grad(value, logits, gradient_scale(logits).to(value))
    return Answer(value.detach(), gradient)


def oracle(
    case: Case, logits: Tensor, *targets: Tensor, dtype: torch.dtype = torch.float64
) -> Answer:
    """The reference backend in float64, or another dtype."""
    targets = [t.to(dtype) if t.is_floating_point() else t for t in targets]
    loss = fused(case, backend="reference")
    return answer(loss, logits.detach().to(dtype).requires_grad_(), *targets)


def untied(case: Case, logits: Tensor, *targets: Tensor) -> Tensor:
    """Whether a pixel has no tie, see `TIE`: bool (N, 1, *spatial)."""
    found = torch.ones_like(logits[:, :1], dtype=torch.bool)
    x = torch.softmax(logits.detach().double(), dim=1)
    for y in _soft_targets(case, logits.shape[1], *targets):
        found &= ((x - y).abs() > TIE * (x + y)).all(dim=1, keepdim=True)
    return found


def _soft_targets(case: Case, num_classes: int, target: Tensor, *teacher: Tensor) -> Iterator:
    """Those that x may meet, float64 (N, C, *spatial). Plain labels are 0 or 1, x is neither."""
    if case.target == "soft":
        yield target.double()
    if case.target == "boundary":
        yield jml.smooth_labels(target, num_classes, **case.options, dtype=torch.float64)
    for logits in teacher:
        yield torch.softmax(logits.double(), dim=1)


def errors(found: Answer, expected: Answer, counted: Tensor) -> tuple[float, float]:
    """(of the loss, absolute; of the gradient on the pixels counted, relative)"""
    distance = torch.linalg.vector_norm((found.gradient.double() - expected.gradient) * counted)
    return (
        abs(found.loss.item() - expected.loss.item()),
        (distance / torch.linalg.vector_norm(expected.gradient)).item(),
    )


def check(name: str, found: tuple[float, float], allowed: tuple[float, float]) -> None:
    """Raise an ArithmeticError where an error exceeds what is allowed, or is no number."""
    for what, error, limit in zip(("loss", "gradient"), found, allowed, strict=True):
        if not error <= limit:
            raise ArithmeticError(
                f"{name}: error of the {what} is {error:.2e}, allowed {limit:.0e}"
            )
