"""What has to be built first: the kernels for GPUs, and the operators that launch them here.

Both are those of the tests, whose builds are kept (tests/cuda_build.py and
tests/cuda_emulation_build.py).
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "tests"))

import cuda_build  # noqa: E402
import cuda_emulation_build  # noqa: E402


class Built(NamedTuple):
    objects: Path
    """a folder of objects, for every architecture"""
    emulation: Path
    """the library that JML_CUDA_EMULATION names"""
    nvcc: str


def missing() -> str | None:
    """Why nothing can be built here, in words."""
    if cuda_emulation_build.COMPILER is None:
        return "there is no g++"
    return cuda_build.build_cuda.missing()


def build() -> Built:
    """Takes minutes the first time, and a moment where nothing has changed."""
    os.environ |= cuda_build.VARIABLES
    library = ROOT / "build" / "sass" / "_cuda.so"
    cuda_build.build_cuda.build(library, cuda_build.OBJECTS)
    return Built(cuda_build.OBJECTS, cuda_emulation_build.library(), cuda_build.build_cuda.nvcc())
