"""Whole objectives, eq. 14 to 17, against an oracle in float64: cross-entropy with an overlap loss,
and distillation."""

from __future__ import annotations

import pytest
import torch
from cases import LOSS_TOLERANCE
from objective_cases import (
    CROSS_ENTROPY_CASES,
    DISTILLATION_CASES,
    FAMILY_CASES,
    GRADIENT_CASES,
    ObjectiveCase,
    arguments,
    module,
)
from objective_oracle import expected_objective
from oracle import assert_gradient, gradient_scale
from torch.autograd import gradcheck

pytestmark = pytest.mark.usefixtures("one_thread")


def each(cases: list[ObjectiveCase]):
    names = [case.name for case in cases]
    assert len(set(names)) == len(names)
    return pytest.mark.parametrize("case", cases, ids=names)


def assert_objective(case: ObjectiveCase, backend: str, device: str) -> None:
    logits, *others = arguments(case, device)
    leaf = logits.detach().requires_grad_()
    loss = module(case, backend=backend).to(device)(leaf, *others)
    scale = torch.tensor(gradient_scale(case), dtype=loss.dtype, device=device)
    (gradient,) = torch.autograd.grad(loss, leaf, scale)
    expected, expected_gradient = expected_objective(case)

    assert loss.shape == ()
    assert loss.dtype == (torch.float64 if case.dtype == torch.float64 else torch.float32)
    tolerance = LOSS_TOLERANCE[case.dtype]
    assert loss.item() == pytest.approx(expected.item(), rel=tolerance, abs=tolerance)
    assert gradient.shape == logits.shape
    assert gradient.dtype == logits.dtype
    # The logarithm of a probability that is given as 0 has no gradient.
    if case.options.get("activation") != "none" or expected.isfinite():
        assert_gradient(gradient, expected_gradient, case.dtype)


@each(FAMILY_CASES)
def test_cross_entropy_beside_every_overlap(case, backend, device):
    assert_objective(case, backend, device)


@each(CROSS_ENTROPY_CASES)
def test_cross_entropy(case, backend, device):
    assert_objective(case, backend, device)


@each(DISTILLATION_CASES)
def test_distillation(case, backend, device):
    assert_objective(case, backend, device)


@each(GRADIENT_CASES)
def test_gradients(case, backend, device):
    logits, *others = arguments(case, device)
    objective = module(case, backend=backend).to(device)
    assert gradcheck(lambda z: objective(z, *others), logits.detach().requires_grad_())
