"""Integers that are one-hot over the classes, with a softmax, are the labels that they encode."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from needs import cpu_kernels
from torch import Tensor

import jml_kernels as jml
from jml_kernels import functional
from jml_kernels.checks import is_ignored
from jml_kernels.memory import MEBIBYTE, peak_memory
from jml_kernels.selfcheck.corpus.dtypes import INTEGER_DTYPES

pytestmark = pytest.mark.usefixtures("one_thread")

LOGITS, TEACHER = torch.randn(2, 2, 4, 6, 7, generator=torch.Generator().manual_seed(0))
LABELS = torch.randint(0, 4, (2, 6, 7), generator=torch.Generator().manual_seed(1))
MASK = torch.rand(2, 6, 7, generator=torch.Generator().manual_seed(2)) < 0.8


def one_hot(labels: Tensor, ignore_index: int = -100) -> Tensor:
    """Ignored pixels hold ignore_index in all classes."""
    ignored = labels == ignore_index
    encoded = F.one_hot(labels.masked_fill(ignored, 0), 4).movedim(-1, 1)
    return encoded.masked_fill(ignored.unsqueeze(1), ignore_index)


@pytest.mark.parametrize("dtype", INTEGER_DTYPES, ids=str)
def test_every_dtype(dtype, backend):
    expected = functional.jaccard_metric_loss(LOGITS, LABELS, backend=backend)
    encoded = one_hot(LABELS).to(dtype)
    assert functional.jaccard_metric_loss(LOGITS, encoded, backend=backend) == expected


@pytest.mark.parametrize("ignore_index", [-100, 255, 0, 1])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"label_smoothing": 0.1, "boundary_size": 3},
        {"ce_class_weights": [1.0, 2.0, 0.0, 0.5]},
        {"aggregation": "image", "reduction": "image"},
    ],
    ids=lambda options: ", ".join(options) or "plain",
)
def test_it_is_as_good_as_labels(ignore_index, options, backend):
    """Of 0 or 1 the pixels are ignored that have this label, as labels are."""
    labels, encoded = LABELS, one_hot(LABELS)
    if ignore_index not in (0, 1):
        labels = labels.masked_fill(torch.arange(7) > 4, ignore_index)
        encoded = one_hot(labels, ignore_index)

    def answer(target):
        leaf = LOGITS.clone().requires_grad_()
        given = {"ignore_index": ignore_index, **options}
        loss = functional.jaccard_cross_entropy_loss(leaf, target, MASK, **given, backend=backend)
        return loss.detach(), torch.autograd.grad(loss.sum(), leaf)[0]

    for found, expected in zip(answer(encoded), answer(labels), strict=True):
        assert torch.equal(found, expected)


def test_beside_a_teacher(backend):
    expected, found = (
        functional.jaccard_distillation_loss(LOGITS, labels, TEACHER, backend=backend)
        for labels in (LABELS, one_hot(LABELS))
    )
    assert found == expected


@pytest.mark.parametrize(
    ("numbers", "ignore_index"),
    [
        ([0, 0, 0, 0], -100),
        ([1, 1, 0, 0], -100),
        ([0, 2, 0, 0], -100),
        ([1, 0, 0, -1], -100),
        ([1, -100, 0, 0], -100),
        ([-100, -100, -100, 0], -100),
        ([-100, -100, -100, -100], 255),
        ([-100, -100, -100, -100], None),
        ([255, 255, 255, 255], -1),
    ],
    ids=str,
)
def test_what_is_no_encoding(numbers, ignore_index, backend):
    encoded = one_hot(LABELS)
    encoded[1, :, 2, 3] = torch.tensor(numbers)
    with pytest.raises(ValueError, match=rf"{numbers}".replace("[", r"\[") + ".*one 1") as error:
        jml.JaccardMetricLoss(ignore_index=ignore_index, backend=backend)(LOGITS, encoded)
    assert "at position (1, 2, 3)" in str(error.value)


def test_uint64_that_would_wrap_to_ignore_index(backend):
    encoded = one_hot(LABELS)
    encoded[1, :, 2, 3] = -100
    assert jml.JaccardMetricLoss(backend=backend)(LOGITS, encoded).isfinite()
    with pytest.raises(ValueError, match=rf"{2**64 - 100}.*at position \(1, 2, 3\)"):
        jml.JaccardMetricLoss(backend=backend)(LOGITS, encoded.view(torch.uint64))


@cpu_kernels
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.bool], ids=str)
def test_no_copy_of_numbers_is_made(dtype):
    """Of one byte an element, at most, where a float copy has four."""
    logits = torch.randn(2, 64, 64, 64)
    target = F.one_hot(torch.randint(0, 64, (2, 64, 64)), 64).movedim(-1, 1).to(dtype)
    peak = peak_memory(lambda: functional.jaccard_metric_loss(logits, target, backend="cpu"))
    assert peak < 4 * logits.numel() + MEBIBYTE / 2


@pytest.mark.parametrize("dtype", INTEGER_DTYPES, ids=str)
def test_ignored_integers(dtype):
    """As Python compares them, whatever the dtype holds."""
    numbers = [0, 1, 2, 100, 127, 200, 255, 65535, 2**31, 2**40, 2**63 - 1]
    numbers += [-number for number in numbers] + [-(2**63)]
    values = torch.tensor(numbers).to(dtype)
    for ignore_index in numbers:
        expected = [int(value) == ignore_index for value in values.tolist()]
        assert is_ignored(values, ignore_index).tolist() == expected, ignore_index
