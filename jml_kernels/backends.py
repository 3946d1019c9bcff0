"""Which backends can run here, and for each that cannot, why."""

from __future__ import annotations

import importlib
import importlib.util

import torch

#: In the order in which "auto" tries them.
NAMES = ("cuda", "triton", "cpu", "reference")


def _load_cpu() -> str | None:
    """Load the CPU kernels; returns why they cannot run, None if they can."""
    if importlib.util.find_spec("jml_kernels._cpu") is None:
        return "the C++ extension was not built (install with a C++ compiler and JML_BUILD=auto)"
    try:
        importlib.import_module("jml_kernels._cpu")
    except ImportError as error:
        return f"the C++ extension does not load: {error}"
    return None


_WHY_NOT = {
    "cuda": "this version has no CUDA kernels yet",
    "triton": "this version has no Triton kernels yet",
    "cpu": _load_cpu(),
    "reference": None,
}


def backends() -> dict[str, str | None]:
    """The backends, in the order in which "auto" tries them.

    Returns:
        name -> None where it can run on this machine, else why it cannot, in words.
    """
    return dict(_WHY_NOT)


def why_not(backend: str, device: torch.device) -> str | None:
    """Why a backend cannot run on tensors of a device; None if it can."""
    if _WHY_NOT[backend] is not None:
        return _WHY_NOT[backend]
    if backend == "cpu" and device.type != "cpu":
        return f"its kernels run on the CPU and the tensors are on {device}"
    return None


def choose(backend: str, device: torch.device) -> str:
    """The backend to run: "auto" is the first of `NAMES` that can.

    Raises:
        ValueError: for a name that is none.
        RuntimeError: for a backend that cannot run here, saying why.
    """
    if backend == "auto":
        return next(name for name in NAMES if why_not(name, device) is None)
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
