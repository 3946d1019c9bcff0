"""Single operators under pytest-benchmark: the forward and the backward of the CPU kernels.

pytest benchmarks
"""

from __future__ import annotations

import pytest
import torch

import jml_kernels as jml
from jml_kernels.bench.cases import CE_JACCARD, DISTILLATION, JACCARD, BenchmarkCase, build
from jml_kernels.objective import Objective, distillation_objective, target_objective
from jml_kernels.options import DistillationOptions, LossOptions
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


def objective_of(case: BenchmarkCase) -> Objective:
    if case.objective == DISTILLATION:
        return distillation_objective("metric1", DistillationOptions(**case.options), True)
    ce_weight = 0.25 if case.objective == CE_JACCARD else 0.0
    return target_objective("metric1", LossOptions(**case.options), ce_weight)


def arguments(case: BenchmarkCase) -> tuple:
    """The arguments of the operators from the logits on, as the losses give them."""
    logits, target, *teacher = build(case)
    labels, dense = (
        (None, target) if case.target == "soft" else (target, teacher[0] if teacher else None)
    )
    return logits, labels, dense, None, None, *objective_of(case).target


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
