"""Memory: forward and backward hold 1 MiB and O(N C) numbers besides inputs and gradient.

Twice: by PyTorch's allocator, which counts tensors to the byte, and by the resident set of a
process, which also sees what kernels allocate for themselves.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from cases import LAYOUTS

import jml_kernels as jml
from jml_kernels.memory import MEBIBYTE, allowed_beside, peak_memory

SHAPES = [(2, 19, 192, 256), (1, 150, 96, 128), (4, 5, 16, 32, 64), (64, 1000)]
OPTIONS = {
    "labels": {},
    "boundary": {"label_smoothing": 0.1, "boundary_size": 5},
    "mask": {},
    "soft": {},
    "soft other dtype": {},
    "all columns": {"aggregation": "image", "active_classes": "both"},
    "sigmoid": {"activation": "sigmoid"},
    "bits": {"activation": "sigmoid"},
}


_WEIGHTS = {"ce_class_weights": torch.ones, "class_weights": torch.ones}
#: Objectives: which one, and its options; a function of the number of classes makes a tensor.
OBJECTIVES = {
    "cross-entropy": (jml.JaccardCrossEntropyLoss, _WEIGHTS),
    "cross-entropy, boundary": (
        jml.JaccardCrossEntropyLoss,
        {"label_smoothing": 0.1, "boundary_size": 5, "norm": 2},
    ),
    "cross-entropy, soft": (jml.JaccardCrossEntropyLoss, _WEIGHTS),
    "cross-entropy, bits": (jml.JaccardCrossEntropyLoss, {"activation": "sigmoid"}),
    "teacher": (jml.JaccardDistillationLoss, {"temperature": 2.0, "distillation": "kl"}),
    "teacher, boundary": (
        jml.JaccardDistillationLoss,
        {"label_smoothing": 0.1, "boundary_size": 5, "student_temperature": 2.0, **_WEIGHTS},
    ),
    "teacher, half": (jml.JaccardDistillationLoss, {"active_classes": "both"}),
    "teacher, sigmoid": (jml.JaccardDistillationLoss, {"activation": "sigmoid"}),
    "teacher alone": (jml.JaccardDistillationLoss, {"aggregation": "image"}),
}


def objective(kind: str, n_classes: int, **more):
    make, options = OBJECTIVES[kind]
    options = {k: v(n_classes) if callable(v) else v for k, v in options.items()}
    return make(backend="cpu", **options, **more)


def objective_inputs(shape, kind, layout, dtype):
    """What an objective is called with."""
    logits, target, mask = inputs(shape, kind.rpartition(" ")[2], layout, dtype)
    if not kind.startswith("teacher"):
        return logits, target, mask
    teacher = inputs(shape, "labels", layout, torch.float16 if "half" in kind else dtype)[0]
    return logits, None if kind == "teacher alone" else target, teacher, mask


def inputs(shape, kind, layout, dtype):
    logits = LAYOUTS[layout](torch.randn(shape).to(dtype))
    n, c, *spatial = shape
    labels = torch.randint(0, c, (n, *spatial), dtype=torch.int32)
    mask = torch.rand(n, *spatial) < 0.9 if kind == "mask" else None
    if kind.startswith("soft"):
        target = torch.rand(shape).to(torch.float16 if kind == "soft other dtype" else dtype)
    elif kind == "bits":
        target = torch.randint(0, 2, shape, dtype=torch.uint8)
    else:
        target = labels
    return logits, target, mask


cpu_only = pytest.mark.skipif(
    jml.backends()["cpu"] is not None, reason=f"backend cpu: {jml.backends()['cpu']}"
)


@cpu_only
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("kind", OPTIONS)
def test_peak(shape, kind):
    logits, target, mask = inputs(shape, kind, "contiguous", torch.float32)
    loss = jml.JaccardMetricLoss(backend="cpu", **OPTIONS[kind])
    assert_peak(loss, logits, target, mask)


@cpu_only
@pytest.mark.parametrize("layout", ["channels_last", "cropped", "stepped", "transposed"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("kind", ["labels", "soft"])
def test_peak_of_layouts_and_dtypes(layout, dtype, kind):
    """Nothing is copied to be contiguous or to be float32."""
    logits, target, mask = inputs((2, 19, 96, 128), kind, layout, dtype)
    assert_peak(jml.SoftJaccardLoss(norm=2, backend="cpu"), logits, target, mask)


@cpu_only
@pytest.mark.parametrize("shape", SHAPES[::3], ids=str)
@pytest.mark.parametrize("kind", OBJECTIVES)
def test_peak_of_objectives(shape, kind):
    arguments = objective_inputs(shape, kind, "contiguous", torch.float32)
    assert_peak(objective(kind, shape[1]), *arguments)


@cpu_only
@pytest.mark.parametrize("layout", ["channels_last", "cropped", "stepped", "transposed"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("kind", ["cross-entropy, soft", "teacher", "teacher, half"])
def test_peak_of_objectives_in_layouts_and_dtypes(layout, dtype, kind):
    shape = (2, 19, 96, 128)
    assert_peak(objective(kind, 19), *objective_inputs(shape, kind, layout, dtype))


def assert_peak(loss, logits, *others):
    logits.requires_grad_()
    gradient = logits.numel() * logits.element_size()
    assert gradient > MEBIBYTE / 2 or logits.dim() == 2, "too small to tell"
    loss(logits, *others).backward()  # what is allocated once does not count
    logits.grad = None

    kept = []
    forward = peak_memory(lambda: kept.append(loss(logits, *others)))
    assert forward <= allowed_beside(logits.shape)
    backward = peak_memory(kept[0].backward)
    assert logits.grad is not None
    assert backward <= gradient + allowed_beside(logits.shape)
    # Both at once: what the forward keeps for the backward counts with the gradient.
    logits.grad = None
    both = peak_memory(lambda: loss(logits, *others).backward())
    assert gradient <= both <= gradient + allowed_beside(logits.shape)


@cpu_only
@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "cropped"])
@pytest.mark.parametrize("kind", ["labels", "boundary", "soft"])
def test_peak_of_inplace_backward(kind, layout):
    """No tensor of the logits' size at all."""
    logits, target, mask = inputs((2, 19, 192, 256), kind, layout, torch.float32)
    loss = jml.JaccardMetricLoss(backend="cpu", inplace_backward=True, **OPTIONS[kind])
    logits.requires_grad_()

    def step():
        (gradient,) = torch.autograd.grad(loss(logits, target, mask), logits)
        assert gradient.data_ptr() == logits.data_ptr()

    step()
    assert peak_memory(step) <= allowed_beside(logits.shape)


@cpu_only
@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "cropped"])
@pytest.mark.parametrize("kind", ["cross-entropy", "cross-entropy, soft", "teacher, boundary"])
def test_peak_of_an_objectives_inplace_backward(kind, layout):
    logits, *others = objective_inputs((2, 19, 192, 256), kind, layout, torch.float32)
    loss = objective(kind, 19, inplace_backward=True)
    logits.requires_grad_()

    def step():
        (gradient,) = torch.autograd.grad(loss(logits, *others), logits)
        assert gradient.data_ptr() == logits.data_ptr()

    step()
    assert peak_memory(step) <= allowed_beside(logits.shape)


def test_the_measure_sees_tensors_that_come_and_go():
    """The reference makes many; one of 4 MiB is 4 MiB, and its double in passing 8."""
    tensor = torch.zeros(MEBIBYTE)
    scalars = 1024
    assert 0 <= peak_memory(lambda: tensor + 1) - 4 * MEBIBYTE < scalars
    assert (
        0 <= peak_memory(lambda: (tensor + 1).sum() + (tensor + 2).sum()) - 4 * MEBIBYTE < scalars
    )
    assert 0 <= peak_memory(lambda: tensor.double() + 1) - 16 * MEBIBYTE < scalars
    logits, target, _ = inputs(SHAPES[0], "labels", "contiguous", torch.float32)
    reference = jml.JaccardMetricLoss(backend="reference")
    assert peak_memory(lambda: reference(logits, target)) > 3 * 4 * logits.numel()


RESIDENT = """
import sys
from pathlib import Path
import torch
import jml_kernels as jml

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
    label_smoothing=0.1,
    boundary_size=None if kind == "soft" else 3,
)

def inputs(size):
    logits = torch.randn(2, 24, size, size)
    if kind == "channels_last":
        logits = logits.contiguous(memory_format=torch.channels_last)
    target = torch.randint(0, 24, (2, size, size))
    if kind.startswith("teacher"):
        return logits, target, torch.randn_like(logits).half()
    return logits, logits.clone() if kind == "soft" else target

def step(logits, *others):
    logits.requires_grad_()
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
