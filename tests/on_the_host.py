"""A GPU's kernels on the CPU: Triton's through its interpreter, the CUDA ones through the emulation
in cuda_emulation/. The judges of every backend on its inputs; test_on_the_host.py runs this
file in processes whose environment chooses.

A tile takes the interpreter 10 ms, whatever it holds. So there each case runs once, with all
columns and a gradient of each, which no formula can hide, and cases that only make many tiles,
images or windows stay out. On a GPU all tests run as they are.
"""

from __future__ import annotations

import ctypes
import importlib
import re

import pytest
import torch
from cases import CASES, GRADIENT_CASES, OVERLAPS
from hypothesis import given, settings
from hypothesis import strategies as st
from inputs import build
from jml_kernels.backends import CUDA_EMULATION
from objective_cases import CROSS_ENTROPY_CASES, DISTILLATION_CASES, arguments, module
from objective_cases import GRADIENT_CASES as OBJECTIVE_GRADIENT_CASES
from test_formulas import assert_formula
from test_objectives import assert_objective
from test_statistics import assert_columns, assert_loss
from torch.autograd import gradcheck

import jml_kernels as jml

BACKEND = "cuda" if CUDA_EMULATION else "triton"

pytestmark = pytest.mark.usefixtures("one_thread")

#: "several tiles" and "primes" stay for tiles, "boundary 3, 3-D" for volumes, "1000 classes" for
#: chunks, "1 pixel an image" for images.
TOO_SLOW = {
    "many tiles",
    "many images",
    "boundary, window above volume",
    "boundary, tiles, 3-D",
    "boundary 5, 3-D",
    "boundary 7, 3-D",
    "1000 classes, tiles",
    "channels_last 19, tiles",
    "smoothing 19",
    "soft contiguous, channels_last",
}
#: Of a dtype there is one load, which "labels <dtype>" and pairs with float32 read; sizes around a
#: vector of the CPU are one tile here; what a formula makes of the columns is no kernel's.
REPEATED = re.compile(
    r"labels u?int.* stepped|(boundary|multi-label, bits),? u?int(8|16|32|64)"
    r"|(soft|teacher) (float16|bfloat16|float64) (in|of) (float16|bfloat16|float64)"
    r"|(63|64|65|5\d\d) pixels|pixels (25[56]|51.|1024)"
    r"|loss .*|active \w+ and (present|label|prob|both)"
)


def kept(cases):
    if CUDA_EMULATION:
        return list(cases)
    return [c for c in cases if c.name not in TOO_SLOW and not REPEATED.fullmatch(c.name)]


FINITE = kept(case for case in CASES if case.finite)
#: Tiles are the same whatever the case.
TILES = {"several tiles", "teacher -inf, tiles", "ce_class_weights, tiles"}
TEACHERS = [c for c in kept(DISTILLATION_CASES) if c.name in TILES or "tiles" not in c.name]


def each(cases):
    return pytest.mark.parametrize("case", cases, ids=lambda case: case.name)


def named(cases, *names: str):
    found = [case for case in cases if case.name in names]
    assert len(found) == len(names)
    return each(found)


@each(FINITE)
def test_columns(case):
    assert_columns(case, BACKEND, "cpu")


@pytest.mark.skipif(not CUDA_EMULATION, reason="for Triton it is the kernel of test_columns")
@each(FINITE)
def test_loss(case):
    """All columns at once are for general CUDA kernels; what a loss needs, for fast ones."""
    assert_loss(case, "metric1", BACKEND, "cpu")


@each([case for case in FINITE if case.name.startswith("active")])
def test_active_classes(case):
    """Each mode asks for other columns."""
    assert_loss(case, "soft2", BACKEND, "cpu")


@each([case for case in CASES if not case.finite])
def test_not_a_number(case):
    logits, target, mask = build(case, "cpu")
    for overlap in OVERLAPS.values():
        assert overlap(logits, target, mask, backend=BACKEND, **case.options).isnan()


@each(CROSS_ENTROPY_CASES)
def test_cross_entropy(case):
    assert_objective(case, BACKEND, "cpu")


@each(TEACHERS)
def test_distillation(case):
    assert_objective(case, BACKEND, "cpu")


@named(GRADIENT_CASES, "labels", "soft, channels_last", "label_smoothing 0.2, boundary_size 3")
def test_gradcheck(case):
    logits, target, mask = build(case)

    def columns(z):
        statistics = jml.class_statistics(z, target, mask, backend=BACKEND, **case.target_options)
        return torch.stack([*statistics[:6], statistics.cross_entropy.unsqueeze(-1).expand(2, 3)])

    assert gradcheck(columns, logits.detach().requires_grad_(), fast_mode=True)


@each(OBJECTIVE_GRADIENT_CASES[-3:])
def test_gradcheck_of_objectives(case):
    logits, *others = arguments(case, "cpu")
    objective = module(case, backend=BACKEND)
    leaf = logits.detach().requires_grad_()
    assert gradcheck(lambda z: objective(z, *others), leaf, fast_mode=True)


def test_the_same_bits_twice():
    torch.manual_seed(0)
    logits = torch.randn(2, 5, 43, 59, requires_grad=True)
    labels = torch.randint(0, 5, (2, 43, 59))
    results = []
    for _ in range(2):
        loss = jml.JaccardMetricLoss(backend=BACKEND)(logits, labels)
        results.append((loss.detach(), torch.autograd.grad(loss, logits)[0]))
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_offsets_beyond_32_bits():
    """Classes 2^30 elements apart: memory that is never touched costs nothing."""
    far = 2**30
    storage = torch.empty(2 * far + 40, dtype=torch.float16)
    logits = storage.as_strided((1, 3, 5, 8), (0, far, 8, 1))
    values = torch.randn(1, 3, 5, 8, dtype=torch.float16)
    logits.copy_(values)
    labels = torch.randint(0, 3, (1, 5, 8))
    losses = [jml.JaccardMetricLoss(backend=BACKEND)(z, labels) for z in (logits, values)]
    assert losses[0] == losses[1]


@settings(max_examples=25)
@given(data=st.data())
def test_formula(data):
    assert_formula(BACKEND, "cpu", data.draw)


@pytest.fixture
def launches(monkeypatch):
    """Counts the kernels that were launched."""
    if CUDA_EMULATION:
        return ctypes.CDLL(CUDA_EMULATION).jml_cuda_emulation_launches
    launch = importlib.import_module("jml_kernels.triton_kernels.launch").Launch
    run, launched = launch.run, []
    monkeypatch.setattr(launch, "run", lambda this: (launched.append(this), run(this)))
    return lambda: len(launched)


@pytest.mark.parametrize("case", ["labels", "distillation"])
def test_a_step_is_four_launches(case, launches):
    logits, teacher = torch.randn(2, 2, 3, 5, 4)
    labels = torch.randint(0, 3, (2, 5, 4))
    leaf = logits.requires_grad_()
    before = launches()
    if case == "labels":
        loss = jml.JaccardMetricLoss(backend=BACKEND)(leaf, labels)
    else:
        loss = jml.JaccardDistillationLoss(backend=BACKEND)(leaf, labels, teacher)
    loss.backward()
    assert launches() - before == 4  # forward, finish, formula, backward


def test_auto_stays_on_the_cpu():
    assert jml.backends()[BACKEND] is None
    logits, labels = torch.zeros(1, 2, 3), torch.zeros(1, 3, dtype=torch.int64)
    assert jml.JaccardMetricLoss()(logits, labels).isfinite()
