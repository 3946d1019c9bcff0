"""What the figures were measured on, and of which sources."""

from __future__ import annotations

from pathlib import Path

import torch

import jml_kernels as jml
from jml_kernels import machine
from jml_kernels.machine import UNKNOWN, said

ROOT = Path(__file__).parents[2]
# Whoever owns the folder: nothing of it is run.
_GIT = ("git", "-c", "safe.directory=*")


def commit() -> dict[str, object]:
    """The version of the sources, and whether they were changed since."""
    found = said(*_GIT, "rev-parse", "HEAD", folder=ROOT)
    known = found != UNKNOWN
    changed = said(*_GIT, "status", "--porcelain", folder=ROOT) != "" if known else None
    return {"commit": found, "changed": changed}


def describe() -> dict[str, object]:
    """Of a machine with a GPU: as `jml_kernels.machine` has it, and what counts there besides."""
    nvcc = said("nvcc", "--version")
    return {
        **machine.describe(),
        "device": torch.cuda.get_device_name(0),
        "devices": torch.cuda.device_count(),
        "hip": torch.version.hip,
        "nvcc": "none" if nvcc == UNKNOWN else nvcc,
        "backends": jml.backends(),
    }
