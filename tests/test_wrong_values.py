"""What is no probability where one is expected, and no label: on the CPU an error that names value
and position, the same from every backend."""

from __future__ import annotations

import functools
import math
import re

import pytest
import torch
from needs import cpu_kernels
from operators import operator_arguments
from torch import Tensor

import jml_kernels as jml
from jml_kernels.backend import BY_NAME
from jml_kernels.ops import STATISTICS

pytestmark = pytest.mark.usefixtures("one_thread")

NAN = math.nan
DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]


@pytest.fixture
def loss(backend):
    """Of a backend that looks at values without being asked."""
    if BY_NAME[backend].needs_gpu:
        pytest.skip("looking would make a GPU wait")
    return functools.partial(jml.functional.jaccard_metric_loss, backend=backend)


def drawn(shape: tuple[int, ...] = (2, 5, 37, 41)) -> tuple[Tensor, Tensor]:
    """(probabilities, probabilities): several tiles of pixels, the last of which is not full."""
    return torch.randn(2, *shape, generator=torch.Generator().manual_seed(0)).softmax(2).unbind()


def says(words: str, error: type[Exception] = ValueError):
    return pytest.raises(error, match=f"^{re.escape(words)}$")


# ---- dense targets -------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("activation", ["softmax", "sigmoid", "none"])
@pytest.mark.parametrize(("value", "text"), [(255, "255"), (-0.5, "-0.5"), (1.5, "1.5")])
def test_target(value, text, activation, dtype, loss):
    logits, target = (values.to(dtype) for values in drawn())
    target[1, 3, 35, 40] = value
    position = f"target has value {text} at position (1, 3, 35, 40): expected a probability in "
    for ignore_index, more in (
        (-100, " or ignore_index=-100"),
        (None, ""),
        (1, ""),  # a probability, and no element is ignored
    ):
        with says(f"{position}[0, 1]{more}"):
            loss(logits, target, activation=activation, ignore_index=ignore_index)
    if value == 255:
        assert loss(logits, target, activation=activation, ignore_index=255).isfinite()


@pytest.mark.parametrize(
    ("value", "text"), [(NAN, "nan"), (-NAN, "nan"), (math.inf, "inf"), (-math.inf, "-inf")]
)
def test_target_that_is_no_number(value, text, loss):
    logits, target = drawn()
    target[0, 0, 0, 0] = value
    with says(
        f"target has value {text} at position (0, 0, 0, 0): expected a probability in [0, 1] or "
        "ignore_index=-100"
    ):
        loss(logits, target)


@pytest.mark.parametrize("value", [1 + 1e-7, -1e-7, 1 + 9e-7, -9e-7])
@pytest.mark.parametrize("dtype", DTYPES[:2], ids=str)
def test_rounding_is_none(value, dtype, loss):
    """Averages and interpolations end there."""
    logits, target = (values.to(dtype) for values in drawn())
    target[1, 3, 35, 40] = logits[0, 2, 3, 4] = value
    for activation in ("softmax", "none"):
        assert loss(logits, target, activation=activation).isfinite()


@pytest.mark.parametrize("value", [1 + 3e-6, -3e-6])
def test_more_than_rounding(value, loss):
    logits, target = drawn()
    target[1, 3, 35, 40] = value
    with pytest.raises(ValueError, match=f"^target has value {value:g} at"):
        loss(logits, target)


def test_what_a_mask_hides(loss):
    logits, target = drawn()
    mask = torch.ones(2, 37, 41, dtype=torch.bool)
    mask[1, 35, 40] = False
    target[1, 3, 35, 40] = 255
    logits[1, 3, 35, 40] = NAN
    for activation in ("softmax", "sigmoid", "none"):
        assert loss(logits, target, mask, activation=activation).isfinite()
    target[0, 2, 9, 8] = 7
    with pytest.raises(ValueError, match=r"value 7 at position \(0, 2, 9, 8\)"):
        loss(logits, target, mask)


def test_beside_an_ignored_element(loss):
    logits, target = drawn()
    target[1, 3] = -100
    assert loss(logits, target).isfinite()
    target[1, 4, 0, 1] = -99
    with pytest.raises(ValueError, match=r"value -99 at position \(1, 4, 0, 1\)"):
        loss(logits, target)


# ---- logits that are probabilities ---------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("kind", ["labels", "bits", "soft"])
@pytest.mark.parametrize(("value", "text"), [(1.5, "1.5"), (-0.5, "-0.5"), (NAN, "nan")])
def test_logits(value, text, kind, dtype, loss):
    logits, soft = (values.to(dtype) for values in drawn())
    target = {"labels": soft.argmax(1), "bits": (soft > 0.3).long(), "soft": soft}[kind]
    logits[1, 4, 36, 0] = value
    with says(
        f"logits has value {text} at position (1, 4, 36, 0): expected a probability in [0, 1] "
        "with activation='none'"
    ):
        loss(logits, target, activation="none")
    # What counts nowhere may be anything.
    if kind == "labels":
        target[1, 36, 0] = -100
    else:
        target[1, 4, 36, 0] = -100
    assert loss(logits, target, activation="none").isfinite()


def test_targets_come_before_logits(loss):
    logits, target = drawn()
    logits[0, 0, 0, 0] = 2
    target[1, 4, 36, 40] = 3
    with pytest.raises(ValueError, match=r"target has value 3 at position \(1, 4, 36, 40\)"):
        loss(logits, target, activation="none")


# ---- which is named ------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "strided"])
def test_the_first_in_the_order_of_positions(layout, count, threads, loss):
    """Whatever the order in which pieces of the images are looked at: of one image the classes come
    first, and the first class here is wrong in the last piece alone."""
    threads(count)
    logits, target = drawn((3, 5, 160, 161))
    if layout == "channels_last":
        target = target.contiguous(memory_format=torch.channels_last)
    elif layout == "strided":
        target = target.repeat_interleave(2, dim=3)[..., ::2]
    bits = (target > 0.3).long()
    for position, value in (
        ((2, 0, 0, 0), 9),
        ((1, 4, 0, 0), 8),
        ((1, 2, 159, 160), 7),
        ((1, 3, 0, 0), 6),
        ((1, 2, 159, 159), 5),
    ):
        target[position] = bits[position] = logits[position] = value
    with pytest.raises(ValueError, match=r"target has value 5 at position \(1, 2, 159, 159\)"):
        loss(logits, target)
    with pytest.raises(IndexError, match=r"target has label 5 at position \(1, 2, 159, 159\)"):
        loss(logits, bits, activation="sigmoid")
    with pytest.raises(ValueError, match=r"logits has value 5 at position \(1, 2, 159, 159\)"):
        loss(logits, bits.argmax(1), activation="none")


@pytest.mark.parametrize("shape", [(3, 2), (3, 2, 7), (3, 2, 5, 6), (3, 2, 3, 4, 5)], ids=str)
def test_the_position_has_the_targets_dimensions(shape, loss):
    target = torch.full(shape, 0.5)
    position = tuple(size - 1 for size in shape)
    target[position] = 2
    with pytest.raises(ValueError, match=re.escape(f"position ({', '.join(map(str, position))})")):
        loss(torch.zeros(shape), target)


# ---- labels --------------------------------------------------------------------------------------


def test_unsigned_labels_do_not_wrap(loss):
    """2^64 - 100 is neither -100 nor ignored."""
    logits, soft = drawn()
    labels, bits = soft.argmax(1), (soft > 0.3).long()
    labels[1, 36, 40] = bits[1, 4, 36, 40] = -100
    number = 2**64 - 100
    with says(
        f"target has label {number} at position (1, 36, 40): expected a label in [0, 5) or "
        "ignore_index=-100",
        IndexError,
    ):
        loss(logits, labels.view(torch.uint64))
    with says(
        f"target has label {number} at position (1, 4, 36, 40): expected a label in [0, 2) or "
        "ignore_index=-100",
        IndexError,
    ):
        loss(logits, bits.view(torch.uint64), activation="sigmoid")


def test_no_label_is_ignored(loss):
    """Where ignore_index is None, not even the number that stands for it."""
    logits, soft = drawn()
    for number in (-100, -(2**63)):
        labels, bits = soft.argmax(1), (soft > 0.3).long()
        labels[0, 0, 1] = bits[0, 0, 0, 1] = number
        with says(
            f"target has label {number} at position (0, 0, 1): expected a label in [0, 5) or "
            "ignore_index=None",
            IndexError,
        ):
            loss(logits, labels, ignore_index=None)
        with says(
            f"target has label {number} at position (0, 0, 0, 1): expected a label in [0, 2) or "
            "ignore_index=None",
            IndexError,
        ):
            loss(logits, bits, activation="sigmoid", ignore_index=None)


# ---- teachers ------------------------------------------------------------------------------------


@cpu_kernels
def test_teacher_of_probabilities():
    """Losses have no objective of one; the operators take it."""
    student, teacher = drawn()
    labels = teacher.argmax(1)
    teacher[1, 3, 35, 40] = 1.5
    arguments = operator_arguments(
        student, labels, teacher, activation="none", teacher_temperature=2.0
    )
    with says(
        "teacher_logits has value 1.5 at position (1, 3, 35, 40): expected a probability in "
        "[0, 1] with activation='none'"
    ):
        STATISTICS["cpu"](*arguments.values(), False)
    labels[1, 35, 40] = -100
    STATISTICS["cpu"](*arguments.values(), False)


def test_logits_of_a_teacher_are_any_numbers(loss):
    student, teacher = drawn()
    teacher = 300 * teacher - 100
    backend = loss.keywords["backend"]
    for activation in ("softmax", "sigmoid"):
        distillation = jml.JaccardDistillationLoss(activation=activation, backend=backend)
        assert distillation(student, teacher.argmax(1), teacher).isfinite()


def test_statistics_refuse_too(backend, loss):
    logits, target = drawn()
    target[0, 0, 0, 1] = 2
    with pytest.raises(ValueError, match=r"target has value 2 at position \(0, 0, 0, 1\)"):
        jml.class_statistics(logits, target, backend=backend)
