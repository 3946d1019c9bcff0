"""What is no probability and no label, and elements of a dense target that are ignored one by one,
as a GPU treats them: nothing waits to look at values, and a wrong one makes the loss NaN."""

from __future__ import annotations

import functools
import importlib
import math
from typing import NamedTuple

import pytest
import torch
from judges import assert_gradient
from operators import gradients, operator_arguments
from torch import Tensor

from by_environment.backend import BACKEND
from jml_kernels import reference
from jml_kernels.functional import jaccard_metric_loss
from jml_kernels.ops import STATISTICS
from jml_kernels.statistics import EXTREMA, SUMS, TOTALS

pytestmark = pytest.mark.usefixtures("one_thread", "unchecked")

NAN = math.nan
loss_of = functools.partial(jaccard_metric_loss, backend=BACKEND)


@pytest.fixture
def unchecked(monkeypatch):
    """Tensors on the CPU are looked at before Triton's kernels run: let nobody look."""
    if BACKEND == "triton":
        operators = importlib.import_module("jml_kernels.triton_kernels.operators")
        monkeypatch.setattr(operators, "check_values", lambda inputs: None)


def drawn(shape: tuple[int, ...], activation: str) -> tuple[Tensor, Tensor]:
    """(logits, soft target)"""
    logits, target = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
    logits = logits if activation == "softmax" else logits.sigmoid()
    return logits, target.softmax(1) if shape[1] > 1 else target.sigmoid()


# ---- ignored elements ----------------------------------------------------------------------------


class Ignoring(NamedTuple):
    activation: str
    classes: int
    ignore_index: int = -100
    dtype: torch.dtype = torch.float32
    is_masked: bool = False
    is_transposed: bool = False
    is_weighted: bool = False

    def draw(self) -> tuple[Tensor, Tensor, Tensor | None]:
        """(logits, target, mask): single elements are ignored, whole pixels, and all of one class.
        What does not count holds NaN where it may."""
        size = (5, 7) if self.classes < 100 else (3, 5)
        logits, target = drawn((2, self.classes, *size), self.activation)
        generator = torch.Generator().manual_seed(1)
        ignored = torch.rand(target.shape, generator=generator) < 0.2
        ignored[:, :, 1, 2:] = True
        ignored[1, 0] = True
        target = target.masked_fill(ignored, self.ignore_index).to(self.dtype)
        uncounted = ignored
        if self.activation == "softmax":  # a single class takes part in that of others
            uncounted = ignored.all(1, keepdim=True).expand_as(logits)
        logits = logits.masked_fill(uncounted, NAN).to(self.dtype)
        mask = None
        if self.is_masked:
            mask = torch.rand(2, *size, generator=generator) < 0.7
            logits, target = (t.masked_fill(~mask.unsqueeze(1), NAN) for t in (logits, target))
        if self.is_transposed:
            logits, target = (
                t.contiguous(memory_format=torch.channels_last) for t in (logits, target)
            )
        return logits, target, mask


IGNORING = [
    Ignoring("softmax", 5, is_masked=True, is_weighted=True),
    Ignoring("softmax", 5, 255, torch.bfloat16, is_transposed=True),
    # In bfloat16 it is 256.
    Ignoring("sigmoid", 5, 257, torch.bfloat16, is_masked=True),
    Ignoring("softmax", 300),
    Ignoring("sigmoid", 300, is_weighted=True),
    Ignoring("sigmoid", 1),
    Ignoring("none", 5, dtype=torch.float64),
    Ignoring("none", 1, is_transposed=True),
]


@pytest.mark.parametrize("case", IGNORING, ids=str)
def test_ignored_elements(case):
    logits, target, mask = case.draw()
    weights = torch.arange(1.0, case.classes + 1) if case.is_weighted else None
    arguments = operator_arguments(
        logits, None, target, mask, weights, activation=case.activation,
        ignore_index=case.ignore_index,
    )  # fmt: skip
    given = gradients(arguments)

    def answer(statistics, logits: Tensor):
        leaf = logits.detach().requires_grad_()
        columns = statistics(**{**arguments, "logits": leaf}, inplace_backward=False)
        # Only the sums and the first total have a gradient.
        loss = (columns[0] * given["grad_sums"]).sum()
        loss += (columns[2][:, 0] * given["grad_totals"][:, 0]).sum()
        return columns, torch.autograd.grad(loss, leaf)[0]

    def run(*, inplace_backward, **options):
        return STATISTICS[BACKEND](*options.values(), inplace_backward)

    found, gradient = answer(run, logits)
    expected, expected_gradient = answer(reference.statistics, logits.double())
    for names, actual, right in zip((SUMS, EXTREMA, TOTALS), found, expected, strict=True):
        for i, name in enumerate(names):
            torch.testing.assert_close(
                actual[:, i], right[:, i].detach(), rtol=1e-6, atol=1e-5,
                msg=lambda text, name=name: f"{name}: {text}",
            )  # fmt: skip
    assert_gradient(gradient, expected_gradient, case.dtype)
    assert (gradient[expected_gradient == 0] == 0).all()


def test_what_a_cross_entropy_is_divided_by():
    """Where classes share out a pixel these are pixels, of bits too."""
    logits, target = drawn((2, 5, 5, 7), "none")
    bits = (target > 0.3).to(torch.int64)
    bits[:, :, 1, 2:] = -100
    bits[0, :3] = -100
    arguments = operator_arguments(logits, None, bits, activation="none")
    found = STATISTICS[BACKEND](*arguments.values(), False)[2][0]
    assert found[TOTALS.index("cross_entropy_weight")].tolist() == [30, 30]
    assert found[TOTALS.index("valid")].tolist() == [30, 30]


@pytest.mark.parametrize("classes", [3, pytest.param(300, marks=pytest.mark.slow)])
@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_a_class_without_an_element_is_inactive(activation, classes):
    logits, target = drawn((2, classes, 5, 7), activation)
    target[1, 2] = -100
    loss = functools.partial(
        jaccard_metric_loss, activation=activation, active_classes="all", aggregation="image",
        smooth=1.0,
    )  # fmt: skip
    found = loss(logits, target, backend=BACKEND)
    expected = loss(logits.double(), target.double(), backend="reference")
    assert found.item() == pytest.approx(expected.item(), abs=1e-6)


# ---- wrong values --------------------------------------------------------------------------------


def assert_nan(*tensors: Tensor | None, bad_image: int = 1, **options) -> None:
    """The loss is NaN whatever classes count; of the losses of images that of the bad one is."""
    for more in ({}, {"classes": [0], "active_classes": "all"}):
        assert loss_of(*tensors, **options, **more).isnan()
    losses = loss_of(*tensors, **options, aggregation="image", reduction="image", classes=[0])
    assert losses.isnan().tolist() == [i == bad_image for i in range(len(losses))]


# Where an image has several tiles, and chunks of classes, the bad value is in the last.
SHAPES = [(2, 5, 23, 29), pytest.param((2, 300, 3, 5), marks=pytest.mark.slow)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("activation", ["softmax", "none"])
@pytest.mark.parametrize("value", [255, -0.5, 1.5, NAN])
def test_target_that_is_no_probability(value, activation, shape):
    logits, target = drawn(shape, activation)
    target[1, -1, -1, -1] = value
    if value != 255:
        assert_nan(logits, target, activation=activation)
    else:
        assert_nan(logits, target, activation=activation, ignore_index=None)
        ignored = loss_of(logits, target, activation=activation, ignore_index=255)
        assert ignored.isfinite()
    mask = torch.ones(2, *shape[2:], dtype=torch.bool)
    mask[1, -1, -1] = False
    assert loss_of(logits, target, mask, activation=activation).isfinite()


@pytest.mark.parametrize("value", [-0.5, 1.5, NAN])
@pytest.mark.parametrize("kind", ["labels", "bits", "soft"])
def test_logits_that_are_no_probability(kind, value):
    """With activation="none" these are the probabilities."""
    logits, target = drawn((2, 5, 5, 7), "none")
    targets = {"labels": target.argmax(1), "bits": (target > 0.3).to(torch.uint8), "soft": target}
    logits[1, 4, 4, 6] = value
    assert_nan(logits, targets[kind], activation="none")


@pytest.mark.parametrize("label", [5, -1])
def test_label_out_of_range(label):
    """An image's NaN is counted beside every class."""
    logits, target = drawn((2, 5, 5, 7), "softmax")
    labels = target.argmax(1)
    labels[1, 4, 6] = label
    assert_nan(logits, labels)
    assert_nan(logits, labels, label_smoothing=0.1)
    labels[1, 4, 6] = -100
    assert loss_of(logits, labels).isfinite()


def test_bit_out_of_range():
    logits, target = drawn((2, 5, 5, 7), "sigmoid")
    bits = (target > 0.3).to(torch.int64)
    bits[1, 4, 4, 6] = 2
    assert_nan(logits, bits, activation="sigmoid")


def test_uint64_that_would_wrap_to_ignore_index():
    logits, target = drawn((2, 5, 5, 7), "softmax")
    labels, bits = target.argmax(1), (target > 0.3).to(torch.int64)
    labels[1, 4, 6] = bits[1, 4, 4, 6] = -100
    assert_nan(logits, labels.view(torch.uint64))
    assert_nan(logits, bits.view(torch.uint64), activation="sigmoid")


def test_teacher_that_is_no_probability():
    """Losses refuse a teacher of probabilities; the operators take one."""
    student, teacher = drawn((2, 5, 5, 7), "none")
    labels = teacher.argmax(1)

    def valid() -> list[float]:
        arguments = operator_arguments(
            student, labels, teacher, activation="none", teacher_temperature=1.0
        )
        return STATISTICS[BACKEND](*arguments.values(), False)[2][0, TOTALS.index("valid")].tolist()

    assert valid() == [35, 35]
    teacher[1, 4, 4, 6] = 1.5
    assert valid()[0] == 35
    assert math.isnan(valid()[1])
    labels[1, 4, 6] = -100  # neither the student nor the teacher counts there
    student[1, 4, 4, 6] = NAN
    assert valid() == [35, 34]
