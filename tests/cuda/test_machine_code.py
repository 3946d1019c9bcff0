"""The machine code of the CUDA kernels: its values against the oracle, and its counts against those
that are committed."""

from __future__ import annotations

import cuda_emulation_build
import pytest
from cuda_build import OBJECTS, VARIABLES, build_cuda, needs_nvcc
from processes import passed

from jml_kernels import cubins

pytestmark = [needs_nvcc, pytest.mark.slow, pytest.mark.long]


@pytest.fixture(scope="module")
def emulation(tmp_path_factory) -> str:
    """The library that launches; the kernels for GPUs are built too."""
    reason = cubins.missing()
    if reason is not None:
        pytest.skip(f"machine code cannot be read: {reason}")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in VARIABLES.items():
            patch.setenv(name, value)
        build_cuda.build(tmp_path_factory.mktemp("cuda") / "_cuda.so", OBJECTS)
    return str(cuda_emulation_build.library())


def test_values(emulation):
    count = passed("machine_code", part="", backend="cuda", JML_CUDA_EMULATION=emulation)
    assert count == 17


def test_counts(emulation):
    count = passed("machine_counts", part="", backend="cuda", JML_CUDA_EMULATION=emulation)
    assert count == 4
