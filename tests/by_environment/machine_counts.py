"""What is counted of the machine code is what benchmarks/results/sass.json says: of a few rows,
which take one kernel each of hard labels, of a dense target, of many classes and of logits of lower
resolution."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from cuda_build import OBJECTS, ROOT, build_cuda

from jml_kernels.backend.cuda import EMULATION

# Last: an installed package must not be hidden by its sources.
sys.path.append(str(ROOT))

from benchmarks.sass import document, table
from benchmarks.sass.build import Built
from benchmarks.sass.counts import counts
from benchmarks.sass.devices import H100
from benchmarks.sass.launches import Launches
from benchmarks.sass.rows import ROWS
from benchmarks.sass.steps import record

NAMES = (
    "4x19x512x512 float32, labels",
    "4x19x512x512 float16, soft target",
    "1x150x512x512 float32 channels_last, labels",
    "32x19x128x128 to 512x512 float32, labels",
)
#: Where lanes meet in a bank follows from the labels, which are drawn in floating numbers.
TOLERANCE = 2e-3


@pytest.fixture(scope="module")
def committed() -> dict[str, dict]:
    found = document.read()
    here = table.compiler(build_cuda.nvcc())
    if found["nvcc"] != here:
        pytest.skip(f"the committed counts are of {found['nvcc']!r}, and this is {here!r}")
    return {row["name"]: row for row in found["rows"]}


@pytest.fixture(scope="module")
def launches() -> Launches:
    return table.launches_of(Built(OBJECTS, Path(EMULATION), build_cuda.nvcc()))


@pytest.mark.parametrize("name", NAMES)
def test_counts(committed, launches, name):
    row = next(row for row in ROWS if row.name == name)
    step = record(row, launches)
    for pass_ in table.PASSES:
        found = _flat(table.rounded(counts(step, pass_, row, H100)))
        expected = _flat(committed[name][pass_])
        assert found == pytest.approx(expected, rel=TOLERANCE), (
            f"{name}, {pass_}: these are not the counts of benchmarks/results/sass.json. If the "
            "kernels have changed, write it anew: python -m benchmarks.sass"
        )


def _flat(counted: dict, prefix: str = "") -> dict[str, object]:
    """Names with dots, and no dicts within."""
    found = {}
    for name, value in counted.items():
        if isinstance(value, dict):
            found |= _flat(value, f"{prefix}{name}.")
        elif not isinstance(value, str):
            found[f"{prefix}{name}"] = value
    return found
