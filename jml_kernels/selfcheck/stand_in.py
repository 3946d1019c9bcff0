"""A backend without its hardware: its stand-in has to be asked for before the package is imported,
so that its checks run in a process of their own, by the same command."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from .. import parent
from ..backend import Backend
from .report import rows_and_failures
from .results import RUNS, Failure, Row

#: Where `jml_kernels` is imported from: first on the path of `python -m` in this folder.
FOLDER = Path(__file__).parents[2]


def check(backend: Backend, quick: bool) -> Iterator[tuple[Row, list[Failure]]]:
    """The rows of all checks, each with its failures."""
    with tempfile.TemporaryDirectory() as folder, parent.held() as held:
        file = Path(folder) / "check.json"
        command = [sys.executable, "-m", "jml_kernels", "check", "--backend", backend.name]
        done = subprocess.run(
            [*command, "--json", str(file), *(["--quick"] if quick else [])],
            cwd=FOLDER,
            env=held["env"] | backend.stand_in.environment,
            stdin=held["stdin"],
            capture_output=True,
            text=True,
            check=False,
        )
        if file.exists():
            yield from rows_and_failures(json.loads(file.read_text(encoding="utf-8")))
            return
    said = (done.stderr.strip() or done.stdout.strip()).splitlines()
    found = f"exit status {done.returncode}: {said[-1] if said else 'nothing was said'}"
    failure = Failure(backend.name, RUNS, "", found, "a file of results")
    yield Row(backend.name, backend.stand_in.how, RUNS, failed=1), [failure]
