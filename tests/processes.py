"""Starts the tests of by_environment/ in processes whose environment chooses what they test."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).with_name("by_environment")

#: What such a process runs in `make test`, and what is left to `make test-slow`.
EACH_PART = [
    pytest.param("not slow", marks=[pytest.mark.long], id="quick"),
    pytest.param("slow", marks=[pytest.mark.long, pytest.mark.slow], id="slow"),
]


def passed(*files: str, backend: str, part: str = "not slow", **environment: str) -> int:
    """How many tests of these files pass in a process; none fails."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-W", "ignore", "-p", "no:cacheprovider"),
            *("-m", part, *(str(FOLDER / f"{file}.py") for file in files)),
        ],
        env=os.environ | environment | {"JML_TESTED_BACKEND": backend},
        cwd=FOLDER.parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    return int(re.search(r"(\d+) passed", done.stdout).group(1))
