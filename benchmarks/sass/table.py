"""The table of all rows as a document for JSON, and as text."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor

import torch

from jml_kernels.bench.timing import BACKWARD, FORWARD

from . import measured
from .build import Built
from .counts import counts
from .devices import DEVICES, H100, H200, Device
from .kernels import Kernels
from .launches import Launches
from .predictions import predictions
from .rows import LARGE, Row
from .steps import record

PASSES = (FORWARD, BACKWARD)
#: Significant digits of what is written.
_DIGITS = 5


def compiler(nvcc: str) -> str:
    """Its version, which the counts depend on."""
    told = subprocess.run([nvcc, "--version"], capture_output=True, text=True, check=True).stdout
    return told.strip().splitlines()[-1]


def row_of(row: Row, launches: Launches, devices: list[Device]) -> dict[str, object]:
    """Counts of both passes, and what is predicted on each device."""
    step = record(row, launches)
    return rounded(
        {
            "name": row.name,
            **{name: counts(step, name, row, devices[0]) for name in PASSES},
            "predicted": {
                device.name: {name: predictions(step, name, row, device) for name in PASSES}
                for device in devices
            },
        }
    )


def rounded(value: object) -> object:
    """Of whatever holds numbers, those with a point."""
    if isinstance(value, dict):
        return {key: rounded(of) for key, of in value.items()}
    if isinstance(value, float):
        return float(f"{value:.{_DIGITS}g}")
    return value


def rows_of(rows: tuple[Row, ...], built: Built, say: Callable[[str], None]) -> list[dict]:
    """In as many processes as there are cores."""
    told = {device: measured.shares(device) for device in DEVICES}
    found = []
    context = multiprocessing.get_context("spawn")  # PyTorch's threads do not survive a fork
    with ProcessPoolExecutor(len(os.sched_getaffinity(0)), context, _begin, (built,)) as pool:
        for row in pool.map(_one, rows):
            for device in row["predicted"]:
                say(line(row, device, told[device].get(row["name"])))
            found.append(row)
    return found


def _begin(built: Built) -> None:
    """Of a process."""
    _launches.append(launches_of(built))
    torch.set_num_threads(1)


_launches: list[Launches] = []


def launches_of(built: Built) -> Launches:
    """Those of sm_90, on as many multiprocessors as both GPUs have."""
    kernels = Kernels(built.objects, H100.target)
    return Launches(built.emulation, kernels, H100.target, H100.multiprocessors)


def _one(row: Row) -> dict[str, object]:
    """The large rows are there to be compared with what an H200 took."""
    return row_of(row, _launches[0], [H200] if row in LARGE else list(DEVICES.values()))


def line(row: dict, device: str, of_gpu: dict[str, float] | None = None) -> str:
    """A row for the eyes."""
    parts = []
    for name in PASSES:
        count, predicted = row[name], row["predicted"][device][name]
        text = (
            f"{name} {count['instructions']:.1f} instructions ({count['by pipe']['alu']:.1f} alu),"
            f" issue {predicted['issue']:.2f}, simulated {predicted['simulated']:.2f} of the floor:"
            f" {predicted['share']:.0%}"
        )
        if of_gpu is not None:
            text += f" (measured {of_gpu[name]:.0%})"
        parts.append(text)
    return f"{device}: {row['name']}: {'; '.join(parts)}"
