"""A process that measures under one setting of the allocator; the others read what it says.

    python -m benchmarks.worker '{"suite": ..., "allocator": ..., ...}'

Every line it prints is JSON: {"machine": ...}, {"doing": ...} or {"result": ...}.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field

import torch

from jml_kernels.backends import choose

from .allocators import environment
from .competitors import COMPILED
from .machine import describe
from .measure import measure
from .suites import SUITES


class WorkerError(Exception):
    """A worker that failed."""


@dataclass
class Settings:
    """What a worker is told.

    Attributes:
        suite: of `suites.SUITES`.
        allocator: of `allocators.SETTINGS`.
        only: see `Suite.chosen`.
        compile: whether torch.compile takes part.
    """

    suite: str
    allocator: str
    rounds: int
    threads: int
    only: list[str] = field(default_factory=list)
    compile: bool = True


def say(**message: object) -> None:
    print(json.dumps(message), flush=True)


def work(settings: Settings) -> None:
    choose("cpu", torch.device("cpu"))  # raises, saying why, where the kernels cannot run
    torch.set_num_threads(settings.threads)
    suite = SUITES[settings.suite]
    names = tuple(n for n in suite.competitors if settings.compile or n != COMPILED)
    say(machine=describe())
    for case in suite.chosen(settings.only):
        say(doing=f"{case.name}, {settings.allocator} allocator")
        say(result=measure(case, names, settings.allocator, settings.rounds, suite.judged))


def messages(settings: Settings) -> Iterator[dict]:
    """Run a worker and yield what it says.

    Raises:
        WorkerError: where it failed; why stands on stderr.
    """
    command = [sys.executable, "-m", "benchmarks.worker", json.dumps(asdict(settings))]
    variables = environment(settings.allocator) | {
        "OMP_NUM_THREADS": str(settings.threads),  # compiled code reads it here
        "KINETO_LOG_LEVEL": "10",  # the profiler, which weighs memory, is to say nothing
    }
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=variables) as process:
        yield from map(json.loads, process.stdout)
    if process.returncode:
        raise WorkerError(f"the worker ended with status {process.returncode}, see above")


if __name__ == "__main__":
    work(Settings(**json.loads(sys.argv[1])))
