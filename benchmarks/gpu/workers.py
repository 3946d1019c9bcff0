"""Starts workers, listens to them, and goes on after one that dies."""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from .cases import ENTRIES
from .processes import end
from .worker import Settings

ROOT = Path(__file__).parents[2]
#: Seconds of silence after which a worker is given up: a compiler takes the longest.
PATIENCE = 60
#: How many workers may die before nothing more is measured.
LIVES = 6


class WorkerLostError(Exception):
    """A worker that died or fell silent."""


def start(settings: Settings) -> subprocess.Popen:
    command = [sys.executable, "-m", "benchmarks.gpu.worker", settings.json()]
    # A group of its own: compilers that it has started end with it.
    return subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True
    )


def messages(process: subprocess.Popen, patience: float = PATIENCE) -> Iterator[dict]:
    """What a worker says, until it ends.

    Raises:
        WorkerLostError: where it says that the GPU is lost, dies, or is silent for too long.
    """
    lines: queue.Queue[str | None] = queue.Queue()

    def read() -> None:
        for line in process.stdout:
            lines.put(line)
        lines.put(None)

    threading.Thread(target=read, daemon=True).start()
    try:
        while True:
            try:
                line = lines.get(timeout=patience)
            except queue.Empty:
                raise WorkerLostError(f"silent for {patience:g} s") from None
            if line is None:
                break
            message = json.loads(line)
            if "lost" in message:
                raise WorkerLostError(message["lost"])
            yield message
        if process.wait() != 0:
            raise WorkerLostError(f"the process ended with status {process.returncode}")
    finally:
        end(process)


def measured(
    settings: Settings,
    run: Callable[[Settings], Iterator[dict]] = lambda settings: messages(start(settings)),
) -> Iterator[dict]:
    """What is measured: {"result": row, "entry": i}, or {"failed": why, "entry": i}. Where a worker
    dies, the next one leaves out who was at work, and goes on."""
    left, without = list(settings.entries), dict(settings.without)
    for _ in range(LIVES):
        doing = None
        try:
            for message in run(replace(settings, entries=left, without=without)):
                if "doing" in message:
                    doing = message
                else:
                    left = [i for i in left if i != message["entry"]]
                    doing = None
                    yield message
            return
        except WorkerLostError as error:
            if doing is None:  # before the first case, or between two
                if not left:
                    return
                yield {"failed": str(error), "entry": left.pop(0)}
            elif doing["doing"] in ENTRIES[doing["entry"]].competitors:
                found = without.setdefault(str(doing["entry"]), {})
                found[doing["doing"]] = str(error)
            else:  # it was no competitor's fault
                left = [i for i in left if i != doing["entry"]]
                why = f"{doing['doing']}: {error}"
                yield {"failed": why, "entry": doing["entry"]}


def compile_all(settings: Settings, processes: int) -> None:
    """Let entries be compiled by several workers side by side. What fails or takes too long is
    compiled when it is measured."""
    shares = [settings.entries[i::processes] for i in range(processes)]
    running = [start(replace(settings, entries=share, rounds=0)) for share in shares if share]
    drains = [threading.Thread(target=process.stdout.read, daemon=True) for process in running]
    for drain in drains:
        drain.start()
    try:
        for process in running:
            process.wait(timeout=max(settings.until - time.time(), 1))
    except subprocess.TimeoutExpired:
        pass
    finally:
        for process in running:
            end(process)
