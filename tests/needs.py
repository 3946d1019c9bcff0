"""What a test needs of the machine: without it the test is skipped, with the reason in words."""

from __future__ import annotations

import pytest

import jml_kernels as jml

_WHY_NOT = jml.backends()["cpu"]

#: The compiled CPU kernels.
cpu_kernels = pytest.mark.skipif(_WHY_NOT is not None, reason=f"backend cpu: {_WHY_NOT}")
