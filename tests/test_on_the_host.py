"""A GPU's kernels on the CPU: Triton's through its interpreter, the CUDA ones through the emulation
in cuda_emulation/."""

from __future__ import annotations

import pytest
from cuda_emulation_build import library
from processes import parts, passed


@parts
@pytest.mark.parametrize("file", ["columns", "losses", "objectives", "whole_steps"])
def test_triton_under_its_interpreter(file, part):
    pytest.importorskip("triton")
    count = passed(file, part=part, backend="triton", TRITON_INTERPRET="1")
    assert count >= 10


@parts
def test_cuda_under_the_emulation(part):
    files = ("columns", "losses", "objectives", "whole_steps")
    emulation = str(library())
    count = passed(*files, part=part, backend="cuda", JML_CUDA_EMULATION=emulation)
    assert count > (900 if part == "not slow" else 100)
