"""Every backend on inputs where rounding of the gradient matters most, see gradient_error.py."""

from __future__ import annotations

import pytest
from gradient_error import CASES, DETAILED, assert_digits, assert_near

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_gradient_is_right_up_to_the_rounding_of_its_terms(case, backend, device):
    assert_near(case, backend, device)


@pytest.mark.parametrize("case", DETAILED, ids=str)
def test_kernels_keep_the_digits_of_confident_predictions(case, compiled, device):
    assert_digits(case, compiled, device)
