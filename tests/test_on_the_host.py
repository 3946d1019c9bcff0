"""A GPU's kernels on the CPU: Triton's through its interpreter, the CUDA ones through the emulation
in cuda_emulation/."""

from __future__ import annotations

import pytest
from cuda_emulation_build import library
from processes import EACH_PART, passed

#: How many tests of each file the interpreter passes at least, in `make test` and in
#: `make test-slow`: where all were skipped, nothing would fail.
INTERPRETED = {
    "columns": {"not slow": 70, "slow": 150},
    "losses": {"not slow": 20, "slow": 13},
    "objectives": {"not slow": 30, "slow": 120},
    "whole_steps": {"not slow": 10, "slow": 6},
    "gradient_error": {"not slow": 10, "slow": 10},
    "wrong_values": {"not slow": 30, "slow": 10},
    "tally": {"not slow": 20, "slow": 75},
}

#: The slow parts of these wait for `make test-all`.
EXHAUSTIVE = ("columns", "tally")
PARTS = [
    pytest.param(file, *part.values, id=f"{part.id}-{file}", marks=[*part.marks, *more])
    for file in INTERPRETED
    for part in EACH_PART
    for more in ([pytest.mark.exhaustive] if file in EXHAUSTIVE and part.id == "slow" else [],)
]


@pytest.mark.parametrize(("file", "part"), PARTS)
def test_triton_under_its_interpreter(file, part):
    pytest.importorskip("triton")
    count = passed(file, part=part, backend="triton", TRITON_INTERPRET="1")
    assert count >= INTERPRETED[file][part]


@pytest.mark.long
def test_cuda_under_the_emulation():
    """It is fast enough for slow cases, too."""
    emulation = str(library())
    files = (*INTERPRETED, "ignored_elements", "upsampling")
    count = passed(*files, part="", backend="cuda", JML_CUDA_EMULATION=emulation)
    assert count > 1000
