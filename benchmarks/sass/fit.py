"""Fits what no data sheet says: the clock of the multiprocessors under load, and the latency of
memory. Each pair of a grid predicts the rows that were measured on the GPU; the one whose ratios of
predicted to measured shares are nearest to 1, in the mean of squared logarithms, is devices.py's.

    python -m benchmarks.sass --fit "NVIDIA H200"
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import replace

from jml_kernels.bench.timing import BACKWARD, FORWARD

from . import measured
from .devices import DEVICES
from .launches import Launches
from .predictions import predictions
from .rows import ROWS
from .steps import record

GIGAHERTZ = (1.60, 1.70, 1.83, 1.98)
LATENCIES = (600, 750)


def fit(name: str, launches: Launches, say: Callable[[str], None]) -> None:
    """Says the error of each pair, the best first."""
    device, of_gpu = DEVICES[name], measured.shares(name)
    variants = [
        replace(device, gigahertz=gigahertz, memory_latency=latency)
        for gigahertz, latency in itertools.product(GIGAHERTZ, LATENCIES)
    ]
    squares = dict.fromkeys(variants, 0.0)
    rows = [row for row in ROWS if row.name in of_gpu]
    for row in rows:
        step = record(row, launches)
        for variant, pass_ in itertools.product(variants, (FORWARD, BACKWARD)):
            share = predictions(step, pass_, row, variant)["share"]
            squares[variant] += math.log(share / of_gpu[row.name][pass_]) ** 2
    for variant in sorted(variants, key=squares.get):
        error = math.sqrt(squares[variant] / (2 * len(rows)))
        say(f"{variant.gigahertz} GHz, {variant.memory_latency} cycles: {error:.3f}")
