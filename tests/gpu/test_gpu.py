"""What only a GPU shows of a step: it waits for nothing, can be captured, repeats itself, takes
little memory and few launches. The tests of every backend run there too."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from judges import assert_peak
from problems import KINDS, draw, problem, step
from torch.profiler import ProfilerActivity, profile

import jml_kernels as jml
from jml_kernels.selfcheck import memory_bound, repeatability, runner
from jml_kernels.selfcheck.corpus.losses import make
from jml_kernels.selfcheck.results import Subject

SHAPE = (2, 19, 128, 160)
LARGE = (2, 19, 512, 512)
kinds = pytest.mark.parametrize("kind", KINDS)


@pytest.mark.parametrize("check", ["host never waits", "CUDA graph", "side streams"])
def test_a_check_of_steps(check, backend):
    """As `jml-kernels check` does, on every kind."""
    subject = Subject(backend)
    trials = runner.CHECKS[check](subject)
    assert not isinstance(trials, str), trials
    row, failures = runner.try_all(subject, check, trials, runner.Silent())
    assert failures == []
    assert row.passed >= len(KINDS)


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("classes", [2, 19, 150, 1000])
def test_the_same_bits_twice(classes, layout, backend):
    case = problem("cross-entropy", (2, classes, 96, 128), layout=layout)
    tensors = draw(case)
    first = step(case, backend, tensors)
    for _ in range(5):  # in whatever order the groups of threads come to an end
        repeatability.require_same_bits(step(case, backend, tensors), first)


def test_a_bad_label_is_nan_and_stalls_nobody(backend):
    logits, labels, *_ = draw(problem("labels", SHAPE))
    labels[0, 3, 4] = 77
    assert jml.JaccardMetricLoss(backend=backend)(logits, labels).isnan()
    with pytest.raises(IndexError, match="label 77"):
        jml.JaccardMetricLoss(backend=backend, validate=True)(logits, labels)


# ---- memory --------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("shape", [LARGE, (1, 150, 256, 256), (1, 1000, 96, 96)])
def test_peak(shape, layout, backend):
    assert_peak(problem("labels", shape, layout=layout), backend, "cuda")


@kinds
def test_peak_of_every_kind(kind, backend):
    assert_peak(problem(kind, LARGE, torch.float16, "channels_last"), backend, "cuda")


@kinds
def test_peak_of_inplace_backward(kind, backend):
    """No tensor of the logits' size at all."""
    case = problem(kind, LARGE)
    if case.upsamples:
        pytest.skip("a gradient of lower resolution is not written over its logits")
    in_place = replace(case, options={**case.options, "inplace_backward": True})
    (measure,) = memory_bound.measure(in_place, Subject(backend))
    assert measure.holds, measure


# ---- launches ------------------------------------------------------------------------------------


def launches(call, folder) -> tuple[list[str], list[str]]:
    """Names of what a call starts on the GPU: (our kernels, those of PyTorch and all copies)."""
    activities = [ProfilerActivity.CPU, ProfilerActivity.CUDA]
    with profile(activities=activities) as profiler:
        call()
        torch.cuda.synchronize()
    file = folder / "trace.json"
    profiler.export_chrome_trace(str(file))
    # What kind an event is stands in the trace alone.
    events = json.loads(file.read_text())["traceEvents"]
    kernels = [e["name"] for e in events if e.get("cat") == "kernel"]
    copies = [e["name"] for e in events if e.get("cat") in ("gpu_memcpy", "gpu_memset")]
    of_torch = [name for name in kernels if "at::" in name]
    return [name for name in kernels if "at::" not in name], of_torch + copies


@kinds
def test_a_step_is_four_launches(kind, backend, tmp_path):
    case = problem(kind, SHAPE)
    logits, *others = draw(case).arguments
    logits.requires_grad_()
    loss = make(case, backend, "cuda")

    def run():
        logits.grad = None
        loss(logits, *others).backward()

    run()
    launches(run, tmp_path)  # the first trace is late to begin
    ours, rest = launches(run, tmp_path)
    if not ours and not rest:
        pytest.skip("PyTorch's profiler sees no kernels here")
    assert 2 <= len(ours) <= 4, f"{ours}, and of PyTorch {rest}"
    assert not [name for name in rest if "Memcpy" in name], rest
