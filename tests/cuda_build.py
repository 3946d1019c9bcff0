"""The CUDA kernels as the tests compile them: once, minutes, and later only what changed.

Objects are kept in build/cuda, where an editable install keeps its own. A process that comes while
another builds waits for it (build_cuda.py).
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OBJECTS = ROOT / "build" / "cuda"

_spec = importlib.util.spec_from_file_location("build_cuda", ROOT / "build_cuda.py")
build_cuda = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(build_cuda)

needs_nvcc = pytest.mark.skipif(
    build_cuda.missing() is not None, reason=f"CUDA kernels: {build_cuda.missing()}"
)

#: For builds of all that a user gets by default, whatever this machine asks for.
VARIABLES = {"TORCH_CUDA_ARCH_LIST": "", "JML_CUDA_OBJECTS": str(OBJECTS)}
