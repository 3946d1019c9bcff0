"""Steps as a whole: gradients, bits, offsets, the formula, and how many kernels are launched."""

from __future__ import annotations

import ctypes
import importlib

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_formulas import assert_formula
from test_overlaps import OWN, assert_own_overlap

import jml_kernels as jml
from by_environment.backend import BACKEND, SUBJECT, each
from jml_kernels.backend.cuda import EMULATION
from jml_kernels.overlaps import OVERLAPS
from jml_kernels.selfcheck import gradients
from jml_kernels.selfcheck.corpus.gradients import GRADIENTS, GRADIENTS_OF_2_PIXELS

pytestmark = pytest.mark.usefixtures("one_thread")


#: A mark for what the interpreter takes long for.
slow_if_interpreted = pytest.mark.slow if SUBJECT.is_interpreted else lambda test: test


@each(case for case in GRADIENTS if case.quick or case in GRADIENTS_OF_2_PIXELS)
def test_gradcheck(case):
    assert gradients.check(case, SUBJECT) == []


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


@slow_if_interpreted
@settings(max_examples=25)
@given(data=st.data())
def test_formula(data):
    assert_formula(BACKEND, "cpu", data.draw)


@pytest.mark.parametrize("kind", ["labels", "soft"])
def test_an_overlap_of_ones_own(kind, monkeypatch):
    monkeypatch.setitem(OVERLAPS, "own", OWN)
    assert_own_overlap(BACKEND, "cpu", kind, torch.float32)


@pytest.fixture
def launches(monkeypatch):
    """Counts the kernels that were launched."""
    if EMULATION:
        return ctypes.CDLL(EMULATION).jml_cuda_emulation_launches
    launch = importlib.import_module("jml_kernels.triton_kernels.launch").Launch
    run, launched = launch.run, []
    monkeypatch.setattr(launch, "run", lambda this: (launched.append(this), run(this)))
    return lambda: len(launched)


@pytest.mark.parametrize("loss", ["labels", "upsample", "distillation"])
def test_a_step_is_four_launches(loss, launches):
    logits, teacher = torch.randn(2, 2, 3, 5, 4)
    labels = torch.randint(0, 3, (2, 5, 4))
    leaf = logits.requires_grad_()
    before = launches()
    if loss == "labels":
        value = jml.JaccardMetricLoss(backend=BACKEND)(leaf, labels)
    elif loss == "upsample":
        labels = torch.randint(0, 3, (2, 20, 16))
        value = jml.JaccardMetricLoss(backend=BACKEND, upsample="bilinear")(leaf, labels)
    else:
        value = jml.JaccardDistillationLoss(backend=BACKEND)(leaf, labels, teacher)
    value.backward()
    assert launches() - before == 4  # forward, finish, formula, backward


def test_auto_stays_on_the_cpu():
    assert jml.backends()[BACKEND] is None
    logits, labels = torch.zeros(1, 2, 3), torch.zeros(1, 3, dtype=torch.int64)
    assert jml.JaccardMetricLoss()(logits, labels).isfinite()
