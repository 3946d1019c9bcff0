"""The options between the counts of a class and the loss: which classes and images enter a mean,
with which weight, and what is returned. What is right is written out here in loops over classes
and images, of labels, in float64."""

from __future__ import annotations

import math
import random
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

import jml_kernels as jml
from jml_kernels import functional

pytestmark = pytest.mark.usefixtures("one_thread")

N, C, SIZE = 3, 4, (4, 5)
IGNORED = -100
OVERLAPS = {
    "metric1": (functional.jaccard_metric_loss, {"variant": 1}),
    "metric2": (functional.jaccard_metric_loss, {"variant": 2}),
    "soft1": (functional.soft_jaccard_loss, {"norm": 1}),
    "soft2": (functional.soft_jaccard_loss, {"norm": 2}),
}
CE_WEIGHT = 0.3


class Draw(NamedTuple):
    logits: Tensor
    labels: Tensor
    """of some images none counts, and class 3 may be missing"""

    @staticmethod
    def of(seed: int) -> Draw:
        generator, chance = torch.Generator().manual_seed(seed), random.Random(seed)
        logits = 3 * torch.randn(N, C, *SIZE, generator=generator, dtype=torch.float64)
        labels = torch.randint(0, chance.choice([2, C - 1, C]), (N, *SIZE), generator=generator)
        labels[torch.rand(N, *SIZE, generator=generator) < 0.2] = IGNORED
        labels[chance.randrange(N)] = IGNORED if chance.random() < 0.5 else 1
        if chance.random() < 0.05:
            labels[:] = IGNORED
        return Draw(logits, labels)


def options_of(seed: int) -> dict[str, object]:
    """Some of each, in all combinations that are taken."""
    chance = random.Random(seed)
    aggregation = chance.choice(["dataset", "image", "class", {"dataset": 0.5, "image": 0.3}])
    reductions = ["mean", "sum"]
    reductions += ["none"] if isinstance(aggregation, str) else []
    reductions += ["image"] if aggregation == "image" else []
    return {
        "active_classes": chance.choice(["all", "present", "label", "prob", "both"]),
        "classes": chance.choice([None, [1, 2], [0], [3], range(1, C)]),
        "inactive_loss": chance.choice([None, None, 0.0, 0.7]),
        "smooth": chance.choice([0.0, 0.5, (0.0, 0.01), (1.0, 0.5), (0.3, 1.0)]),
        "class_weights": chance.choice([None, [0.5, 1.0, 2.0, 3.0], [0.0, 1.0, 0.0, 2.0]]),
        "weighted_mean": chance.choice([False, True]),
        "log_loss": chance.choice([False, False, True]),
        "gamma": chance.choice([1.0, 1.0, 2.0]),
        "aggregation": aggregation,
        "reduction": chance.choice(reductions),
    }


class Right:
    """The loss of a draw, in loops."""

    def __init__(self, draw: Draw, overlap: str, options: dict[str, object]):
        self.options, self.overlap = options, overlap
        self.x = draw.logits.softmax(1)
        self.counted = draw.labels != IGNORED
        self.y = torch.stack([(draw.labels == c).double() for c in range(C)], dim=1)
        self.named = [options["classes"] is None or c in options["classes"] for c in range(C)]
        self.weights = options["class_weights"] or [1.0] * C

    def is_active(self, n: int, c: int) -> bool:
        if not self.named[c] or not self.counted[n].any():
            return False
        x, y = self.x[n, c][self.counted[n]], self.y[n, c][self.counted[n]]
        return {
            "all": True,
            "present": (y == 1).any().item(),
            "label": y.max() > 0.01,
            "prob": x.max() > 0.01,
            "both": (x + y).max() > 0.01,
        }[self.options["active_classes"]]

    def loss(self, images: list[int], c: int) -> float:
        """Of a class, with its pixels of these images together."""
        x, y = (torch.cat([t[n, c][self.counted[n]] for n in images]) for t in (self.x, self.y))
        tp = torch.minimum(x, y).sum() if self.overlap == "metric1" else (x * y).sum()
        power = 2 if self.overlap == "soft2" else 1
        fp, fn = (x**power).sum() - tp, (y**power).sum() - tp
        if self.overlap.startswith("metric"):
            fp, fn = (x - y).clamp(min=0).sum(), (y - x).clamp(min=0).sum()
        smooth = self.options["smooth"]
        above, below = smooth if isinstance(smooth, tuple) else (smooth, smooth)
        whole = (tp + fp + fn + below).item()
        if whole == 0:
            return 0.0
        index = (tp.item() + above) / whole
        loss = -math.log(max(index, 1e-7)) if self.options["log_loss"] else 1 - index
        return loss if self.options["gamma"] == 1 else max(loss, 0.0) ** self.options["gamma"]

    def losses(self, groups: list[list[int]]) -> list[list[float | None]]:
        """Of each group of images and class; None does not count."""
        inactive = self.options["inactive_loss"]
        return [
            [
                self.loss(images, c)
                if any(self.is_active(n, c) for n in images)
                else inactive
                if self.named[c]
                else None
                for c in range(C)
            ]
            for images in groups
        ]

    def over_classes(self, losses: list[float | None]) -> float | None:
        """None where no class counts."""
        counted = [c for c, loss in enumerate(losses) if loss is not None]
        if not counted:
            return None
        total = sum(self.weights[c] * losses[c] for c in counted)
        if self.options["reduction"] == "sum":
            return total
        if self.options["weighted_mean"] and self.options["class_weights"] is not None:
            weight = sum(self.weights[c] for c in counted)
            return total / weight if weight else 0.0
        return total / len(counted)

    def overlap_loss(self, how: str) -> float | list:
        everywhere, alone = [list(range(N))], [[n] for n in range(N)]
        losses = self.losses(everywhere if how == "dataset" else alone)
        if how == "class":
            losses = [[mean([of[c] for of in losses]) for c in range(C)]]
        reduction = self.options["reduction"]
        if reduction == "none":
            each = [[(of[c] or 0.0) * self.weights[c] for c in range(C)] for of in losses]
            return each if how == "image" else each[0]
        of_groups = [self.over_classes(of) for of in losses]
        return [of or 0.0 for of in of_groups] if reduction == "image" else mean(of_groups) or 0.0

    def value(self) -> float | list:
        aggregation = self.options["aggregation"]
        if isinstance(aggregation, str):
            return self.overlap_loss(aggregation)
        return sum(weight * self.overlap_loss(how) for how, weight in aggregation.items())

    def cross_entropy(self, weights: list[float]) -> float | list[float]:
        """Of every class, also of those that are not named."""
        of_pixels = -(self.x.log() * self.y * torch.tensor(weights).view(C, 1, 1)).sum(1)
        weight_of_pixels = (self.y * torch.tensor(weights).view(C, 1, 1)).sum(1)
        sums, whole = of_pixels.flatten(1).sum(1), weight_of_pixels.flatten(1).sum(1)
        if self.options["reduction"] != "image":
            return (sums.sum() / whole.sum()).item() if whole.sum() else 0.0
        return [(s / w).item() if w else 0.0 for s, w in zip(sums, whole, strict=True)]


def mean(values: list[float | None]) -> float | None:
    """Of those that there are."""
    there = [value for value in values if value is not None]
    return sum(there) / len(there) if there else None


def assert_right(loss: Tensor, right: float | list) -> None:
    expected = torch.tensor(right, dtype=torch.float64)
    assert loss.shape == expected.shape
    torch.testing.assert_close(loss.detach().double().cpu(), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("seed", range(120))
def test_overlap_loss(seed, backend, device):
    draw, options = Draw.of(seed), options_of(seed)
    overlap = random.Random(seed).choice(list(OVERLAPS))
    function, which = OVERLAPS[overlap]
    on_device = draw.logits.to(device), draw.labels.to(device)
    found = function(*on_device, **which, **options, backend=backend)
    assert_right(found, Right(draw, overlap, options).value())


@pytest.mark.parametrize("seed", range(200, 240))
def test_beside_cross_entropy(seed, backend, device):
    """Which sees all classes, whatever `classes` says."""
    draw, options = Draw.of(seed), options_of(seed)
    options["reduction"] = options["reduction"].replace("none", "sum")
    weights = random.Random(seed).choice([[1.0] * C, [1.0, 2.0, 0.0, 4.0]])
    found = functional.jaccard_cross_entropy_loss(
        draw.logits.to(device), draw.labels.to(device), ce_weight=CE_WEIGHT,
        ce_class_weights=weights, **options, backend=backend,
    )  # fmt: skip
    right = Right(draw, "metric1", options)
    overlap_loss, cross_entropy = (
        torch.tensor(of, dtype=torch.float64)
        for of in (right.value(), right.cross_entropy(weights))
    )
    expected = CE_WEIGHT * cross_entropy + (1 - CE_WEIGHT) * overlap_loss
    assert_right(found, expected.tolist())


@pytest.mark.parametrize("seed", range(300, 330))
def test_beside_a_teacher(seed, backend, device):
    """Distillation is its four terms (eq. 15 to 17), each overlap loss with the same options."""
    draw, options = Draw.of(seed), options_of(seed)
    options["reduction"] = options["reduction"].replace("none", "sum")
    draw.labels[draw.labels == IGNORED] = 1  # a teacher alone knows no pixels that are ignored
    teacher = draw.logits.flip(0)
    found = functional.jaccard_distillation_loss(
        draw.logits.to(device), draw.labels.to(device), teacher.to(device), **options,
        backend=backend,
    )  # fmt: skip
    terms = [
        functional.jaccard_cross_entropy_loss(
            draw.logits, target, ce_weight=0.25, **options, backend="reference"
        )
        for target in (draw.labels, teacher.softmax(1))
    ]
    assert_right(found, ((terms[0] + terms[1]) / 2).tolist())


@pytest.mark.parametrize("mode", ["all", "present", "label", "prob", "both"])
@pytest.mark.parametrize("how", ["dataset", "image", "class"])
@pytest.mark.parametrize("target", ["labels", "mask", "elements"])
def test_an_image_where_nothing_counts_is_left_out(target, how, mode, backend, device):
    """It must not pull the others towards 0, in no mode; with a number for what is not active it
    counts with that."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(N, C, *SIZE, generator=generator, dtype=torch.float64).to(device)
    labels = torch.randint(0, C, (N, *SIZE), generator=generator).to(device)
    given, mask = labels, None
    if target == "labels":
        given = labels.clone()
        given[0] = IGNORED
    elif target == "mask":
        mask = torch.ones_like(labels, dtype=torch.bool)
        mask[0] = False
    else:
        given = labels = (
            torch.randn(N, C, *SIZE, generator=generator).softmax(1).double().to(device)
        )
        given = given.clone()
        given[0] = IGNORED
    for smooth in (0.0, 1.0):
        options = {"aggregation": how, "active_classes": mode, "smooth": smooth, "backend": backend}
        loss = jml.JaccardMetricLoss(**options)
        torch.testing.assert_close(loss(logits, given, mask), loss(logits[1:], labels[1:]))
        objective = jml.JaccardCrossEntropyLoss(**options)
        torch.testing.assert_close(
            objective(logits, given, mask), objective(logits[1:], labels[1:])
        )
        if how == "image":
            counting = jml.JaccardMetricLoss(**options, inactive_loss=0.25)
            expected = (2 * counting(logits[1:], labels[1:]) + 0.25) / 3
            torch.testing.assert_close(counting(logits, given, mask), expected)
