"""Cross-entropy beside an overlap, and distillation."""

from __future__ import annotations

import pytest
from judges import assert_objective

from by_environment.backend import BACKEND, each
from jml_kernels.selfcheck.corpus import OBJECTIVES

pytestmark = pytest.mark.usefixtures("one_thread")


@each(OBJECTIVES)
def test_objective(case):
    assert_objective(case, BACKEND, "cpu")
