"""The collectives of a step beside the loss's own kernels, and beside a step of training."""

from __future__ import annotations

import json
from typing import Any

from benchmarks.gpu.cases import CUDA
from benchmarks.sass import document
from benchmarks.sass.devices import H100, H200, Device
from benchmarks.sass.measured import RESULTS
from jml_kernels.bench.cases import BenchmarkCase
from jml_kernels.bench.timing import BACKWARD, FORWARD, STEP

from .latency import RANKS, step_time
from .published import STEPS

#: Shapes whose loss is measured on an H200, and those that its model predicts.
MEASURED = ((53, 19, 512, 512), (6, 150, 512, 512))
PREDICTED = ((4, 19, 512, 512), (1, 150, 512, 512))


def measured_time(shape: tuple[int, ...]) -> float:
    """Seconds of forward and backward with hard labels in float32, as benchmarks.gpu found them."""
    cases = json.loads((RESULTS / "gpu-nvidia-h200.json").read_text())["cases"]
    name = BenchmarkCase(shape).name
    (row,) = (row for row in cases if row["name"] == name)
    return row["figures"][CUDA][STEP]["seconds"]["median"]


def predicted_time(shape: tuple[int, ...], device: Device) -> float:
    """The same, as benchmarks.sass predicts it: bytes by the share of the speed of a copy."""
    case = BenchmarkCase(shape)
    shares = document.predicted(device.name)[case.name]
    traffic = {FORWARD: case.forward_traffic, BACKWARD: case.backward_traffic}
    floor = {part: size / device.copy_bytes_per_second for part, size in traffic.items()}
    return sum(floor[part] / shares[part] for part in traffic)


def loss_times() -> list[dict[str, Any]]:
    rows = [
        {"device": H200.name, "how": "measured", "shape": shape, "seconds": measured_time(shape)}
        for shape in MEASURED
    ]
    rows += [
        {
            "device": device.name,
            "how": "predicted",
            "shape": shape,
            "seconds": predicted_time(shape, device),
        }
        for shape in PREDICTED
        for device in (H100, H200)
    ]
    return rows


def every_row(handed: dict[int, list[int]]) -> dict[str, Any]:
    """
    Args:
        handed: bytes of each all-reduce of a step, by the number of classes.
    """
    of_losses = []
    for row in loss_times():
        times = {ranks: step_time(handed[row["shape"][1]], ranks) for ranks in RANKS}
        own = row["seconds"] * 1e6
        of_losses.append(row | {"beside": {str(r): time / own for r, time in times.items()}})
    of_steps = []
    for step in STEPS:
        times = {ranks: step_time(handed[19], ranks) for ranks in RANKS}
        whole = step.seconds * 1e6
        of_steps.append(
            {
                "what": step.what,
                "seconds": step.seconds,
                "share": {str(r): time / (time + whole) for r, time in times.items()},
            }
        )
    return {"losses": of_losses, "steps": of_steps}
