"""Starts several ranks of torch.distributed (gloo) that compare a loss with one process's, and
gathers what they found.

    found(suites, world_size) -> what `compare` of by_ranks/<suite>.py yields, on every rank
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import torch
from torch import Tensor, distributed, multiprocessing

FOLDER = Path(__file__).parent


class Finding(NamedTuple):
    """How far a rank is from one process that has the whole batch."""

    name: str
    value_error: float
    gradient_error: float
    """relative, of l2 norms: the largest of all parameters or ranks' logits"""
    tolerance: float

    @property
    def holds(self) -> bool:
        return self.value_error <= self.tolerance and self.gradient_error <= self.tolerance


#: What the issue of equality is: of the whole loss, and of gradients relative to their norm.
TOLERANCE = {torch.float32: 1e-6, torch.float64: 1e-12}


def relative(actual: Tensor, expected: Tensor) -> float:
    """The l2 norm of the difference by that of what is expected; 0 where both are 0."""
    difference = (actual.double() - expected.double()).norm().item()
    return difference / expected.double().norm().item() if difference else 0.0


def found(suites: Iterable[str], world_size: int) -> list[Finding]:
    """All suites run in one start of the ranks, which takes as long as many a suite."""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, __file__, str(world_size), folder, *suites],
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-5000:]
        of_ranks = [
            json.loads((Path(folder) / f"{rank}.json").read_text()) for rank in range(world_size)
        ]
    return [
        Finding(f"rank {rank}, {name}", *numbers)
        for rank, findings in enumerate(of_ranks)
        for name, *numbers in findings
    ]


def _compared(suite: str, rank: int, world_size: int) -> list[Finding]:
    compare: Callable[[int, int], Iterator[Finding]] = _suite(suite).compare
    return [
        finding._replace(name=f"{suite}: {finding.name}") for finding in compare(rank, world_size)
    ]


def _suite(name: str) -> ModuleType:
    return importlib.import_module(f"by_ranks.{name}")


def _run(rank: int, world_size: int, folder: str, suites: list[str]) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=world_size
    )
    findings = [finding for suite in suites for finding in _compared(suite, rank, world_size)]
    (Path(folder) / f"{rank}.json").write_text(json.dumps(findings))
    distributed.barrier()
    distributed.destroy_process_group()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("world_size", type=int)
    parser.add_argument("folder")
    parser.add_argument("suites", nargs="+")
    arguments = parser.parse_args()
    for name in arguments.suites:
        _suite(name)  # once, before the processes part
    multiprocessing.start_processes(
        _run,
        (arguments.world_size, arguments.folder, arguments.suites),
        nprocs=arguments.world_size,
        start_method="fork",
    )
