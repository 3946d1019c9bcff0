"""A GPU's kernels on the CPU: Triton's through its interpreter, the CUDA ones through the emulation
in cuda_emulation/."""

from __future__ import annotations

import pytest
from cuda_emulation_build import library
from processes import passed

#: The files of by_environment/, and how many tests of each there are at least.
INTERPRETED = {"columns": 200, "losses": 40, "objectives": 130, "steps": 15}
EMULATED = {"columns": 250, "losses": 350, "objectives": 200, "steps": 100}


@pytest.mark.parametrize("file", INTERPRETED)
def test_triton_under_its_interpreter(file):
    pytest.importorskip("triton")
    assert passed(file, backend="triton", TRITON_INTERPRET="1") >= INTERPRETED[file]


@pytest.mark.parametrize("file", EMULATED)
def test_cuda_under_the_emulation(file):
    assert passed(file, backend="cuda", JML_CUDA_EMULATION=str(library())) >= EMULATED[file]
