"""How far a gradient in float32 may be from the exact one, where rounding matters most.

The gradient by a logit is a difference of terms,

    softmax: dz_c = p_c g_c - p_c (sum over classes of p_j g_j)       sigmoid: dz = p g - p p g

which may be far larger than what is left of them: for a confident prediction p is near 1. Each term
has an error of a few roundings, so that what holds of every backend for every input is a bound
relative to the sum of the terms' absolute values, in each element. Kernels that know the complement
of a probability without a subtraction do better than that.
"""

from __future__ import annotations

from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import jml_kernels as jml
from jml_kernels import accuracy, reference
from jml_kernels.accuracy import GRADIENT_TOLERANCE

#: Of the terms' absolute values: 80 roundings, since an exponential of a logit that is 87 below the
#: largest one has as many.
TOLERANCE = 1e-5
#: The smallest normal number: what is below it counts as 0.
SMALLEST = torch.finfo(torch.float32).tiny


class Case(NamedTuple):
    """Logits of a normal distribution; that of each pixel's label is larger by `lead`."""

    columns: tuple[str, ...]
    target: str  # "labels", "boundary" or "soft"
    activation: str = "softmax"
    lead: float = 0.0
    deviation: float = 3.0
    classes: int = 5

    def __str__(self):
        return ", ".join(str(field) for field in (len(self.columns), *self[1:]))

    def draw(self) -> tuple[Tensor, Tensor, dict]:
        """(logits, target, options), in float32."""
        generator = torch.Generator().manual_seed(3)
        shape = (2, self.classes, 9, 11)
        labels = torch.randint(0, self.classes, (2, 9, 11), generator=generator)
        one_hot = F.one_hot(labels, self.classes).movedim(-1, 1)
        noise, other = torch.randn(2, *shape, generator=generator)
        logits = self.deviation * noise + self.lead * one_hot
        options = {"activation": self.activation}
        if self.target == "soft":  # far from both a confident and an unsure prediction
            near, far = (
                reference.probabilities(z, self.activation) for z in (logits + other, other)
            )
            return logits, 0.9 * near + 0.1 * far, options
        if self.target == "boundary":
            return logits, labels, {**options, "label_smoothing": 0.1, "boundary_size": 3}
        return logits, one_hot if self.activation == "sigmoid" else labels, options

    def weights(self) -> dict[str, Tensor]:
        """The gradient of a loss by each column: (N, C), over six orders of magnitude."""
        generator = torch.Generator().manual_seed(4)
        size = (2, self.classes)
        powers = {name: torch.rand(size, generator=generator) for name in self.columns}
        signs = {name: -1 if name in ("true_positive", "intersection") else 1 for name in powers}
        return {
            name: signs[name] * 10 ** (6 * power.double() - 3) for name, power in powers.items()
        }


_METRIC = ("true_positive", "false_positive", "false_negative")
_PRODUCT = ("intersection", "false_positive", "false_negative")
_SQUARES = ("intersection", "prediction_squared")
#: Confident and right, as sure as float32 can be, unsure, and confident and wrong.
LEADS = ((0.0, 3.0), (12.0, 2.0), (25.0, 2.0), (0.0, 1.0), (-20.0, 8.0))
_DRAWN = [
    Case(columns, target, activation, *lead)
    for columns, target, activation in (
        (_METRIC, "labels", "softmax"),
        (_METRIC, "labels", "sigmoid"),
        (_PRODUCT, "boundary", "softmax"),
        (_METRIC, "soft", "softmax"),
        (_PRODUCT, "soft", "sigmoid"),
        (_SQUARES, "soft", "softmax"),
    )
    for lead in LEADS
] + [Case(_METRIC, target, "softmax", *LEADS[1], classes=40) for target in ("labels", "soft")]
#: In float32 a sure prediction is 1, and ties with the label: nothing tells its side.
CASES = [case for case in _DRAWN if (case.target, case.lead) != ("labels", 25.0)]
#: Where kernels know 1 - p without a subtraction: at the label of a softmax, and of a sigmoid.
DETAILED = [
    case
    for case in _DRAWN
    if (case.target, case.activation) in (("labels", "softmax"), ("soft", "sigmoid"))
]


def gradient(case: Case, logits: Tensor, backend: str) -> Tensor:
    """Of the weighted sum of the columns."""
    _, target, options = case.draw()
    leaf = logits.detach().requires_grad_()
    statistics = jml.class_statistics(
        leaf,
        target.to(logits.device),
        columns=case.columns,
        dtype=torch.float64,
        backend=backend,
        **options,
    )
    weights = case.weights().items()
    loss = sum((getattr(statistics, name) * w.to(logits.device)).sum() for name, w in weights)
    return torch.autograd.grad(loss, leaf)[0].cpu().double()


def dense_target(case: Case) -> Tensor:
    """The target as numbers of every class, float64."""
    _, target, options = case.draw()
    if target.dim() == 3:
        smoothing = (options.get("label_smoothing", 0.0), options.get("boundary_size"))
        return jml.smooth_labels(target, case.classes, *smoothing, dtype=torch.float64)
    return target.double()


def terms(case: Case) -> Tensor:
    """The sum of the absolute values of what each element of the gradient is made of, float64."""
    p = reference.probabilities(case.draw()[0].double(), case.activation)
    y = dense_target(case)
    sizes = {name: w.abs()[:, :, None, None] for name, w in case.weights().items()}

    def size(*names: str) -> Tensor | float:
        return sum(sizes.get(name, 0.0) for name in names)

    side = torch.where(p > y, size("false_positive"), size("true_positive", "false_negative"))
    g = side + size("intersection") * y + 2 * size("prediction_squared") * p
    return p * g if case.activation == "sigmoid" else p * (g + (p * g).sum(1, keepdim=True))


def assert_near(case: Case, backend: str, device: str) -> None:
    """Of every backend: each element is right up to the rounding of its terms."""
    logits = case.draw()[0]
    found = gradient(case, logits.to(device), backend)
    expected = gradient(case, logits.double(), "reference")
    # On which side of the target a probability is decides all of its pixel.
    counted = accuracy.untied(logits, [dense_target(case)], case.activation)
    assert counted.double().mean() > 0.7
    allowed = TOLERANCE * terms(case) + SMALLEST
    assert ((found - expected).abs() <= allowed)[counted.expand_as(found)].all()


def assert_digits(case: Case, backend: str, device: str) -> None:
    """Of kernels that know 1 - p: right beside what is left of the terms, however sure the
    predictions are."""
    if backend == "triton" and case.activation == "softmax":
        pytest.skip("Triton's kernels take the label's gradient from the sum over all classes")
    logits = case.draw()[0]
    found = gradient(case, logits.to(device), backend)
    expected = gradient(case, logits.double(), "reference")
    assert (found - expected).norm() <= GRADIENT_TOLERANCE[torch.float32] * expected.norm()
