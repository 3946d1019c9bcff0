"""An overlap is a row of one table: a row of one's own is a loss on every backend."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from jml_kernels.accuracy import GRADIENT_TOLERANCE, LOSS_TOLERANCE
from jml_kernels.modules import OverlapLoss
from jml_kernels.objective import target_objective
from jml_kernels.options import LossOptions
from jml_kernels.overlaps import OVERLAPS

#: Half way between JML1 and JML2, with squares in the errors: every column, fractions, signs.
OWN = (
    (0.5, 0, 0, 0.5, 0, 0),
    (0.25, 1, 0, -0.5, 0.25, 0),
    (0, 0, 0.5, 0, 0, 0.125),
)


def own_loss(logits: Tensor, target: Tensor) -> Tensor:
    """The same in plain PyTorch: classes that are there, statistics over the batch."""
    x = logits.softmax(1)
    if not target.is_floating_point():
        target = torch.nn.functional.one_hot(target, x.shape[1]).movedim(-1, 1)
    y = target.to(x.dtype)

    def over_pixels(terms: Tensor) -> Tensor:
        return terms.transpose(0, 1).flatten(1).sum(1)

    least, product = over_pixels(torch.minimum(x, y)), over_pixels(x * y)
    above, below = over_pixels((x - y).relu()), over_pixels((y - x).relu())
    tp = 0.5 * least + 0.5 * product
    fp = 0.25 * least + above - 0.5 * product + 0.25 * over_pixels(x * x)
    fn = 0.5 * below + 0.125 * over_pixels(y * y)
    there = y.transpose(0, 1).flatten(1).amax(1) > 0.01
    return (1 - tp / (tp + fp + fn))[there].mean()


def assert_own_overlap(backend: str, device: str, kind: str, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(2, 5, 7, 6, generator=generator, dtype=torch.float64)
    target = torch.randint(0, 4, (2, 7, 6), generator=generator)
    if kind == "soft":
        target = torch.randn(2, 5, 7, 6, generator=generator, dtype=torch.float64).softmax(1)
        target = target.to(dtype)
    logits = logits.to(dtype)
    expected = logits.double().requires_grad_()
    value = own_loss(expected, target.double() if kind == "soft" else target)
    (gradient,) = torch.autograd.grad(value, expected)

    loss = OverlapLoss(target_objective("own", LossOptions(backend=backend)))
    leaf = logits.to(device).requires_grad_()
    found = loss(leaf, target.to(device))
    (found_gradient,) = torch.autograd.grad(found, leaf)
    assert abs(found.item() - value.item()) <= LOSS_TOLERANCE[dtype]
    distance = torch.linalg.vector_norm(found_gradient.cpu().double() - gradient)
    assert distance <= GRADIENT_TOLERANCE[dtype] * torch.linalg.vector_norm(gradient)


@pytest.fixture
def own_overlap(monkeypatch):
    monkeypatch.setitem(OVERLAPS, "own", OWN)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", ["labels", "soft"])
def test_an_overlap_of_ones_own(kind, dtype, backend, device, own_overlap):
    assert_own_overlap(backend, device, kind, dtype)


def test_an_unknown_overlap():
    with pytest.raises(KeyError, match="metric3"):
        target_objective("metric3", LossOptions())
