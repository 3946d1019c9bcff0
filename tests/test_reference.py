"""The reference against hand-worked values and against an oracle that shares no code with it."""

from __future__ import annotations

import math

import pytest
import torch
from judges import COLUMN_TOLERANCE
from oracle import expected_columns, expected_loss, plain_loss, plain_norms
from parametrize import each

import jml_kernels as jml
from jml_kernels.selfcheck.corpus import INPUTS
from jml_kernels.selfcheck.corpus.losses import OVERLAPS

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL_CASES = [
    case for case in INPUTS if case.elements <= 1000 and case.options == case.target_options
]


@each(SMALL_CASES)
def test_losses_are_the_papers_norms(case):
    for overlap in OVERLAPS:
        loss = expected_loss(case, overlap).loss
        assert loss.item() == pytest.approx(plain_loss(case, overlap), abs=1e-12), overlap


@each(SMALL_CASES)
def test_columns_are_the_papers_norms(case):
    """tp, fp and fn are sums of their own terms; the norms follow from them."""
    statistics, _ = expected_columns(case)
    tp, fp, fn = statistics.true_positive, statistics.false_positive, statistics.false_negative
    plain = {
        name: torch.tensor(rows, dtype=torch.float64).reshape(case.shape[:2])
        for name, rows in plain_norms(case).items()
    }
    entropy = plain.pop("cross-entropy").sum(1)
    torch.testing.assert_close(statistics.cross_entropy, entropy, rtol=1e-13, atol=1e-13)
    for name, column in {
        "x+y": 2 * tp + fp + fn,
        "x-y": fp + fn,
        "x": tp + fp,
        "y": tp + fn,
        "xy": statistics.intersection,
        "xx": statistics.prediction_squared,
        "yy": statistics.target_squared,
        "largest y": statistics.target_max,
    }.items():
        tolerance = COLUMN_TOLERANCE[torch.float64] * max(case.pixels, 1)
        torch.testing.assert_close(column, plain[name], rtol=1e-13, atol=tolerance)


# ---- hand-worked: two pixels, two classes --------------------------------------------------------
# x = (.75, .25) at pixel 0 and (.5, .5) at pixel 1; labels 0 and 1.
#            tp    fp    fn
# class 0   .75   .50   .25    (label at pixel 0, x elsewhere at pixel 1)
# class 1   .50   .25   .50

PROBABILITIES = torch.tensor([[[0.75, 0.5], [0.25, 0.5]]], dtype=torch.float64)
LOGITS = PROBABILITIES.log()  # softmax(log x) = x, since x sums to 1
LABELS = torch.tensor([[0, 1]])


def hand(module, *arguments, labels=LABELS, **options):
    """Through every backend's front door, in float64."""
    return module(*arguments, **options)(LOGITS, labels).item()


def test_statistics_by_hand(backend):
    statistics = jml.class_statistics(LOGITS, LABELS, backend=backend)
    for name, expected in {
        "true_positive": [0.75, 0.5],
        "false_positive": [0.5, 0.25],
        "false_negative": [0.25, 0.5],
        "intersection": [0.75, 0.5],
        "prediction_squared": [0.75**2 + 0.5**2, 0.25**2 + 0.5**2],
        "target_squared": [1, 1],
        "prediction_max": [0.75, 0.5],
        "target_max": [1, 1],
        "joint_max": [1.75, 1.5],
        "present": [True, True],
    }.items():
        assert getattr(statistics, name)[0].tolist() == pytest.approx(expected, rel=1e-14), name
    assert statistics.valid.tolist() == [2]


def test_losses_by_hand(backend):
    options = {"backend": backend}
    # Class 0: 1 - .75 / 1.5; class 1: 1 - .5 / 1.25.
    assert hand(jml.JaccardMetricLoss, **options) == pytest.approx((0.5 + 0.6) / 2)
    # Hard labels: <x, y> = tp, so all three agree (Theorem 2.3).
    assert hand(jml.JaccardMetricLoss, variant=2, **options) == pytest.approx(0.55)
    assert hand(jml.SoftJaccardLoss, **options) == pytest.approx(0.55)
    # Class 0: 1 - .75 / (.8125 + 1 - .75); class 1: 1 - .5 / (.3125 + 1 - .5).
    right = (1 - 0.75 / 1.0625 + 1 - 0.5 / 0.8125) / 2
    assert hand(jml.SoftJaccardLoss, norm=2, **options) == pytest.approx(right)
    # Dice: 1 - 2 tp / (2 tp + fp + fn): 1 - 1.5 / 2.25 and 1 - 1 / 1.75.
    right = (1 / 3 + 3 / 7) / 2
    assert hand(jml.DiceSemimetricLoss, **options) == pytest.approx(right)
    assert hand(jml.SoftDiceLoss, **options) == pytest.approx(right)
    # Tversky: class 0: 1 - .75 / (.75 + .3 * .5 + .7 * .25); class 1: 1 - .5 / (.5 + .075 + .35).
    right = (0.325 / 1.075 + 0.425 / 0.925) / 2
    assert hand(jml.TverskyMetricLoss, 0.3, 0.7, **options) == pytest.approx(right)
    right = ((0.325 / 1.075) ** 2 + (0.425 / 0.925) ** 2) / 2
    assert hand(jml.TverskyMetricLoss, 0.3, 0.7, gamma=2, **options) == pytest.approx(right)
    right = (math.log(2) - math.log(0.4)) / 2
    assert hand(jml.JaccardMetricLoss, log_loss=True, **options) == pytest.approx(right)
    # smooth 1: 1 - 1.75 / 2.5 and 1 - 1.5 / 2.25.
    assert hand(jml.JaccardMetricLoss, smooth=1, **options) == pytest.approx((0.3 + 1 / 3) / 2)


def test_gradient_by_hand(backend):
    """With e = fp + fn and D = tp + e, d(e / D) is -1 / D at the label and tp / D^2 elsewhere:
    class 0 (-1/1.5, .75/2.25), class 1 (.5/1.5625, -1/1.25), halved by the mean.
    Then x (g - <x, g>): pixel 0 has g = (-1/3, .16), pixel 1 has g = (1/6, -.4)."""
    logits = LOGITS.clone().requires_grad_()
    jml.JaccardMetricLoss(backend=backend)(logits, LABELS).backward()
    at_0 = 0.75 * 0.25 * (-1 / 3 - 0.16)
    at_1 = 0.5 * 0.5 * (1 / 6 + 0.4)
    expected = [[at_0, at_1], [-at_0, -at_1]]
    torch.testing.assert_close(logits.grad[0], torch.tensor(expected, dtype=torch.float64))


def test_soft_target_by_hand(backend):
    """One pixel, x = (.75, .25), y = (.5, .5): tp = (.5, .25), fp = (.25, 0), fn = (0, .25)."""
    logits = LOGITS[..., :1]
    target = torch.tensor([[[0.5], [0.5]]])
    loss = jml.JaccardMetricLoss(backend=backend)(logits, target)
    assert loss.item() == pytest.approx((0.25 / 0.75 + 0.25 / 0.5) / 2)
    # <x, y> = (.375, .125).
    loss = jml.JaccardMetricLoss(variant=2, backend=backend)(logits, target)
    assert loss.item() == pytest.approx((0.25 / 0.625 + 0.25 / 0.375) / 2)
    # ||x|| + ||y|| - <x, y> = (.875, .625).
    loss = jml.SoftJaccardLoss(backend=backend)(logits, target)
    assert loss.item() == pytest.approx((0.5 / 0.875 + 0.5 / 0.625) / 2)


def test_label_smoothing_by_hand(backend):
    """e = .2: y = (.9, .1), (.1, .9). Class 0: tp = .75 + .1, fp = .4, fn = .15;
    class 1: tp = .1 + .5, fp = .15, fn = .4."""
    options = {"label_smoothing": 0.2, "backend": backend}
    right = (0.55 / 1.4 + 0.55 / 1.15) / 2
    assert hand(jml.JaccardMetricLoss, **options) == pytest.approx(right)


def test_boundary_smoothing_by_hand(backend):
    """Labels 0 0 1 1: with k = 3 the two in the middle are at the boundary, y = .9 / .1 there."""
    logits = torch.zeros(1, 2, 4, dtype=torch.float64)
    labels = torch.tensor([[0, 0, 1, 1]])
    options = {"label_smoothing": 0.2, "boundary_size": 3, "backend": backend}
    statistics = jml.class_statistics(logits, labels, **options)
    # x = .5; class 0 has y = 1, .9, .1, 0.
    assert statistics.true_positive[0].tolist() == pytest.approx([1.1, 1.1])
    assert statistics.false_positive[0].tolist() == pytest.approx([0.9, 0.9])
    assert statistics.false_negative[0].tolist() == pytest.approx([0.9, 0.9])


def test_binary_by_hand(backend):
    """One logit: x = sigmoid(0) = .5 and sigmoid(ln 3) = .75, labels 0 and 1."""
    logits = torch.tensor([[[0.0, math.log(3)]]], dtype=torch.float64)
    loss = jml.JaccardMetricLoss(activation="sigmoid", backend=backend)
    assert loss(logits, torch.tensor([[0, 1]])).item() == pytest.approx(1 - 0.75 / 1.5)


def test_soft_targets_have_gradients_in_the_reference():
    logits = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)
    target = torch.rand(2, 3, 4, dtype=torch.float64, requires_grad=True)
    for overlap in OVERLAPS.values():
        assert torch.autograd.gradcheck(
            lambda z, y, loss=overlap: loss(z, y, backend="reference"), (logits, target)
        )
