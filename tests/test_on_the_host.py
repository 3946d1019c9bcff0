"""Runs on_the_host.py: an interpreter or a library of kernels is chosen by the environment when the
package is imported."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from cuda_emulation_build import library

FILE = Path(__file__).with_name("on_the_host.py")


def passed(**environment: str) -> int:
    """How many of its tests pass; none fails."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", str(FILE), "-W", "ignore", "-p", "no:cacheprovider"],
        env=os.environ | environment,
        cwd=FILE.parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    return int(re.search(r"(\d+) passed", done.stdout).group(1))


def test_triton_under_its_interpreter():
    pytest.importorskip("triton")
    assert passed(TRITON_INTERPRET="1") > 250


def test_cuda_under_the_emulation():
    assert passed(JML_CUDA_EMULATION=str(library())) > 800
