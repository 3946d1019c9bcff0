"""What machine this is: what a result may depend on."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path

import torch

from . import __version__
from .backend.cpu import build_info

#: In place of what a program does not say.
UNKNOWN = "unknown"


def versions() -> dict[str, str]:
    """Name -> version of what a result may depend on."""
    try:
        triton = importlib.metadata.version("triton")
    except importlib.metadata.PackageNotFoundError:
        triton = "not installed"
    return {
        "jml-kernels": __version__,
        "torch": torch.__version__,
        "CUDA of torch": torch.version.cuda or "none",
        "Triton": triton,
        "Python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
    }


def processor() -> dict[str, str]:
    """The CPU: model, cores that this process may use, threads that PyTorch uses, and the
    instruction set of PyTorch's own kernels."""
    affinity = getattr(os, "sched_getaffinity", None)  # not on every system
    cores = len(affinity(0)) if affinity else os.cpu_count()
    return {
        "model": _cpu_model(),
        "cores": str(cores),
        "threads of torch": str(torch.get_num_threads()),
        "instruction set of torch": torch.backends.cpu.get_cpu_capability(),
    }


def gpu() -> dict[str, str]:
    """The first GPU; empty where PyTorch finds none."""
    if not torch.cuda.is_available():
        return {}
    properties = torch.cuda.get_device_properties(0)
    return {
        "model": properties.name,
        "memory": f"{properties.total_memory / 2**30:.0f} GiB",
        "multiprocessors": str(properties.multi_processor_count),
        "compute capability": ".".join(map(str, torch.cuda.get_device_capability(0))),
        "driver": said("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"),
    }


def describe() -> dict[str, dict[str, str]]:
    """All of it, by part; parts that are not there are left out."""
    parts = {
        "versions": versions(),
        "processor": processor(),
        "CPU kernels": build_info(),
        "GPU": gpu(),
    }
    return {name: part for name, part in parts.items() if part}


def said(*command: str, folder: Path | None = None) -> str:
    """The last line of what a program prints; `UNKNOWN` where it cannot."""
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return UNKNOWN
    return (done.stdout.strip().splitlines() or [""])[-1]


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not Linux
        lines = []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()
