"""Single operators under pytest-benchmark: the forward and the backward of the CPU kernels.

pytest benchmarks
"""

from __future__ import annotations

import pytest
import torch

import jml_kernels as jml
from jml_kernels.bench.cases import CE_JACCARD, DISTILLATION, JACCARD, BenchmarkCase, build
from jml_kernels.formulas import Objective, Term
from jml_kernels.options import LossOptions
from jml_kernels.statistics import SUMS, TOTALS

from .suites import ADE20K, CITYSCAPES

CASES = [
    BenchmarkCase(shape, target, objective, layout=layout)
    for shape in (CITYSCAPES, ADE20K)
    for target, objective in (
        ("labels", JACCARD),
        ("boundary", JACCARD),
        ("soft", JACCARD),
        ("labels", CE_JACCARD),
        ("labels", DISTILLATION),
    )
    for layout in ("contiguous", "channels_last")
]

pytestmark = [
    pytest.mark.skipif(
        jml.backends()["cpu"] is not None, reason=f"backend cpu: {jml.backends()['cpu']}"
    ),
    pytest.mark.parametrize("case", CASES, ids=lambda case: case.name),
]


@pytest.fixture(autouse=True)
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def arguments(case: BenchmarkCase) -> tuple:
    """Of the operators, from the logits on; columns are those of the losses with their defaults."""
    logits, target, *teacher = build(case)
    labels, dense = (
        (None, target) if case.target == "soft" else (target, teacher[0] if teacher else None)
    )
    term = Term(0.0 if case.objective == JACCARD else 0.25, 0.75, LossOptions().active_classes)
    columns = Objective("metric1", LossOptions(), term, term).columns
    epsilon, size = case.options.get("label_smoothing", 0.0), case.options.get("boundary_size", 0)
    temperatures = (1.0 if teacher else None, 1.0)
    rule = (*columns, "softmax", epsilon, size, -100, *temperatures)
    return logits, labels, dense, None, None, *rule


@pytest.mark.benchmark(group="forward")
def test_cpu_statistics(benchmark, case):
    benchmark(torch.ops.jml_kernels.cpu_statistics, *arguments(case))


@pytest.mark.benchmark(group="backward")
def test_cpu_statistics_backward(benchmark, case):
    logits, labels, dense, *rest = arguments(case)
    n, c = logits.shape[:2]
    targets = (labels is not None) + (dense is not None)
    grad_sums = torch.ones(targets, len(SUMS), n, c, dtype=torch.float64)
    grad_totals = torch.ones(targets, len(TOTALS), n, dtype=torch.float64)
    gradients = (grad_sums, grad_totals)
    backward = torch.ops.jml_kernels.cpu_statistics_backward
    benchmark(backward, *gradients, logits, labels, dense, *rest)
