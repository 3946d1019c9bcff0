"""Ending processes together with what they have started."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess


def end(process: subprocess.Popen) -> None:
    """Of a process that leads its own session: none of it is left, also where it ended before what
    it had started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
