"""Elements of a soft target that are ignored one by one, and wrong ones, in the fast CUDA kernels:
those that a thread holds all at once, of as many classes as one warp has or several share."""

from __future__ import annotations

import math
from typing import NamedTuple

import pytest
import torch
from judges import assert_gradient
from operators import gradients, operator_arguments
from torch import Tensor

from by_environment.backend import BACKEND
from jml_kernels import reference
from jml_kernels.ops import STATISTICS
from jml_kernels.statistics import EXTREMA, SUMS, TOTALS, column_bits

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.skipif(BACKEND == "triton", reason="it has one kernel for all columns"),
]

#: What the fast kernels make; others are for the general ones (wrong_values.py).
COLUMNS = column_bits(
    *("true_positive", "false_positive", "false_negative", "intersection", "target_max"),
    *("counted", "cross_entropy", "cross_entropy_weight", "valid"),
)


class Ignoring(NamedTuple):
    classes: int
    ignore_index: int
    dtype: torch.dtype
    is_masked: bool = False
    is_transposed: bool = False

    def draw(self) -> tuple[Tensor, Tensor, Tensor | None]:
        """(logits, target, mask): of one image single elements are ignored, whole pixels, and all
        of the last class, and of the other one none. Where a pixel does not count the logits are
        NaN."""
        generator = torch.Generator().manual_seed(self.classes)
        size = (12, 16) if self.classes < 100 else (6, 8)
        logits, target = torch.randn(2, 2, self.classes, *size, generator=generator)
        # Targets that are -0 count as those do that are 0.
        target = torch.where(target.softmax(1) < 0.1 / self.classes, -0.0, target.softmax(1))
        ignored = torch.rand(target.shape, generator=generator) < 0.05
        ignored[:, :, 1, 2:] = True
        ignored[:, -1] = True
        ignored[0] = False
        target = target.masked_fill(ignored, self.ignore_index)
        counts, mask = ~ignored.all(1, keepdim=True), None
        if self.is_masked:
            mask = torch.rand(2, *size, generator=generator) < 0.7
            counts = counts & mask.unsqueeze(1)
            target = target.masked_fill(~mask.unsqueeze(1), math.nan)
        logits = logits.masked_fill(~counts, math.nan)
        if self.is_transposed:
            logits, target = (
                t.contiguous(memory_format=torch.channels_last) for t in (logits, target)
            )
        return logits.to(self.dtype), target.to(self.dtype), mask


IGNORING = [
    Ignoring(5, -100, torch.float32),
    Ignoring(5, 255, torch.float16, is_masked=True),
    Ignoring(8, 255, torch.float32, is_transposed=True),
    Ignoring(19, 255, torch.float32, is_masked=True),
    Ignoring(19, -100, torch.float16, is_transposed=True),
    Ignoring(45, -100, torch.float32),
    Ignoring(150, -100, torch.float32),
    Ignoring(150, 255, torch.float16, is_masked=True, is_transposed=True),
]


def run(**arguments) -> tuple[Tensor, Tensor, Tensor]:
    return STATISTICS[BACKEND](*arguments.values(), False)


@pytest.mark.parametrize("case", IGNORING, ids=str)
def test_ignored_elements(case):
    logits, target, mask = case.draw()
    weights = torch.arange(1.0, case.classes + 1) / case.classes
    arguments = operator_arguments(
        *(logits, None, target, mask, weights),
        ignore_index=case.ignore_index,
        dense_columns=COLUMNS,
    )
    given = gradients(arguments)

    def answer(statistics, logits: Tensor):
        leaf = logits.detach().requires_grad_()
        columns = statistics(**{**arguments, "logits": leaf})
        # Only the sums and the first total have a gradient.
        loss = (columns[0] * given["grad_sums"]).sum()
        loss += (columns[2][:, 0] * given["grad_totals"][:, 0]).sum()
        return columns, torch.autograd.grad(loss, leaf)[0]

    found, gradient = answer(run, logits)
    expected, expected_gradient = answer(reference.statistics, logits.double())
    for names, actual, right in zip((SUMS, EXTREMA, TOTALS), found, expected, strict=True):
        for i, name in enumerate(names):
            torch.testing.assert_close(
                *(actual[:, i], right[:, i].detach()),
                **{"rtol": 1e-6, "atol": 1e-5},
                msg=lambda text, name=name: f"{name}: {text}",
            )
    assert_gradient(gradient, expected_gradient, case.dtype)
    assert (gradient[expected_gradient == 0] == 0).all()


@pytest.mark.parametrize("has_labels", [False, True])
@pytest.mark.parametrize(("classes", "value"), [(5, 255), (19, -0.5), (150, 1.5), (150, math.nan)])
def test_a_wrong_value(classes, value, has_labels):
    """It makes numbers of its image NaN, whichever warp finds it, and no others."""
    case = Ignoring(classes, -100, torch.float32)
    logits, target, _ = case.draw()
    labels = target.argmax(1) if has_labels else None
    if has_labels:  # beside them no element is ignored
        target = target.clamp(min=0)
        logits = logits.nan_to_num()
    of_labels = column_bits("true_positive", "false_positive", "false_negative", "valid")

    def valid_and_false_positives(mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        arguments = operator_arguments(
            *(logits, labels, target, mask), label_columns=of_labels, dense_columns=COLUMNS
        )
        sums, _, totals = run(**arguments)
        return totals[:, TOTALS.index("valid")], sums[-1, SUMS.index("false_positive")]

    for numbers in valid_and_false_positives():
        assert numbers.isfinite().all()
    target[1, 1, 5, 6] = value
    valid, false_positives = valid_and_false_positives()
    assert valid[:, 0].isfinite().all()
    assert valid[:, 1].isnan().all()
    assert false_positives[0].isfinite().all()
    assert false_positives[1].isnan().any()
    mask = torch.ones(logits.shape[0], *logits.shape[2:], dtype=torch.bool)
    mask[1, 5, 6] = False
    for numbers in valid_and_false_positives(mask):
        assert numbers.isfinite().all()


@pytest.mark.parametrize("has_labels", [False, True])
def test_without_ignored_elements_all_classes_count_or_none(has_labels):
    """None in the second image, whose pixels are all masked out."""
    logits, target, _ = Ignoring(19, -100, torch.float32).draw()
    target = target.clamp(min=0)
    mask = torch.ones(2, *logits.shape[2:], dtype=torch.bool)
    mask[1] = False
    targets = (target.argmax(1), None) if has_labels else (None, target)
    _, extrema, _ = run(**operator_arguments(logits, *targets, mask, dense_columns=COLUMNS))
    counted = extrema[0, EXTREMA.index("counted")]
    assert (counted == torch.tensor([[1.0], [0.0]])).all()
