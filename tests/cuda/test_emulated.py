"""Runs on_the_host.py: the library of kernels is chosen when the package is imported, by the
environment."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from cuda_emulation_build import library

FILE = Path(__file__).parents[1] / "on_the_host.py"


def test_under_the_emulation():
    done = subprocess.run(
        [sys.executable, "-m", "pytest", str(FILE), "-W", "ignore", "-p", "no:cacheprovider"],
        env={**os.environ, "JML_CUDA_EMULATION": str(library())},
        cwd=FILE.parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    assert int(re.search(r"(\d+) passed", done.stdout).group(1)) > 800
