"""Runs on_the_host.py: the interpreter is chosen before Triton is imported, by the environment."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")


def test_under_the_interpreter():
    file = Path(__file__).parents[1] / "on_the_host.py"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", str(file), "-W", "ignore", "-p", "no:cacheprovider"],
        env={**os.environ, "TRITON_INTERPRET": "1"},
        cwd=file.parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    assert int(re.search(r"(\d+) passed", done.stdout).group(1)) > 250
