"""What the figures were measured on."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path

import torch

import jml_kernels as jml


def _first_match(file: str, pattern: str) -> str:
    """The first group of a pattern in a file; empty where there is none, as elsewhere than on
    Linux."""
    path = Path(file)
    found = re.search(pattern, path.read_text()) if path.exists() else None
    return found.group(1) if found else ""


def describe() -> dict[str, object]:
    from jml_kernels._cpu import build_info  # noqa: PLC0415

    return {
        "cpu": _first_match("/proc/cpuinfo", r"model name\s*:\s*(.+)") or platform.processor(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "libc": " ".join(platform.libc_ver()),
        "huge pages": _first_match("/sys/kernel/mm/transparent_hugepage/enabled", r"\[(\w+)\]"),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "jml_kernels": jml.__version__,
        **build_info(),
    }
