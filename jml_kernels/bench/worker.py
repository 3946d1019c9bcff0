"""A process that measures under one setting of the allocator; `messages` starts it, and reads what
it says. Every line it prints is JSON: {"machine": ...}, {"doing": ...} or {"result": ...}."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from ..machine import describe
from .allocators import environment
from .cases import BenchmarkCase
from .measure import measure
from .peers import versions

#: Where modules were found when this one was, and at last where this package lies, if it is not
#: installed. A worker first imports the package from there, and not from a folder of its name, its
#: sources perhaps, that happens to be the current one.
_PATH = [*sys.path, str(Path(__file__).parents[2])]


class WorkerError(Exception):
    """A worker that failed."""


@dataclass(frozen=True)
class Settings:
    """What a worker is told.

    Attributes:
        cases: in their order.
        names: of competitors, see `competitors.named`; the first is what others are compared with.
        device: "cpu" or "cuda".
        allocator: of `allocators.SETTINGS`.
        rounds: of which figures are medians.
        threads: of PyTorch; None: its own choice.
    """

    cases: list[BenchmarkCase]
    names: list[str]
    device: str = "cpu"
    allocator: str = "default"
    rounds: int = 11
    threads: int | None = None

    def json(self) -> str:
        return json.dumps(asdict(self))

    @staticmethod
    def parse(text: str) -> Settings:
        told = json.loads(text)
        cases = [
            BenchmarkCase(**case | {"shape": tuple(case["shape"])}) for case in told.pop("cases")
        ]
        return Settings(cases, **told)


def messages(settings: Settings) -> Iterator[dict]:
    """Run a worker and yield what it says.

    Raises:
        WorkerError: where it failed; why stands on stderr.
    """
    start = (
        f"import sys; sys.path[:] = {_PATH!r}; from jml_kernels import parent; "
        "from jml_kernels.bench import worker; "
        f"sys.path[:] = {sys.path!r}; parent.end_with_parent(); worker.main()"
    )
    command = [sys.executable, "-c", start, settings.json()]
    variables = environment(settings.allocator)
    variables["KINETO_LOG_LEVEL"] = "10"  # the profiler, which weighs memory, is to say nothing
    if settings.threads is not None:
        variables["OMP_NUM_THREADS"] = str(settings.threads)  # compiled code reads it here
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}  # see parent.py
    with subprocess.Popen(command, **pipes, text=True, env=variables) as process:
        try:
            yield from map(json.loads, process.stdout)
            process.wait()  # before its standard input is closed, which would end it
        except BaseException:  # whoever listens has had enough
            process.terminate()
            raise
    if process.returncode:
        raise WorkerError(f"the worker ended with status {process.returncode}, see above")


def work(settings: Settings) -> Iterator[dict]:
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    installed = versions()
    yield {"machine": describe() | ({"peers": installed} if installed else {})}
    for case in settings.cases:
        yield {"doing": case.name}
        row = measure(case, settings.names, settings.device, settings.rounds)
        yield {"result": row | {"allocator": settings.allocator}}


def main() -> None:
    # What others print goes where it is not taken for a message.
    told = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for message in work(Settings.parse(sys.argv[1])):
        print(json.dumps(message), file=told, flush=True)
