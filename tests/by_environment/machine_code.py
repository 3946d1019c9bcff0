"""The machine code of the CUDA kernels, as it was compiled for sm_90, interpreted: losses and
gradients of small problems (benchmarks/sass).

Every block of every launch runs. The cases take each sort of kernel through each way of reading, in
every dtype that it has.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from cuda_build import OBJECTS, ROOT

import jml_kernels as jml
from jml_kernels import accuracy
from jml_kernels.backend.cuda import EMULATION

# Last: an installed package must not be hidden by its sources.
sys.path.append(str(ROOT))

from benchmarks.sass.interpreter.block import Block, Launch
from benchmarks.sass.interpreter.memory import ProcessMemory
from benchmarks.sass.kernels import Kernels
from benchmarks.sass.launches import Launches

pytestmark = pytest.mark.usefixtures("one_thread")

_TARGET = "sm_90"
_LAST = torch.channels_last


@pytest.fixture(scope="module")
def machine_code():
    """The operators run machine code, on a GPU of 3 multiprocessors."""
    launches = Launches(Path(EMULATION), Kernels(OBJECTS, _TARGET), _TARGET, multiprocessors=3)
    memory, run = ProcessMemory(), []

    def on_launch(launch: Launch) -> None:
        for index in range(launch.blocks):
            Block(launches.kernel(launch), launch, index, memory).run()
        run.append(launch)

    launches.on_launch = on_launch
    return launches, run


def _logits(shape, dtype=torch.float32, layout=torch.contiguous_format, seed=0):
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(shape, generator=generator).mul_(2).to(dtype)
    return values.contiguous(memory_format=layout)


def _labels(shape):
    generator = torch.Generator().manual_seed(1)
    small = torch.randint(shape[1], (shape[0], 2, 3), generator=generator)
    large = small.repeat_interleave(-(-shape[2] // 2), 1).repeat_interleave(-(-shape[3] // 3), 2)
    labels = large[:, : shape[2], : shape[3]].contiguous()
    labels[0, 0, :2] = -100  # ignored
    return labels


_SMOOTHED = {"label_smoothing": 0.1}
_BOUNDARY = {"label_smoothing": 0.1, "boundary_size": 3}


@pytest.mark.parametrize(
    ("shape", "dtype", "layout", "options"),
    [
        ((2, 19, 8, 40), torch.float32, torch.contiguous_format, {}),
        ((1, 19, 7, 13), torch.float16, _LAST, {}),
        ((2, 2, 8, 40), torch.bfloat16, torch.contiguous_format, {}),
        ((1, 70, 5, 9), torch.float32, _LAST, {}),
        ((1, 21, 8, 32), torch.float16, torch.contiguous_format, _SMOOTHED),
        ((2, 6, 9, 13), torch.float32, torch.contiguous_format, _BOUNDARY),
    ],
    ids=str,
)
def test_labels(machine_code, shape, dtype, layout, options):
    _check(machine_code, options, _logits(shape, dtype, layout), _labels(shape))


@pytest.mark.parametrize(
    ("shape", "dtype", "layout"),
    [
        ((1, 19, 8, 32), torch.float32, torch.contiguous_format),
        ((1, 7, 7, 13), torch.float16, _LAST),
        ((1, 61, 4, 16), torch.float32, torch.contiguous_format),
    ],
    ids=str,
)
def test_soft_targets(machine_code, shape, dtype, layout):
    target = torch.softmax(_logits(shape, seed=1), dim=1).to(dtype).contiguous(memory_format=layout)
    _check(machine_code, {}, _logits(shape, dtype, layout), target)


@pytest.mark.parametrize("scale", [1, 100], ids=["in runs", "row by row"])
@pytest.mark.parametrize(
    ("shape", "size", "dtype", "layout"),
    [
        ((2, 19, 3, 10), (12, 40), torch.float32, torch.contiguous_format),
        ((1, 3, 3, 6), (7, 50), torch.bfloat16, torch.contiguous_format),
        ((1, 41, 2, 5), (10, 20), torch.float16, _LAST),
    ],
    ids=str,
)
def test_lower_resolution(machine_code, shape, size, dtype, layout, scale):
    logits = (_logits(shape, dtype, layout) * scale).contiguous(memory_format=layout)
    labels = _labels((*shape[:2], *size))
    options = {"upsample": "bilinear"}
    _check(machine_code, options, logits, labels, loss=jml.JaccardCrossEntropyLoss)


def test_distillation(machine_code):
    shape = (1, 19, 8, 16)
    inputs = _logits(shape), _labels(shape), _logits(shape, seed=2)
    _check(machine_code, {"temperature": 2.0}, *inputs, loss=jml.JaccardDistillationLoss)


def _check(machine_code, options, logits, *targets, loss=jml.JaccardMetricLoss):
    launches, run = machine_code
    run.clear()

    def on_machine_code(*inputs):
        value = loss(backend="cuda", **options)(*inputs)
        launches.raise_error()
        return value

    found = accuracy.answer(on_machine_code, logits.detach().requires_grad_(), *targets)
    launches.raise_error()
    names = [launch.kernel for launch in run]
    assert len(names) == 4
    for name, part in zip(names, ("forward", "finish", "formula", "backward"), strict=True):
        assert f"{part}_kernel" in name
    oracle = loss(backend="reference", **options)
    exact = accuracy.in_dtype(torch.float64, logits, *targets)
    expected = accuracy.answer(oracle, exact[0].requires_grad_(), *exact[1:])
    accuracy.check("machine code", accuracy.errors(found, expected), accuracy.allowed(logits.dtype))


def test_an_occupancy_that_fails_is_asked_for_again(machine_code, monkeypatch):
    """launch.cuh remembers answers, but not an error."""
    launches, run = machine_code
    logits, labels = _logits((1, 30, 3, 7)), _labels((1, 30, 3, 7))
    loss = jml.JaccardMetricLoss(backend="cuda")
    with monkeypatch.context() as patch:
        patch.setattr(launches, "resident_blocks", lambda launch: 0)
        for _ in range(2):
            run.clear()
            with pytest.raises(RuntimeError, match="no block of a kernel fits this device"):
                loss(logits, labels)
            assert not run
    _check(machine_code, {}, logits, labels)
