"""No ratio of the CPU kernels has fallen by more than a third. Takes two minutes and the machine
for itself, so it is not among the tests of CI: `pytest benchmarks`, or `make bench`."""

from __future__ import annotations

import pytest

import jml_kernels as jml

from . import regression


@pytest.mark.skipif(
    jml.backends()["cpu"] is not None, reason=f"backend cpu: {jml.backends()['cpu']}"
)
def test_no_ratio_has_fallen():
    before = regression.baseline()
    if before is None:
        pytest.skip(f"baseline.json has no ratios of {regression.instruction_set()} yet")
    assert regression.fallen(regression.measure(), before) == []
