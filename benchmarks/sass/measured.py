"""What benchmarks.gpu measured on a GPU, for the rows of the table."""

from __future__ import annotations

import json
from pathlib import Path

from jml_kernels.bench.timing import BACKWARD, FORWARD

RESULTS = Path(__file__).parents[1] / "results"


def shares(device: str, folder: Path = RESULTS) -> dict[str, dict[str, float]]:
    """By name of the case: how much of the speed of a copy the CUDA kernels reached in each pass,
    in the newest run on that device; empty where there is none."""
    runs = (json.loads(path.read_text()) for path in folder.glob("gpu-*.json"))
    of_device = [run for run in runs if run["machine"]["device"] == device]
    if not of_device:
        return {}
    newest = max(of_device, key=lambda run: run["settings"]["started"])
    return {
        row["name"]: {name: row["figures"]["cuda"][name]["share"] for name in (FORWARD, BACKWARD)}
        for row in newest["cases"]
        if "cuda" in row["figures"]
    }
