"""The tally of a GPU's kernels on the CPU."""

from __future__ import annotations

import pytest
import torch
from tally_cases import (
    CASES,
    SELECTED,
    UPSAMPLED,
    TallyCase,
    assert_tally,
    assert_wrong_labels_are_left_out,
    computes,
    tallied,
)

from by_environment.backend import BACKEND, SUBJECT
from jml_kernels.tally import TALLIES

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.skipif(BACKEND not in TALLIES, reason=f"{BACKEND} does not count for metrics"),
]


def is_quick(case: TallyCase) -> bool:
    """Whether the interpreter has time for it, which takes minutes for wide windows."""
    return case.is_small and (case.boundary_size or 0) <= 7


KEPT = [
    case
    for case in (*CASES, *UPSAMPLED)
    if computes(BACKEND, case) and (is_quick(case) or not SUBJECT.is_interpreted)
]


@pytest.mark.parametrize(
    "case",
    [
        # The interpreter takes a second for each.
        pytest.param(case, id=case.name, marks=[] if i % 4 == 0 else [pytest.mark.slow])
        for i, case in enumerate(KEPT)
    ],
)
def test_tally(case):
    assert_tally(case, BACKEND, "cpu")


@pytest.mark.parametrize("label", [5, -1, 2**40])
def test_wrong_labels_are_left_out(label):
    assert_wrong_labels_are_left_out(label, BACKEND, "cpu")


@pytest.mark.slow
@pytest.mark.parametrize("case", SELECTED[::3], ids=lambda case: case.name)
def test_the_same_numbers_twice(case):
    for one, other in zip(
        tallied(case, BACKEND, "cpu"), tallied(case, BACKEND, "cpu"), strict=True
    ):
        assert torch.equal(one, other)
