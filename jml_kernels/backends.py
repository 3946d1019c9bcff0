"""Which backends can run here, and for each that cannot, why."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
from pathlib import Path

import torch

#: In the order in which "auto" tries them.
NAMES = ("cuda", "triton", "cpu", "reference")

#: The CUDA kernels: no Python module, since one file serves every Python and PyTorch.
CUDA_LIBRARY = Path(__file__).with_name("_cuda.so")

#: A library to load in their place, which computes the same without a GPU, on tensors of the CPU:
#: slowly, to test them.
CUDA_EMULATION = os.environ.get("JML_CUDA_EMULATION")


def _load_cpu() -> str | None:
    """Load the CPU kernels; returns why they cannot run, None if they can."""
    if importlib.util.find_spec("jml_kernels._cpu") is None:
        return "the C++ extension was not built (install with a C++ compiler and JML_BUILD=auto)"
    try:
        importlib.import_module("jml_kernels._cpu")
    except ImportError as error:
        return f"the C++ extension does not load: {error}"
    return None


def _load_cuda() -> str | None:
    """Load the CUDA kernels; returns why they cannot run, None if they can where there is a GPU. It
    is not asked for, and a PyTorch without CUDA, which lacks what they call, never loads them."""
    if not CUDA_EMULATION and torch.version.cuda is None:
        return "this PyTorch has no CUDA"
    if not CUDA_EMULATION and not CUDA_LIBRARY.exists():
        return "the CUDA kernels were not built (install with nvcc and JML_BUILD=auto)"
    try:
        torch.ops.load_library(CUDA_EMULATION or CUDA_LIBRARY)
    except OSError as error:
        what = "the kernels of JML_CUDA_EMULATION" if CUDA_EMULATION else "the CUDA kernels"
        return f"{what} do not load: {error.__cause__ or error}"
    return None


def _find_triton() -> str | None:
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


#: Whether Triton runs kernels without a GPU, on tensors of the CPU: slowly, to test them.
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"

_WHY_NOT = {
    "cuda": _load_cuda(),
    "triton": _find_triton(),
    "cpu": _load_cpu(),
    "reference": None,
}

#: Run on tensors of the CPU in place of a GPU's: taken by name only.
_TESTS = ({"cuda"} if CUDA_EMULATION else set()) | ({"triton"} if INTERPRETED else set())
#: Where the tensors of a backend lie; the reference takes any.
DEVICES = {
    "cuda": "cpu" if "cuda" in _TESTS else "cuda",
    "triton": "cpu" if "triton" in _TESTS else "cuda",
    "cpu": "cpu",
}


def backends() -> dict[str, str | None]:
    """The backends, in the order in which "auto" tries them.

    Returns:
        name -> None where it can run on this machine, else why it cannot, in words.
    """
    found = dict(_WHY_NOT)
    on_gpu = [name for name, device in DEVICES.items() if device == "cuda" and found[name] is None]
    if on_gpu and torch.cuda.device_count() == 0:
        found |= dict.fromkeys(on_gpu, "PyTorch finds no GPU for it here")
    return found


def _runs_on(backend: str, device: torch.device) -> bool:
    return _WHY_NOT[backend] is None and DEVICES.get(backend) in (None, device.type)


def why_not(backend: str, device: torch.device) -> str | None:
    """Why a backend cannot run on tensors of a device; None if it can."""
    if _runs_on(backend, device):
        return None
    where = {
        "cuda": "the CPU" if CUDA_EMULATION else "a GPU",
        "triton": "a GPU, or with TRITON_INTERPRET=1 the CPU,",
        "cpu": "the CPU",
    }[backend]
    return backends()[backend] or f"its kernels run on {where} and the tensors are on {device}"


def why_not_compiled() -> str | None:
    """Why Triton compiles no kernels here, for whatever GPU; None if it does."""
    if INTERPRETED:
        return "TRITON_INTERPRET=1 interprets kernels"
    return _WHY_NOT["triton"]


def choose(backend: str, device: torch.device) -> str:
    """The backend to run: "auto" is the first of `NAMES` that can.

    Raises:
        ValueError: for a name that is none.
        RuntimeError: for a backend that cannot run here, saying why.
    """
    if backend == "auto":
        return next(name for name in NAMES if name not in _TESTS and _runs_on(name, device))
    if backend not in NAMES:
        expected = ", ".join(map(repr, ("auto", *NAMES)))
        raise ValueError(f"backend={backend!r}: expected one of {expected}")
    reason = why_not(backend, device)
    if reason is not None:
        raise RuntimeError(f"backend={backend!r} cannot run here: {reason}")
    return backend


def build_info() -> dict[str, str]:
    """How the CPU kernels were built and what they run with; empty where they cannot run."""
    if _WHY_NOT["cpu"] is not None:
        return {}
    return dict(importlib.import_module("jml_kernels._cpu").build_info())
