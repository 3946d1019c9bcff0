"""Errors of a loss and its gradient, and which pixels are left out."""

from __future__ import annotations

import math

import pytest
import torch

from jml_kernels import accuracy
from jml_kernels.accuracy import Answer


def answer(loss: float, *gradient: float, dtype=torch.float64) -> Answer:
    return Answer(torch.tensor(loss), torch.tensor(gradient, dtype=dtype).view(1, 1, -1))


def test_errors():
    found, right = answer(0.5, 3.0, 4.0, dtype=torch.float16), answer(0.25, 3.0, 5.0)
    loss, gradient = accuracy.errors(found, right)
    assert loss == 0.25
    assert gradient == pytest.approx(1 / math.sqrt(34))
    counted = torch.tensor([[[True, False]]])
    assert accuracy.errors(found, right, counted) == (0.25, 0.0)


def test_where_no_gradient_is_expected_the_error_is_absolute():
    assert accuracy.errors(answer(0.0, 0.0, 0.0), answer(0.0, 0.0, 0.0)) == (0.0, 0.0)
    assert accuracy.errors(answer(0.0, 3e-7, 4e-7), answer(0.0, 0.0, 0.0)) == (
        0.0,
        pytest.approx(5e-7),
    )
    assert accuracy.errors(answer(0.0), answer(0.0)) == (0.0, 0.0)
    assert math.isnan(accuracy.errors(answer(0.0, math.nan), answer(0.0, 0.0))[1])


@pytest.mark.parametrize("activation", ["softmax", "sigmoid", "none"])
def test_untied(activation):
    logits = torch.tensor([[[0.3, 0.3, 0.3], [0.6, 0.6, 0.6]]], dtype=torch.float64)
    x = {"softmax": logits.softmax(1), "sigmoid": logits.sigmoid(), "none": logits}[activation]
    y = x * torch.tensor([1.5, 1 + 1e-7, 1 + 1e-4])
    assert accuracy.untied(logits, [y], activation).flatten().tolist() == [True, False, True]
    wide = accuracy.untied(logits, [y], activation, tie=1e-3)
    assert wide.flatten().tolist() == [True, False, False]
    assert accuracy.untied(logits, []).all()
