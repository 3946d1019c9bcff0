"""The CPU backend: C++ kernels for several instruction sets (csrc/cpu)."""

from __future__ import annotations

import importlib
import importlib.util

from .record import Backend

_MODULE = "jml_kernels._cpu"


def load() -> str | None:
    """Load the kernels; returns why they cannot run, None if they can."""
    if importlib.util.find_spec(_MODULE) is None:
        return "the C++ extension was not built (install with a C++ compiler and JML_BUILD=auto)"
    try:
        importlib.import_module(_MODULE)
    except ImportError as error:
        return f"the C++ extension does not load: {error}"
    return None


BACKEND = Backend(
    name="cpu",
    device="cpu",
    device_in_words="the CPU",
    reason=load(),
    finishes_loss=True,
    upsamples=True,
    tallies=True,
)


def build_info() -> dict[str, str]:
    """How the kernels were built and what they run with; empty where they cannot run."""
    if BACKEND.reason is not None:
        return {}
    return dict(importlib.import_module(_MODULE).build_info())
