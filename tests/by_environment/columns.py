"""Every statistic, with a gradient of each."""

from __future__ import annotations

import pytest
from judges import assert_columns

from by_environment.backend import BACKEND, each
from jml_kernels.selfcheck.corpus import INPUTS, OPTIONS

pytestmark = pytest.mark.usefixtures("one_thread")


@each(case for case in INPUTS if case not in OPTIONS)
def test_columns(case):
    assert_columns(case, BACKEND, "cpu")
