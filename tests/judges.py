"""What is right: a backend's results on a case against those of the oracles in float64. Every test
of a backend judges by these, in whatever process it runs."""

from __future__ import annotations

import math

import pytest
import torch
from objective_oracle import expected_objective
from oracle import (
    DIFFERENTIABLE,
    column_weights,
    expected_columns,
    expected_loss,
    weighted_columns,
)
from torch import Tensor

import jml_kernels as jml
from jml_kernels import accuracy, checks
from jml_kernels.accuracy import GRADIENT_TOLERANCE, LOSS_TOLERANCE, Answer
from jml_kernels.memory import MEBIBYTE, allowed_beside, peak_memory
from jml_kernels.selfcheck.corpus.case import LossCase
from jml_kernels.selfcheck.corpus.drawing import counted_elements, draw, shared
from jml_kernels.selfcheck.corpus.losses import OVERLAPS, make
from jml_kernels.statistics import ClassStatistics

#: A statistic for each pixel that it sums: one rounding of a probability in float32 or float64.
COLUMN_TOLERANCE = {
    torch.float64: 1e-14,
    torch.float32: 3e-7,
    torch.float16: 3e-7,
    torch.bfloat16: 3e-7,
}


def assert_loss(case: LossCase, overlap: str, backend: str, device: str) -> None:
    logits, *others = shared(case, device).arguments

    def loss(leaf: Tensor) -> Tensor:
        return OVERLAPS[overlap](leaf, *others, backend=backend, **case.options)

    found = accuracy.answer(loss, logits.detach().requires_grad_())
    expected = expected_loss(case, overlap)
    _assert_shapes_and_dtypes(case, found)
    assert abs(found.loss.item() - expected.loss.item()) <= LOSS_TOLERANCE[case.dtype]
    assert_gradient(found.gradient, expected.gradient, case.dtype)


def assert_objective(case: LossCase, backend: str, device: str) -> None:
    """Cross-entropy beside an overlap, or distillation."""
    logits, *others = shared(case, device).arguments
    loss = make(case, backend, device)
    found = accuracy.answer(loss, logits.detach().requires_grad_(), *others)
    expected = expected_objective(case)
    _assert_shapes_and_dtypes(case, found)
    tolerance = LOSS_TOLERANCE[case.dtype]
    assert found.loss.item() == pytest.approx(expected.loss.item(), rel=tolerance, abs=tolerance)
    # The logarithm of a probability that is given as 0 has no gradient.
    if case.activation != "none" or expected.loss.isfinite():
        assert_gradient(found.gradient, expected.gradient, case.dtype)


def _assert_shapes_and_dtypes(case: LossCase, found: Answer) -> None:
    logits = shared(case).logits
    assert found.loss.shape == ()
    assert found.loss.dtype == checks.result_dtype(logits)
    assert found.gradient.shape == logits.shape
    assert found.gradient.dtype == logits.dtype


def assert_columns(case: LossCase, backend: str, device: str) -> None:
    """All columns at once, each with a gradient of its own: no formula can hide one."""
    logits, target, _, mask = shared(case, device)
    leaf = logits.detach().requires_grad_()
    statistics = jml.class_statistics(leaf, target, mask, backend=backend, **case.target_options)
    weights = {name: weight.to(device) for name, weight in column_weights(case).items()}
    (gradient,) = torch.autograd.grad(weighted_columns(statistics, weights), leaf)
    expected, expected_gradient = expected_columns(case)

    rounding = COLUMN_TOLERANCE[case.dtype]
    pixels = case.pixels // max(case.shape[0], 1)
    for name in ClassStatistics._fields:
        actual, right = getattr(statistics, name), getattr(expected, name)
        per_image = name in ("cross_entropy", "valid")
        assert actual.shape == (case.shape[:1] if per_image else case.shape[:2])
        dtype = torch.bool if name == "present" else checks.result_dtype(logits)
        assert actual.dtype == dtype
        torch.testing.assert_close(
            actual.cpu().double(),
            right.double(),
            # A sum grows with the pixels, and float32 rounds the result once more.
            rtol=rounding,
            atol=rounding * max(pixels, 1) if name in DIFFERENTIABLE else 2 * rounding,
            msg=lambda text, name=name: f"{name}: {text}",
        )
    assert_gradient(gradient, expected_gradient, case.dtype)
    if case.upsamples:
        return  # every logit may have a share of some pixel that counts
    uncounted = ~counted_elements(case, target, mask).expand(case.shape)
    assert (gradient[uncounted] == 0).all()


def assert_gradient(actual: Tensor, expected: Tensor, dtype: torch.dtype) -> None:
    """As one vector: the relative error of its length."""
    actual, expected = actual.cpu().double(), expected.cpu()
    error, norm = (actual - expected).norm().item(), expected.norm().item()
    # Scaled gradients are near 1; where all are nothing (saturated), 0 is as right as 1e-87.
    nothing = 1e-9
    if actual.dim() > 1 and actual.shape[1] == 1:
        # Softmax of one class: x sum(y) - y is 0, up to a rounding of either.
        rounding = torch.finfo(torch.promote_types(dtype, torch.float32)).eps
        nothing += rounding * math.sqrt(actual.numel())
    allowed = GRADIENT_TOLERANCE[dtype] * norm + nothing
    assert error <= allowed, f"relative {error / (norm or 1):.3g}"


def assert_only(names: set[str], some: dict[str, Tensor], every: dict[str, Tensor]) -> None:
    """Statistics by name: these are right, and all others 0."""
    for name, values in some.items():
        if name in names:
            torch.testing.assert_close(values, every[name], rtol=1e-6, atol=1e-6)
        else:
            assert (values == 0).all(), name


def assert_peak(case: LossCase, backend: str, device: str = "cpu") -> None:
    """Nothing has the logits' size but the gradient, and of that there is one: in the forward, in
    the backward, and in both together."""
    logits, *others = draw(case, device, seed=0, drawn_on=device).arguments
    loss = make(case, backend, device)
    logits.requires_grad_()
    gradient = logits.numel() * logits.element_size()
    spare = allowed_beside(case.shape, device)
    assert gradient > MEBIBYTE / 2 or logits.dim() == 2, "too small to tell"
    loss(logits, *others).backward()  # what is allocated once does not count
    logits.grad = None

    kept = []
    assert peak_memory(lambda: kept.append(loss(logits, *others)), device) <= spare
    assert peak_memory(kept.pop().backward, device) <= gradient + spare
    assert logits.grad is not None
    # Both at once: what the forward keeps for the backward counts with the gradient.
    logits.grad = None
    both = peak_memory(lambda: loss(logits, *others).backward(), device)
    assert gradient <= both <= gradient + spare
