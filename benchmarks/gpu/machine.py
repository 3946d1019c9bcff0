"""What the figures were measured on, and of which sources."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from pathlib import Path

import torch

import jml_kernels as jml

ROOT = Path(__file__).parents[2]
UNKNOWN = "unknown"
# Whoever owns the folder: nothing of it is run.
_GIT = ("git", "-c", "safe.directory=*")


def _said(*command: str) -> str:
    """The first line of what a program prints; "unknown" where it cannot."""
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return UNKNOWN
    return (done.stdout.strip().splitlines() or [""])[0]


def commit() -> dict[str, object]:
    """The version of the sources, and whether they were changed since."""
    found = _said(*_GIT, "rev-parse", "HEAD")
    changed = None if found == UNKNOWN else _said(*_GIT, "status", "--porcelain") != ""
    return {"commit": found, "changed": changed}


def describe() -> dict[str, object]:
    """Of a machine with a GPU."""
    properties = torch.cuda.get_device_properties(0)
    try:
        triton = importlib.metadata.version("triton")
    except importlib.metadata.PackageNotFoundError:
        triton = "none"
    return {
        "device": properties.name,
        "multiprocessors": properties.multi_processor_count,
        "memory": properties.total_memory,
        "capability": list(torch.cuda.get_device_capability(0)),
        "devices": torch.cuda.device_count(),
        "driver": _said("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "hip": torch.version.hip,
        "nvcc": _nvcc(),
        "triton": triton,
        "python": sys.version.split()[0],
        "jml_kernels": jml.__version__,
        "backends": jml.backends(),
    }


def _nvcc() -> str:
    try:
        done = subprocess.run(["nvcc", "--version"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "none"
    return done.stdout.strip().splitlines()[-1]
