"""Runs the tests of the GPU's backends, each group for as long as there is time."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from .outcomes import VARIABLE
from .processes import end

ROOT = Path(__file__).parents[2]
#: What every backend is judged by.
_JUDGES = (
    "test_statistics.py",
    "test_gradients.py",
    "test_formulas.py",
    "test_objectives.py",
    "test_large.py",
    "test_ops.py",
    "test_upsampling.py",
)
#: Arguments of pytest by group. Triton's are the slowest: each case is compiled first.
GROUPS = {
    "gpu": ("tests/gpu", "--ignore", "tests/gpu/test_sanitizer.py"),
    "sanitizer": ("tests/gpu/test_sanitizer.py",),
    "cuda": (*(f"tests/{name}" for name in _JUDGES), "-k", "cuda"),
    "triton": (*(f"tests/{name}" for name in _JUDGES), "-k", "triton"),
}
#: Every process has a context on the GPU, half a gigabyte.
PROCESSES = 12
NOTHING_SELECTED = 5
#: Seconds in which pytest says what it has found, once it is asked to end.
GRACE = 10
_TOLD = 25


def command(arguments: tuple[str, ...]) -> list[str]:
    found = [sys.executable, "-m", "pytest", "-o", "addopts=--import-mode=importlib", "-q", "-rf"]
    found += ["-p", "no:cacheprovider", "-p", f"{__package__}.outcomes", "--tb=short"]
    found += ["--disable-warnings"]
    if importlib.util.find_spec("xdist"):
        processes = max(min(os.cpu_count() or 1, PROCESSES), 1)
        found += ["--numprocesses", str(processes), "--dist", "worksteal"]
    return [*found, *arguments]


def run(arguments: tuple[str, ...], seconds: float) -> dict[str, object]:
    """Run tests; those that are not done in time are cut short.

    Returns:
        "exit" of pytest, "cut short", "seconds", the number of tests by outcome, "why skipped" with
        how many were for it, "failures" with the end of what they say, "end" of the output.
    """
    with tempfile.TemporaryDirectory() as folder:
        outcomes, output = Path(folder, "outcomes"), Path(folder, "output")
        outcomes.touch()
        # Whoever calls this may be one of xdist's processes: those it starts are not.
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_XDIST")}
        begun = time.monotonic()
        with output.open("w") as file:
            process = subprocess.Popen(
                command(arguments),
                cwd=ROOT,
                env=inherited | {VARIABLE: str(outcomes)},
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            cut_short = not _wait(process, seconds)
        return {
            "exit": process.returncode,
            "cut short": cut_short,
            "seconds": round(time.monotonic() - begun, 1),
            **summary(outcomes.read_text()),
            "end": output.read_text(errors="replace").strip().splitlines()[-_TOLD:],
        }


def _wait(process: subprocess.Popen, seconds: float) -> bool:
    """Whether a process ends in time; else it is asked to, and then made to."""
    try:
        process.wait(timeout=seconds)
        return True
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=GRACE)
        return False
    finally:
        end(process)


def summary(lines: str) -> dict[str, object]:
    """Of what outcomes.py has written. A test that passes and fails when it is taken down has
    failed."""
    found: dict[str, dict] = {}
    for told in map(json.loads, lines.splitlines()):
        if found.get(told["test"], {}).get("outcome") != "failed":
            found[told["test"]] = told
    by_outcome = {
        outcome: [told for told in found.values() if told["outcome"] == outcome]
        for outcome in ("passed", "failed", "skipped")
    }
    return {
        **{outcome: len(tests) for outcome, tests in by_outcome.items()},
        "why skipped": dict(Counter(told["why"] for told in by_outcome["skipped"])),
        "failures": [
            {"test": told["test"], "why": told["why"]} for told in by_outcome["failed"][:_TOLD]
        ],
        "slowest": {
            told["test"]: round(told["seconds"], 1)
            for told in sorted(found.values(), key=lambda told: -told["seconds"])[:10]
        },
    }


def has_failed(found: dict[str, object]) -> bool:
    """Whether a group says that something is wrong; to be cut short is not that."""
    ended_well = found["exit"] in (0, NOTHING_SELECTED)
    return found["failed"] > 0 or not (ended_well or found["cut short"])
