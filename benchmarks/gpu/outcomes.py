"""A plugin of pytest: writes the outcome of every test down at once, a line of JSON each, so that
those of a run that is cut short are known too."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

#: Names the file in the environment.
VARIABLE = "JML_OUTCOMES"
_LINES = 12

_IS_WORKER = "PYTEST_XDIST_WORKER" in os.environ
_failed: list[str] = []


def pytest_runtest_logreport(report) -> None:
    if report.failed:
        _failed.append(report.nodeid)
    if _IS_WORKER:
        return  # what is reported here is reported again by who started this process
    if report.when != "call" and report.passed:
        return
    told = {"test": report.nodeid, "outcome": report.outcome, "seconds": report.duration}
    if report.skipped:
        told["why"] = report.longrepr[2] if isinstance(report.longrepr, tuple) else "expected"
    elif report.failed:
        told["why"] = "\n".join(report.longreprtext.splitlines()[-_LINES:])
    with Path(os.environ[VARIABLE]).open("a") as file:
        file.write(json.dumps(told) + "\n")


def pytest_runtest_logfinish(nodeid: str) -> None:
    """A kernel that fails takes the GPU from its process for good, and every test after it would
    fail for nothing. xdist starts another process for one that ends."""
    torch = sys.modules.get("torch")
    if not (_IS_WORKER and nodeid in _failed and torch and torch.cuda.is_initialized()):
        return
    try:
        torch.cuda.synchronize()
    except RuntimeError:
        os._exit(1)
