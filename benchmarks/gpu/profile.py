"""What Nsight Compute says of a few kernels: where there is time to be had."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from .cases import ENTRIES
from .processes import end

ROOT = Path(__file__).parents[2]
#: Name of the tool -> ours.
METRICS = {
    "gpu__time_duration.sum": "duration, ns",
    "dram__throughput.avg.pct_of_peak_sustained_elapsed": "memory throughput, %",
    "sm__warps_active.avg.pct_of_peak_sustained_active": "achieved occupancy, %",
    "launch__registers_per_thread": "registers",
    "sm__inst_issued.avg.pct_of_peak_sustained_active": "issue slots, %",
}
_COLUMNS = {"Kernel Name": "kernel", "Block Size": "block", "Grid Size": "grid", **METRICS}
_TOLD = 15


def chosen() -> list[int]:
    """Of `cases.ENTRIES`: few and many classes, both layouts, every sort of target, and logits of
    lower resolution."""
    wanted = [
        ("labels", 19, "float32", "contiguous", 1),
        ("labels", 19, "float32", "contiguous", 4),
        ("labels", 150, "float32", "contiguous", 1),
        ("labels", 19, "float16", "channels_last", 1),
        ("boundary smoothing", 19, "float32", "contiguous", 1),
        ("soft target", 150, "float32", "contiguous", 1),
        ("distillation, labels", 19, "float32", "contiguous", 1),
    ]

    def key(case) -> tuple:
        return (case.kind, case.shape[1], case.dtype, case.layout, case.upsample)

    # Those of the usual size come before small ones.
    keys = [key(entry.case) for entry in ENTRIES]
    return [keys.index(one) for one in wanted]


def ncu() -> str | None:
    toolkit = Path(os.environ.get("CUDA_HOME", "/usr/local/cuda")) / "bin" / "ncu"
    return shutil.which("ncu") or shutil.which(toolkit)


def run(backend: str, index: int, seconds: float) -> dict[str, object]:
    """Profile a step.

    Returns:
        "kernels" in their order, each by the names above, and "csv", what they come from; or
        "failed", why there are none.
    """
    if ncu() is None:
        return {"failed": "there is no ncu"}
    with tempfile.TemporaryDirectory() as folder:
        log, output = Path(folder, "log"), Path(folder, "output")
        with output.open("w") as file:
            process = subprocess.Popen(
                command(backend, index, log),
                cwd=ROOT,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                process.wait(timeout=seconds)
            except subprocess.TimeoutExpired:
                return {"failed": f"not done in {seconds:.0f} s"}
            finally:
                end(process)
        text = log.read_text(errors="replace") if log.exists() else ""
        kernels = parse(text)
        if kernels:
            return {"kernels": kernels, "csv": table_of(text)}
        lines = [*text.splitlines(), *output.read_text(errors="replace").splitlines()]
        return {"failed": f"exit status {process.returncode}", "end": lines[-_TOLD:]}


def command(backend: str, index: int, log: Path) -> list[str]:
    options = {
        "--clock-control": "none",  # the clocks are not ours to set
        "--profile-from-start": "off",
        "--metrics": ",".join(METRICS),
        "--page": "raw",
        "--print-units": "base",
        "--log-file": str(log),
    }
    step = [sys.executable, "-m", f"{__package__}.step", backend, str(index)]
    return [ncu(), "--csv", *(word for option in options.items() for word in option), *step]


def table_of(text: str) -> list[str]:
    """The lines of the table; those of the tool itself begin with ==."""
    return [line for line in text.splitlines() if line.startswith('"')]


def parse(text: str) -> list[dict[str, object]]:
    """The kernels of a table, whose second line are units."""
    return [
        {ours: number(row[name]) for name, ours in _COLUMNS.items() if name in row}
        for row in csv.DictReader(table_of(text))
        if row.get("ID")
    ]


def number(text: str) -> float | str:
    try:
        return float(text.replace(",", ""))
    except ValueError:
        return text
