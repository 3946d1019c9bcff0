"""Tests and benchmark on a GPU: `make gpu`, or `python -m benchmarks.gpu [--quick]`.

Needs the package, installed as `make gpu` does it, and pytest and hypothesis. Writes one JSON into
$OUT (benchmarks/results/ by default): the machine, the tests' outcome, and for each case the share
of measured copy bandwidth that forward and backward reach, and naive JML's times.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import torch
import triton
from triton.testing import do_bench

import jml_kernels as jml
from jml_kernels.naive import naive_jaccard_metric_loss

ROOT = Path(__file__).parents[1]
CLASSES = (2, 4, 8, 16, 19, 21, 32, 64, 128, 150, 171, 256)
DTYPES = (torch.float16, torch.bfloat16, torch.float32)
LAYOUTS = ("contiguous", "channels_last")
TESTS = (
    "test_statistics.py",
    "test_gradients.py",
    "test_formulas.py",
    "test_objectives.py",
    "test_ops.py",
    "triton/test_gpu.py",
)
#: Elements of the logits: far more than any cache holds.
ELEMENTS = 2**28


def machine() -> dict[str, object]:
    properties = torch.cuda.get_device_properties(0)
    smi = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        driver = subprocess.run(smi, capture_output=True, text=True, check=True).stdout.split()[0]
    except (OSError, subprocess.CalledProcessError):
        driver = "unknown"
    return {
        "device": properties.name,
        "multiprocessors": properties.multi_processor_count,
        "memory": properties.total_memory,
        "driver": driver,
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "hip": torch.version.hip,
        "triton": triton.__version__,
        "python": sys.version.split()[0],
        "jml_kernels": jml.__version__,
    }


def run_tests() -> dict[str, object]:
    command = [sys.executable, "-m", "pytest", "-k", "triton or gpu"]
    done = subprocess.run(
        [*command, *(str(ROOT / "tests" / name) for name in TESTS)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return {"exit": done.returncode, "end": done.stdout.strip().splitlines()[-40:]}


def seconds(step) -> float:
    """Median, with caches emptied before each turn."""
    return do_bench(step, warmup=25, rep=100, return_mode="median") / 1000


def inputs(classes: int, dtype: torch.dtype, layout: str) -> tuple[torch.Tensor, torch.Tensor]:
    side = 512
    images = max(ELEMENTS // (classes * side * side), 1)
    memory = torch.channels_last if layout == "channels_last" else torch.contiguous_format
    logits = torch.randn(images, classes, side, side, device="cuda").to(dtype)
    labels = torch.randint(0, classes, (images, side, side), device="cuda")
    return logits.contiguous(memory_format=memory).requires_grad_(), labels


def times(loss, logits: torch.Tensor, labels: torch.Tensor) -> dict[str, float] | str:
    """Seconds of forward and backward, or why there are none."""
    try:
        value = loss(logits, labels)
        return {
            "forward": seconds(lambda: loss(logits.detach(), labels)),
            "backward": seconds(lambda: torch.autograd.grad(value, logits, retain_graph=True)),
        }
    except torch.OutOfMemoryError:
        torch.cuda.empty_cache()
        return "out of memory"


def copy_bandwidth(source: torch.Tensor) -> float:
    """Bytes read and written in a second, by copying a tensor into one that exists."""
    copy = torch.empty_like(source)
    return 2 * source.numel() * source.element_size() / seconds(lambda: copy.copy_(source))


def measure(classes: int, dtype: torch.dtype, layout: str, with_naive: bool) -> dict[str, object]:
    logits, labels = inputs(classes, dtype, layout)
    size = logits.numel() * logits.element_size()
    bandwidth = copy_bandwidth(logits.detach())
    fused = times(jml.JaccardMetricLoss(backend="triton"), logits, labels)
    label_bytes = labels.numel() * labels.element_size()
    floors = {
        "forward": (size + label_bytes) / bandwidth,
        "backward": (2 * size + label_bytes) / bandwidth,
    }
    result = {
        "classes": classes,
        "dtype": str(dtype).removeprefix("torch."),
        "layout": layout,
        "shape": list(logits.shape),
        "copy bytes per second": bandwidth,
        "fused": fused,
        "share of copy bandwidth": {name: floors[name] / fused[name] for name in floors},
    }
    if with_naive:
        naive = naive_jaccard_metric_loss
        result["naive eager"] = times(naive, logits, labels)
        result["naive compiled"] = times(torch.compile(naive), logits, labels)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a few cases, and no tests")
    quick = parser.parse_args().quick
    if not torch.cuda.is_available():
        sys.exit("there is no GPU")
    classes = (2, 19, 150) if quick else CLASSES
    results = {"machine": machine(), "tests": None if quick else run_tests(), "cases": []}
    for case in itertools.product(classes, DTYPES, LAYOUTS):
        found = measure(*case, with_naive=not quick and case[0] in (2, 19, 150))
        results["cases"].append(found)
        share = found["share of copy bandwidth"]
        print(
            *case, f"forward {share['forward']:.2f}, backward {share['backward']:.2f}", flush=True
        )
    folder = Path(os.environ.get("OUT", ROOT / "benchmarks" / "results"))
    folder.mkdir(parents=True, exist_ok=True)
    name = results["machine"]["device"].lower().replace(" ", "-")
    (folder / f"gpu-{name}.json").write_text(json.dumps(results, indent=1) + "\n")
    if results["tests"] and results["tests"]["exit"]:
        sys.exit("\n".join(results["tests"]["end"]))


if __name__ == "__main__":
    main()
