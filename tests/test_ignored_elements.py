"""Elements of a dense target that equal ignore_index are ignored one by one. What is right stands
here in float64: the terms of the elements that count, and nothing else."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from judges import COLUMN_TOLERANCE, assert_gradient
from torch import Tensor

import jml_kernels as jml
from jml_kernels import accuracy
from jml_kernels.accuracy import LOSS_TOLERANCE
from jml_kernels.statistics import SUMS

pytestmark = pytest.mark.usefixtures("one_thread")


def contiguous(values: Tensor) -> Tensor:
    return values.contiguous()


def channels_last(values: Tensor) -> Tensor:
    return values.contiguous(memory_format=torch.channels_last)


def strided(values: Tensor) -> Tensor:
    """Every second column of a wider tensor."""
    wide = values.new_zeros(*values.shape[:-1], 2 * values.shape[-1])
    wide[..., ::2] = values
    return wide[..., ::2]


class Case(NamedTuple):
    """The shape has several tiles of pixels, the last of which is not full."""

    activation: str = "softmax"
    shape: tuple[int, ...] = (2, 5, 37, 41)
    ignore_index: int = -100
    dtype: torch.dtype = torch.float32
    layout: Callable[[Tensor], Tensor] = contiguous
    is_masked: bool = False
    is_integer: bool = False
    label_smoothing: float = 0.0

    def __str__(self):
        words = [str(value) for value in self[:4]] + [self.layout.__name__]
        words += [name for name in ("is_masked", "is_integer") if getattr(self, name)]
        return ", ".join(words)

    @property
    def is_independent(self) -> bool:
        return self.activation == "sigmoid" or (self.activation == "none" and self.shape[1] == 1)

    def draw(self) -> tuple[Tensor, Tensor, Tensor | None]:
        """(logits, target, mask): of the target single elements are ignored, whole pixels, and one
        class of one image. What does not count is NaN where it may be."""
        generator = torch.Generator().manual_seed(0)
        logits, target = torch.randn(2, *self.shape, generator=generator, dtype=torch.float64)
        if self.activation == "none":
            logits = logits.sigmoid() if self.is_independent else logits.softmax(1)
        target = target.sigmoid() if self.is_independent else target.softmax(1)
        # A target of -0 counts as one of 0 does.
        target = (target > 0.5).long() if self.is_integer else target.where(target > 0.02, -0.0)
        ignored = torch.rand(self.shape, generator=generator) < 0.1
        ignored[:, :, 1, 2:] = True
        ignored[1, 0] = True
        if self.ignore_index not in (0, 1):
            target = target.masked_fill(ignored, self.ignore_index)
        counts, mask = self.counted(target), None
        # An ignored class takes part in a softmax, of which another one may count.
        hidden = ~counts if self.activation != "softmax" else ~counts.any(1, keepdim=True)
        logits = logits.masked_fill(hidden, math.nan)
        if self.is_masked:
            shape = (self.shape[0], *self.shape[2:])
            mask = torch.rand(shape, generator=generator) < 0.7
            logits = logits.masked_fill(~mask.unsqueeze(1), math.nan)
            unknown = 7 if self.is_integer else math.nan
            target = target.masked_fill(~mask.unsqueeze(1), unknown)
        if not self.is_integer:
            target = target.to(self.dtype)
        return self.layout(logits.to(self.dtype)), self.layout(target), mask

    def counted(self, target: Tensor) -> Tensor:
        ignored = self.ignore_index
        if not self.is_integer:  # as the dtype has it
            ignored = torch.tensor(ignored, dtype=self.dtype).double()
        return target != ignored


class Right:
    """x, y and which elements count, in float64."""

    def __init__(self, case: Case, logits: Tensor, target: Tensor, mask: Tensor | None):
        self.case = case
        self.counts = case.counted(target)
        if mask is not None:
            self.counts = self.counts & mask.unsqueeze(1)
        self.pixels = self.counts.any(1, keepdim=True)
        self.leaf = logits.double().requires_grad_()
        softmax = case.activation == "softmax"
        z = torch.where(self.pixels if softmax else self.counts, self.leaf, 0)
        self.z = z
        self.x = {"softmax": z.softmax(1), "sigmoid": z.sigmoid(), "none": z}[case.activation]
        self.x = torch.where(self.counts, self.x, 0)
        y = target.double()
        if case.is_integer:
            y = (1 - case.label_smoothing) * y + case.label_smoothing / 2
        self.y = torch.where(self.counts, y, 0)

    def columns(self) -> dict[str, Tensor]:
        """(N, C)"""
        x, y = self.x, self.y
        terms = {
            "true_positive": torch.minimum(x, y),
            "false_positive": (x - y).clamp(min=0),
            "false_negative": (y - x).clamp(min=0),
            "intersection": x * y,
            "prediction_squared": x**2,
            "target_squared": y**2,
        }
        return {name: values.flatten(2).sum(2) for name, values in terms.items()}

    def extrema(self) -> dict[str, Tensor]:
        terms = {"prediction_max": self.x, "target_max": self.y, "joint_max": self.x + self.y}
        return {name: values.flatten(2).amax(2) for name, values in terms.items()}

    def present(self) -> Tensor:
        """Whether a class is the first of a pixel's largest targets, of those that count."""
        if self.case.is_independent:
            return (self.y > 0.5).flatten(2).any(2)
        largest = torch.zeros_like(self.counts).scatter_(1, self.y.argmax(1, keepdim=True), True)
        return (largest & self.counts).flatten(2).any(2)

    def cross_entropies(self) -> Tensor:
        """(N,), sums"""
        log, other = torch.log, None
        if self.case.activation == "softmax":
            terms = -self.y * self.z.log_softmax(1)
        elif self.case.activation == "sigmoid":
            log = torch.nn.functional.logsigmoid
            terms, other = -self.y * log(self.z), log(-self.z)
        else:
            x = torch.where(self.counts, self.x, 0.5)
            terms, other = -self.y * log(x), log(1 - x)
        if self.case.is_independent:
            terms = terms - (1 - self.y) * other
        return torch.where(self.counts, terms, 0).flatten(1).sum(1)

    def loss(self, active_classes: str, image: bool) -> Tensor:
        """Half a cross-entropy, half a JML."""
        weights = self.counts if self.case.is_independent else self.pixels
        entropy = self.cross_entropies().sum() / weights.sum()
        columns = self.columns()
        counts = torch.stack([columns[name] for name in SUMS[:3]])
        active = (self.extrema()["target_max"] > 0.01).detach()
        if active_classes == "all":
            active = self.counts.flatten(2).any(2)
        if not image:
            counts, active = counts.sum(1, keepdim=True), active.any(0, keepdim=True)
        tp, fp, fn = counts
        losses = (fp + fn) / torch.where(active, tp + fp + fn, 1)
        of_images = torch.where(active, losses, 0).sum(1) / active.sum(1).clamp(min=1)
        return 0.5 * entropy + 0.5 * of_images.sum() / active.any(1).sum().clamp(min=1)


CASES = [
    Case(),
    Case(is_masked=True, layout=channels_last),
    Case(shape=(2, 19, 37, 41), ignore_index=255, layout=strided),
    Case(shape=(2, 19, 37, 41), dtype=torch.float64, is_masked=True),
    Case(shape=(2, 19, 37, 41), ignore_index=255, dtype=torch.float16),
    Case(shape=(2, 150, 9, 31), layout=channels_last),
    # In bfloat16 it is 256.
    Case(ignore_index=257, dtype=torch.bfloat16, layout=channels_last),
    Case("sigmoid", is_masked=True),
    Case("sigmoid", shape=(2, 19, 37, 41), layout=channels_last),
    Case("sigmoid", dtype=torch.float64, layout=strided),
    Case("sigmoid", dtype=torch.float16, ignore_index=255),
    Case("sigmoid", shape=(2, 1, 37, 41)),
    Case("sigmoid", is_integer=True, is_masked=True),
    Case("sigmoid", is_integer=True, ignore_index=255, layout=strided, label_smoothing=0.2),
    Case("sigmoid", is_integer=True, ignore_index=0),
    Case("sigmoid", is_integer=True, ignore_index=1, is_masked=True, layout=channels_last),
    Case("none", is_masked=True),
    Case("none", shape=(2, 19, 37, 41), dtype=torch.float64, layout=channels_last),
    Case("none", dtype=torch.float16, layout=strided),
    Case("none", shape=(2, 1, 37, 41), is_masked=True),
    Case("none", is_integer=True, layout=channels_last),
]


def options(case: Case) -> dict[str, object]:
    return {
        "activation": case.activation,
        "ignore_index": case.ignore_index,
        "label_smoothing": case.label_smoothing,
    }


def assert_no_gradient_where_nothing_counts(case: Case, gradient: Tensor, right: Right) -> None:
    of_softmax = case.activation == "softmax"
    counts = right.pixels.expand(case.shape) if of_softmax else right.counts
    assert (gradient[~counts] == 0).all()


@pytest.mark.parametrize("case", CASES, ids=str)
def test_statistics(case, backend, device):
    """All columns, each with a gradient of its own."""
    logits, target, mask = case.draw()
    right = Right(case, logits, target, mask)
    leaf = logits.to(device).detach().requires_grad_()
    tensors = (None if tensor is None else tensor.to(device) for tensor in (target, mask))
    found = jml.class_statistics(leaf, *tensors, backend=backend, **options(case))

    columns = {**right.columns(), "cross_entropy": right.cross_entropies()}
    expected = {**columns, **right.extrema()}
    rounding, pixels = COLUMN_TOLERANCE[case.dtype], math.prod(case.shape[2:])
    for name, column in expected.items():
        torch.testing.assert_close(
            getattr(found, name).cpu().double(),
            column.detach(),
            rtol=rounding,
            atol=rounding * pixels if name in columns else 2 * rounding,
            msg=lambda text, name=name: f"{name}: {text}",
        )
    assert found.present.tolist() == right.present().tolist()
    assert found.valid.tolist() == right.pixels.flatten(1).sum(1).tolist()

    generator = torch.Generator().manual_seed(1)
    weights = {
        name: torch.rand(column.shape, generator=generator).double()
        for name, column in columns.items()
    }
    weighted = (getattr(found, name).cpu().double() * weight for name, weight in weights.items())
    (gradient,) = torch.autograd.grad(sum(value.sum() for value in weighted), leaf)
    weighted = (columns[name] * weight for name, weight in weights.items())
    (expected_gradient,) = torch.autograd.grad(sum(value.sum() for value in weighted), right.leaf)
    assert_gradient(gradient, expected_gradient, case.dtype)
    assert_no_gradient_where_nothing_counts(case, gradient, right)


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("aggregation", ["dataset", "image"])
@pytest.mark.parametrize("active_classes", ["label", "all"])
def test_loss(case, aggregation, active_classes, backend, device):
    """A class whose elements of an image are all ignored is inactive there in every mode."""
    logits, target, mask = case.draw()
    right = Right(case, logits, target, mask)
    expected = right.loss(active_classes, image=aggregation == "image")
    # Gradients are scaled to near 1, since those of float16 are nothing below 6e-8.
    scale = accuracy.gradient_scale(logits)
    (expected_gradient,) = torch.autograd.grad(expected, right.leaf, scale.double())

    leaf = logits.to(device).detach().requires_grad_()
    loss = jml.JaccardCrossEntropyLoss(
        ce_weight=0.5,
        aggregation=aggregation,
        active_classes=active_classes,
        backend=backend,
        **options(case),
    )
    tensors = (None if tensor is None else tensor.to(device) for tensor in (target, mask))
    found = accuracy.answer(loss, leaf, *tensors)
    tolerance = LOSS_TOLERANCE[case.dtype]
    assert found.loss.item() == pytest.approx(expected.item(), rel=tolerance, abs=tolerance)
    assert_gradient(found.gradient, expected_gradient, case.dtype)
    assert_no_gradient_where_nothing_counts(case, found.gradient, right)


def bits_of(case: Case, backend: str) -> list[bytes]:
    """Of a loss and its gradient."""
    logits, target, mask = case.draw()
    leaf = logits.detach().requires_grad_()
    loss = jml.functional.jaccard_metric_loss(leaf, target, mask, backend=backend, **options(case))
    (gradient,) = torch.autograd.grad(loss, leaf)
    return [values.numpy().tobytes() for values in (loss.detach(), gradient)]


@pytest.mark.parametrize("case", [Case(), Case("sigmoid", is_integer=True)], ids=str)
def test_threads_change_nothing(case, threads):
    threads(1)
    alone = bits_of(case, "auto")
    threads(3)
    assert bits_of(case, "auto") == alone


@pytest.mark.parametrize("activation", ["softmax", "sigmoid", "none"])
def test_all_ignored(activation, backend, device):
    logits = torch.full((2, 3, 5, 7), 0.5, device=device, requires_grad=True)
    target = torch.full_like(logits, -100, requires_grad=False)
    loss = jml.JaccardCrossEntropyLoss(activation=activation, backend=backend)(logits, target)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert loss == 0
    assert (gradient == 0).all()


@pytest.mark.parametrize("ignore_index", [None, 0, 1])
def test_probabilities_that_are_not_ignored(ignore_index, backend, device):
    """0 and 1 are probabilities, whatever ignore_index is."""
    logits, target = torch.randn(2, 2, 3, 5, 7, generator=torch.Generator().manual_seed(0))
    target = torch.nn.functional.one_hot(target.argmax(1), 3).movedim(-1, 1).float()
    loss = [
        jml.functional.jaccard_metric_loss(
            logits.to(device), target.to(device), ignore_index=number, backend=backend
        )
        for number in (ignore_index, 255)
    ]
    assert loss[0] == loss[1]
