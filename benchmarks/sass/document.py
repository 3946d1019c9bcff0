"""results/sass.json, read: what the model predicts. Needs nothing else of the model."""

from __future__ import annotations

import json
from pathlib import Path

FILE = Path(__file__).parents[1] / "results" / "sass.json"


def read() -> dict:
    return json.loads(FILE.read_text())


def predicted(device: str) -> dict[str, dict[str, float]]:
    """By name of the case: the share of the speed of a copy that forward and backward of the CUDA
    kernels are predicted to reach; empty for a device that is not modelled."""
    return {
        row["name"]: {name: of["share"] for name, of in row["predicted"][device].items()}
        for row in read()["rows"]
        if device in row["predicted"]
    }
