"""What the figures were measured on, and of which sources."""

from __future__ import annotations

import subprocess
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
    return {
        **machine.describe(),
        "device": torch.cuda.get_device_name(0),
        "devices": torch.cuda.device_count(),
        "hip": torch.version.hip,
        "nvcc": _nvcc(),
        "backends": jml.backends(),
    }


def _nvcc() -> str:
    try:
        done = subprocess.run(["nvcc", "--version"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "none"
    return done.stdout.strip().splitlines()[-1]
