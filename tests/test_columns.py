"""The order of the statistics' columns is written once per language: here they are held equal."""

from __future__ import annotations

import pytest

import jml_kernels as jml
from jml_kernels.statistics import COLUMNS, EXTREMA, SUMS, TOTALS, ClassStatistics


def test_python():
    assert COLUMNS == SUMS + EXTREMA + TOTALS
    # The other totals are of the objectives alone.
    assert ClassStatistics._fields == (*SUMS, *EXTREMA, "cross_entropy", "valid")
    assert set(ClassStatistics._fields) <= set(COLUMNS)


@pytest.mark.skipif(jml.backends()["cpu"] is not None, reason="the C++ extension is not built")
def test_cpp():
    from jml_kernels import _cpu  # noqa: PLC0415

    assert tuple(_cpu.columns()) == COLUMNS
