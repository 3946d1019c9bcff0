"""The CUDA backend: hand-written kernels in a library of its own (csrc/cuda)."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from .record import Backend, StandIn

#: No Python module, since one file serves every Python and PyTorch.
LIBRARY = Path(__file__).parents[1] / "_cuda.so"

#: A library to load in its place, which runs the same kernels on the host (tests/cuda_emulation).
EMULATION = os.environ.get("JML_CUDA_EMULATION")


def load(emulation: str | None = EMULATION, library: Path = LIBRARY) -> str | None:
    """Load the kernels; returns why they cannot run, None if they can where there is a GPU. It is
    not asked for, and a PyTorch without CUDA, which lacks what they call, never loads them."""
    if not emulation and torch.version.cuda is None:
        return "this PyTorch has no CUDA"
    if not emulation and not library.exists():
        return "the CUDA kernels were not built (install with nvcc and JML_BUILD=auto)"
    try:
        torch.ops.load_library(emulation or library)
    except OSError as error:
        what = "the kernels of JML_CUDA_EMULATION" if emulation else "the CUDA kernels"
        return f"{what} do not load: {error.__cause__ or error}"
    return None


BACKEND = Backend(
    name="cuda",
    device="cpu" if EMULATION else "cuda",
    device_in_words="the CPU" if EMULATION else "a GPU",
    reason=load(),
    finishes_loss=True,
    upsamples=True,
    tallies=True,
    stand_in=StandIn(
        environment={"JML_CUDA_EMULATION": EMULATION or ""},
        is_active=bool(EMULATION),
        how="emulated",
        reason=None if EMULATION else "JML_CUDA_EMULATION names no library",
    ),
)
