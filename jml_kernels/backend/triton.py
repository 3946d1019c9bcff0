"""The Triton backend: kernels that are compiled when they are first met (triton_kernels)."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os

import torch

from .record import Backend, StandIn

#: Whether Triton interprets its kernels, on tensors of the CPU.
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"


def missing() -> str | None:
    """Why there is no Triton to compile kernels with; None if there is. It is not imported, and no
    GPU is asked for: both cost time, and the second may keep a process from forking."""
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed (pip install 'jml-kernels[triton]')"
    try:
        version = importlib.metadata.version("triton")
    except importlib.metadata.PackageNotFoundError:
        return None  # a build of another name, as PyTorch for AMD brings along
    if tuple(map(int, version.split(".")[:2])) < (3, 6):
        return f"Triton {version} is installed: expected 3.6 or newer"
    return None


def register(library: torch.library.Library) -> None:
    """Register the kernels; the first call imports their module. On tensors of the CPU they run
    through Triton's interpreter, and `choose` sees to it that it was asked for."""

    def implementation(name: str):
        def run(*arguments):
            operators = importlib.import_module("jml_kernels.triton_kernels.operators")
            return getattr(operators, name)(*arguments)

        return run

    for name in ("statistics", "statistics_backward", "statistics_backward_", "loss", "tally"):
        for key in ("CUDA", "CPU"):
            library.impl(f"triton_{name}", implementation(name), key)


BACKEND = Backend(
    name="triton",
    device="cpu" if INTERPRETED else "cuda",
    device_in_words="a GPU, or with TRITON_INTERPRET=1 the CPU,",
    reason=missing(),
    finishes_loss=True,
    upsamples=True,
    tallies=True,
    stand_in=StandIn(
        environment={"TRITON_INTERPRET": "1"},
        is_active=INTERPRETED,
        how="interpreted",
        reason=missing(),
    ),
    register=register,
)


def why_not_compiled() -> str | None:
    """Why Triton compiles no kernels here, for whatever GPU; None if it does."""
    if INTERPRETED:
        return "TRITON_INTERPRET=1 interprets kernels"
    return BACKEND.reason
