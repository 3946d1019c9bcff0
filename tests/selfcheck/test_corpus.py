"""The corpus: names that tell cases apart, flags that agree, and tensors that are what a case says.
What only `jml-kernels check` computes is computed here too."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from parametrize import each

from jml_kernels.selfcheck import parity
from jml_kernels.selfcheck.corpus import CASES, OF_ONE_LOSS
from jml_kernels.selfcheck.corpus.drawing import draw, shared
from jml_kernels.selfcheck.corpus.gradients import GRADIENTS
from jml_kernels.selfcheck.corpus.steps import COMPILED, MEMORY, ON_GPU, STEPS, UPSAMPLED_MEMORY
from jml_kernels.selfcheck.results import Subject

LISTS = {
    "cases": CASES,
    "gradients": GRADIENTS,
    "steps": STEPS,
    "compiled": COMPILED,
    "memory": MEMORY,
    "memory, upsample": UPSAMPLED_MEMORY,
    "on a GPU": ON_GPU,
}
lists = pytest.mark.parametrize("cases", LISTS.values(), ids=LISTS)


@lists
def test_a_name_is_of_one_case(cases):
    assert len({case.name for case in cases}) == len(cases)
    assert all(case.why for case in cases)


@lists
def test_a_quick_check_is_part_of_the_whole(cases):
    assert all(case.checked for case in cases if case.quick)
    assert any(case.quick for case in cases)


@lists
def test_an_interpreter_can_check_them(cases):
    """Each list has cases for it, but for those that tell nothing about it."""
    chosen = Subject("triton").chosen(cases)
    assert chosen or cases in (MEMORY, UPSAMPLED_MEMORY, ON_GPU)


def test_tensors_are_the_same_at_each_call():
    for case in CASES[:5]:
        for one, other in zip(draw(case), draw(case), strict=True):
            assert one is other is None or torch.equal(one, other)
        assert draw(case).logits.data_ptr() != draw(case).logits.data_ptr()
        assert shared(case) is shared(case)


@lists
def test_tensors_are_what_a_case_says(cases):
    for case in cases:
        logits, target, teacher, mask = draw(case, seed=0)
        assert (logits.shape, logits.dtype) == (case.shape, case.dtype)
        assert (target is None) == (case.target == "none")
        assert (mask is None) == (case.masked is None)
        assert (teacher is None) == (case.loss != "distillation")
        if teacher is not None:
            assert teacher.shape == case.teacher_shape
            assert teacher.dtype == (case.teacher_dtype or case.dtype)
        if target is not None:
            assert target.is_floating_point() == case.target.startswith("soft")
            assert target.shape[0] == case.shape[0]
            spatial = case.target_shape[2:]
            assert target.shape[target.dim() - len(spatial) :] == spatial
            assert case.upsamples == (case.full_size is not None)


@each(OF_ONE_LOSS)
def test_parity(case, backend, device):
    """These inputs are of one loss each; tests of statistics and objectives have all others."""
    for measure in parity.compare(case, Subject(backend)):
        assert measure.holds, measure


def test_the_corpus_needs_pytorch_alone():
    """It ships with the package. PyTorch imports numpy by itself where there is one."""
    ask = "import sys, jml_kernels.selfcheck.corpus; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True)
    assert not set(done.stdout.split()) & {"rich", "typer", "pytest", "hypothesis"}
