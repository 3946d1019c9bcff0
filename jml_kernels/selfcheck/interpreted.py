"""Triton without a GPU: its interpreter has to be asked for before Triton is imported, so its
checks run in a process of their own, by the same command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ..backends import why_not_compiled
from .report import rows_and_failures
from .results import Failure, Row

#: Where `jml_kernels` is imported from: first on the path of `python -m` in this folder.
FOLDER = Path(__file__).parents[2]


def why_not() -> str | None:
    """Why there is no interpreter to ask for; None if there is."""
    return why_not_compiled()


def check(quick: bool) -> Iterator[tuple[Row, list[Failure]]]:
    """The rows of all checks, each with its failures."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "check.json"
        command = [sys.executable, "-m", "jml_kernels", "check", "--backend", "triton"]
        done = subprocess.run(
            [*command, "--json", str(file), *(["--quick"] if quick else [])],
            cwd=FOLDER,
            env=os.environ | {"TRITON_INTERPRET": "1"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if file.exists():
            yield from rows_and_failures(json.loads(file.read_text(encoding="utf-8")))
            return
    said = (done.stderr.strip() or done.stdout.strip()).splitlines()
    found = f"exit status {done.returncode}: {said[-1] if said else 'nothing was said'}"
    failure = Failure("triton", "interpreter", "", found, "a file of results")
    yield Row("triton", "interpreted", "interpreter", failed=1), [failure]
