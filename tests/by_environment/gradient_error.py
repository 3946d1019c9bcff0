"""Rounding of the gradient, see tests/gradient_error.py."""

from __future__ import annotations

import pytest
from gradient_error import CASES, DETAILED, Case, assert_digits, assert_near

from by_environment.backend import BACKEND

pytestmark = pytest.mark.usefixtures("one_thread")


def each(cases: list[Case]):
    """The interpreter takes its time for products, and waits with them for `make test-slow`."""
    is_slow = [BACKEND == "triton" and "intersection" in case.columns for case in cases]
    marks = [[pytest.mark.slow] if slow else [] for slow in is_slow]
    parameters = [
        pytest.param(case, id=str(case), marks=mark)
        for case, mark in zip(cases, marks, strict=True)
    ]
    return pytest.mark.parametrize("case", parameters)


@each(CASES)
def test_terms(case):
    assert_near(case, BACKEND, "cpu")


@each(DETAILED)
def test_confident_predictions(case):
    assert_digits(case, BACKEND, "cpu")
