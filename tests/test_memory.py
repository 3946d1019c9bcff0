"""Memory: forward and backward hold 1 MiB and O(N C) numbers besides inputs and gradient.

Twice: by PyTorch's allocator, which counts tensors to the byte, and by the resident set of a
process, which also sees what kernels allocate for themselves.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from judges import assert_peak
from needs import cpu_kernels

import jml_kernels as jml
from jml_kernels.memory import MEBIBYTE, peak_memory
from jml_kernels.selfcheck import memory_bound
from jml_kernels.selfcheck.corpus.case import LS, SIGMOID, WEIGHTS, LossCase
from jml_kernels.selfcheck.corpus.drawing import arguments
from jml_kernels.selfcheck.corpus.dtypes import FLOAT_DTYPES
from jml_kernels.selfcheck.corpus.losses import make
from jml_kernels.selfcheck.results import Subject

SHAPES = [(2, 19, 192, 256), (1, 150, 96, 128), (4, 5, 16, 32, 64), (64, 1000)]
BOUNDARY = {"drawn": "blocks", "options": {**LS, "boundary_size": 5}}

#: What there is of inputs, and the losses on them.
OVERLAPS = {
    "labels": {},
    "boundary": BOUNDARY,
    "mask": {"masked": 0.1},
    "soft": {"target": "soft"},
    "soft, half": {"target": "soft", "target_dtype": torch.float16},
    "all columns": {"options": {"aggregation": "image", "active_classes": "both"}},
    "sigmoid": {"options": SIGMOID},
    "bits": {"target": "bits", "target_dtype": torch.uint8, "options": SIGMOID},
}
OBJECTIVES = {
    "cross-entropy": {"loss": "cross-entropy", "weights": WEIGHTS},
    "cross-entropy, boundary": {
        "loss": "cross-entropy",
        "drawn": "blocks",
        "options": {**BOUNDARY["options"], "norm": 2},
    },
    "cross-entropy, soft": {"loss": "cross-entropy", "target": "soft", "weights": WEIGHTS},
    "cross-entropy, bits": {
        "loss": "cross-entropy",
        "target": "bits",
        "target_dtype": torch.uint8,
        "options": SIGMOID,
    },
    "teacher": {
        "loss": "distillation",
        "options": {"temperature": 2.0, "distillation": "kl"},
    },
    "teacher, boundary": {
        "loss": "distillation",
        "drawn": "blocks",
        "weights": WEIGHTS,
        "options": {**BOUNDARY["options"], "student_temperature": 2.0},
    },
    "teacher, half": {
        "loss": "distillation",
        "teacher_dtype": torch.float16,
        "options": {"active_classes": "both"},
    },
    "teacher, sigmoid": {"loss": "distillation", "options": SIGMOID},
    "teacher alone": {
        "loss": "distillation",
        "target": "none",
        "options": {"aggregation": "image"},
    },
}
KINDS = OVERLAPS | OBJECTIVES


def case_of(kind: str, shape, dtype=torch.float32, layout="contiguous", **more) -> LossCase:
    """A case whose tensors have one dtype and one layout, unless the kind has others."""
    soft = KINDS[kind].get("target") == "soft"
    given = {"target_dtype": dtype if soft else torch.int32, **KINDS[kind], **more}
    layouts = dict.fromkeys(("layout", "target_layout", "teacher_layout"), layout)
    return LossCase(kind, "", shape, dtype, **layouts, **given)


@cpu_kernels
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("kind", OVERLAPS)
def test_peak(shape, kind):
    assert_peak(case_of(kind, shape), "cpu")


@cpu_kernels
@pytest.mark.parametrize("shape", SHAPES[::3], ids=str)
@pytest.mark.parametrize("kind", OBJECTIVES)
def test_peak_of_objectives(shape, kind):
    assert_peak(case_of(kind, shape), "cpu")


@cpu_kernels
@pytest.mark.parametrize("layout", ["channels_last", "cropped", "stepped", "transposed"])
@pytest.mark.parametrize("dtype", FLOAT_DTYPES)
@pytest.mark.parametrize(
    "kind", ["labels", "soft", "cross-entropy, soft", "teacher", "teacher, half"]
)
def test_peak_of_layouts_and_dtypes(layout, dtype, kind):
    """Nothing is copied to be contiguous or to be float32."""
    more = {"loss": "soft Jaccard L2"} if kind in OVERLAPS else {}
    assert_peak(case_of(kind, (2, 19, 96, 128), dtype, layout, **more), "cpu")


@cpu_kernels
@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "cropped"])
@pytest.mark.parametrize(
    "kind",
    ["labels", "boundary", "soft", "cross-entropy", "cross-entropy, soft", "teacher, boundary"],
)
def test_peak_of_inplace_backward(kind, layout):
    """No tensor of the logits' size at all."""
    case = case_of(kind, (2, 19, 192, 256), layout=layout)
    in_place = replace(case, options={**case.options, "inplace_backward": True})
    (measure,) = memory_bound.measure(in_place, Subject("cpu"))
    assert measure.holds, measure


def test_the_measure_sees_tensors_that_come_and_go():
    """The reference makes many; one of 4 MiB is 4 MiB, and its double in passing 8."""
    tensor = torch.zeros(MEBIBYTE)
    scalars = 1024
    assert 0 <= peak_memory(lambda: tensor + 1) - 4 * MEBIBYTE < scalars
    assert (
        0 <= peak_memory(lambda: (tensor + 1).sum() + (tensor + 2).sum()) - 4 * MEBIBYTE < scalars
    )
    assert 0 <= peak_memory(lambda: tensor.double() + 1) - 16 * MEBIBYTE < scalars
    case = case_of("labels", SHAPES[0])
    logits, *others = arguments(case, seed=0)
    reference = make(case, "reference")
    assert peak_memory(lambda: reference(logits, *others)) > 3 * 4 * logits.numel()


RESIDENT = """
import sys
from pathlib import Path
import torch
import jml_kernels as jml
from jml_kernels.accuracy import made_by_an_operation

def resident(name):  # KiB: VmRSS now, VmHWM the most since clear_refs
    (line,) = [l for l in Path("/proc/self/status").read_text().splitlines() if name in l]
    return int(line.split()[1])

torch.set_num_threads(2)
backend, kind = sys.argv[1:]
make = {
    "cross-entropy": jml.JaccardCrossEntropyLoss,
    "teacher": jml.JaccardDistillationLoss,
    "teacher in place": jml.JaccardDistillationLoss,
}.get(kind, jml.JaccardMetricLoss)
loss = make(
    backend=backend,
    inplace_backward="in place" in kind,
    label_smoothing=0.0 if kind == "soft" else 0.1,
    boundary_size=None if kind == "soft" else 3,
)

def inputs(size):
    logits = torch.randn(2, 24, size, size)
    if kind == "channels_last":
        logits = logits.contiguous(memory_format=torch.channels_last)
    target = torch.randint(0, 24, (2, size, size))
    if kind.startswith("teacher"):
        return logits, target, torch.randn_like(logits).half()
    return logits, torch.softmax(logits, dim=1) if kind == "soft" else target

def step(logits, *others):
    logits = made_by_an_operation(logits)
    return torch.autograd.grad(loss(logits, *others), logits)

step(*inputs(64))
arguments = inputs(640)  # 75 MiB of logits
before = resident("VmRSS")
Path("/proc/self/clear_refs").write_text("5")
gradient = step(*arguments)
print(1024 * (resident("VmHWM") - before), gradient[0].numel() * 4)
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux counts this")
@pytest.mark.parametrize(
    "kind",
    [
        "labels",
        "soft",
        "channels_last",
        "in place",
        "cross-entropy",
        "teacher",
        "teacher in place",
        "reference",
    ],
)
def test_resident_set(kind, tmp_path):
    if kind != "reference" and jml.backends()["cpu"] is not None:
        pytest.skip(f"backend cpu: {jml.backends()['cpu']}")
    arguments = ("reference", "labels") if kind == "reference" else ("cpu", kind)
    result = subprocess.run(
        [sys.executable, "-c", RESIDENT, *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert result.returncode == 0, result.stderr
    grown, gradient = map(int, result.stdout.split())
    if kind == "reference":
        assert grown > 3 * gradient, "this measure cannot fail"
    else:
        # Beside the 1 MiB: buffers of threads, pages of code, the allocator's own slack.
        assert grown <= (0 if "in place" in kind else gradient) + 4 * MEBIBYTE
