"""Whether the CPU kernels have become slower: ratios, not times, beside those of baseline.json.

    python -m benchmarks.regression           measures, and prints both
    python -m benchmarks.regression --write   makes what is measured the baseline

test_regression.py fails where a ratio has fallen by more than a third. The baseline has ratios for
each instruction set of the kernels: they depend on it more than on the machine.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from jml_kernels.backend.cpu import build_info
from jml_kernels.bench.cases import CE_JACCARD, DISTILLATION, BenchmarkCase
from jml_kernels.bench.competitors import CROSS_ENTROPY, EAGER
from jml_kernels.bench.session import run
from jml_kernels.bench.timing import STEP
from jml_kernels.bench.worker import Settings
from jml_kernels.machine import processor

from .suites import ADE20K, BINARY, CITYSCAPES, CPU

BASELINE = Path(__file__).parent / "baseline.json"
#: A ratio below this share of the baseline's has fallen.
KEPT = 2 / 3
CASES = (
    BenchmarkCase(CITYSCAPES),
    BenchmarkCase(CITYSCAPES, "boundary"),
    BenchmarkCase(CITYSCAPES, "soft"),
    BenchmarkCase(CITYSCAPES, layout="channels_last"),
    BenchmarkCase(CITYSCAPES, dtype="bfloat16"),
    BenchmarkCase(CITYSCAPES, "labels", CE_JACCARD),
    BenchmarkCase(CITYSCAPES, "labels", DISTILLATION),
    BenchmarkCase(ADE20K),
    BenchmarkCase(ADE20K, "soft"),
    BenchmarkCase(BINARY),
)
#: The higher the better: times of others over ours, and the floor over ours.
FLOOR = "floor"
#: Ratios by case and name.
Ratios = dict[str, dict[str, float]]


def measure(cases: tuple[BenchmarkCase, ...] = CASES, rounds: int = 9) -> Ratios:
    """With the warm allocator, whose times are steadier, and two threads."""
    settings = Settings(list(cases), [CPU, EAGER, CROSS_ENTROPY], "cpu", "warm", rounds, threads=2)
    return {row["name"]: ratios(row) for row in run(settings, ["warm"], []).rows}


def ratios(row: dict) -> dict[str, float]:
    """Of a row of the results."""
    if row["wrong"]:
        raise ArithmeticError(f"{row['name']}: {row['wrong']}")
    others = {
        name: of[STEP]["times"]["median"] for name, of in row["figures"].items() if name != CPU
    }
    return {FLOOR: 1 / row["over floor"]["median"], **others}


def fallen(measured: Ratios, baseline: Ratios) -> list[str]:
    """What has become slower by more than a third, in words, and what is gone."""
    lines = []
    for case, before in baseline.items():
        for name, ratio in before.items():
            now = measured.get(case, {}).get(name)
            if now is None:
                lines.append(f"{case}: {name} is no longer measured")
            elif now < KEPT * ratio:
                lines.append(f"{case}: {name} / fused fell from {ratio:.3g} to {now:.3g}")
    return lines


def instruction_set() -> str:
    return build_info()["instruction set"]


def stored() -> dict[str, dict]:
    """What baseline.json holds, by instruction set."""
    return json.loads(BASELINE.read_text()) if BASELINE.exists() else {}


def baseline() -> Ratios | None:
    """Of the instruction set that runs here; None where there is none yet."""
    return stored().get(instruction_set(), {}).get("ratios")


def write(measured: Ratios, machine: dict[str, str]) -> None:
    """
    Args:
        machine: whose ratios they are, see `machine.processor`.
    """
    short = {case: {k: float(f"{v:.3g}") for k, v in of.items()} for case, of in measured.items()}
    content = stored() | {instruction_set(): {"processor": machine, "ratios": short}}
    BASELINE.write_text(json.dumps(content, indent=1) + "\n")


def main() -> None:
    measured, before = measure(), baseline() or {}
    for case, of in measured.items():
        for name, ratio in of.items():
            told = before.get(case, {}).get(name)
            print(f"{case}: {name} / fused {ratio:.3g}, baseline {told}")
    if "--write" in sys.argv[1:]:
        write(measured, processor())
        print(f"written: {BASELINE.name}")


if __name__ == "__main__":
    main()
