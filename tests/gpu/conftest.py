"""Which backends the tests of a GPU run, and for those that cannot, why: in the report."""

from __future__ import annotations

import gc
import sys
from pathlib import Path

import pytest
import torch

import jml_kernels as jml
from jml_kernels.backend.triton import INTERPRETED

# importlib mode puts no folder of tests on the path; the helper is problems.py.
sys.path.insert(0, str(Path(__file__).parent))

GPU_BACKENDS = ("cuda", "triton")


def why_skipped(name: str) -> str | None:
    """Why the tests of a backend cannot run here."""
    if not torch.cuda.is_available():
        return "there is no GPU"
    if name == "triton" and INTERPRETED:
        return "TRITON_INTERPRET=1 interprets kernels on the CPU"
    reason = jml.backends()[name]
    return None if reason is None else f"backend {name}: {reason}"


def _parameter(name: str):
    reason = why_skipped(name)
    marks = () if reason is None else pytest.mark.skip(reason=reason)
    return pytest.param(name, marks=marks, id=name)


@pytest.fixture(params=[_parameter(name) for name in GPU_BACKENDS])
def backend(request) -> str:
    """Every backend with kernels for a GPU: skipped where it cannot run."""
    return request.param


@pytest.fixture(autouse=True)
def memory_for_others():
    """Other processes test on the same GPU."""
    yield
    if torch.cuda.is_initialized():
        gc.collect()
        torch.cuda.empty_cache()


@pytest.fixture
def backends() -> tuple[str, ...]:
    """All of them, for tests that compare them."""
    for name in GPU_BACKENDS:
        reason = why_skipped(name)
        if reason is not None:
            pytest.skip(reason)
    return GPU_BACKENDS
