"""Single operators under pytest-benchmark: the forward and the backward of the CPU kernels.

pytest benchmarks
"""

from __future__ import annotations

import pytest
import torch

import jml_kernels as jml
from jml_kernels import formulas
from jml_kernels.statistics import SUMS, TOTALS

from .cases import Case, build
from .suites import ADE20K, CITYSCAPES

CASES = [
    Case(shape, target, layout=layout)
    for shape in (CITYSCAPES, ADE20K)
    for target in ("labels", "boundary", "soft")
    for layout in ("contiguous", "channels_last")
]
#: What the Jaccard metric loss with its default options asks for.
COLUMNS = formulas.OVERLAPS["metric1"] | formulas.ACTIVE_COLUMNS["label"]

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


def arguments(case: Case) -> tuple:
    """Of the operators, from the logits on."""
    logits, target = build(case)
    labels, dense = (None, target) if case.target == "soft" else (target, None)
    epsilon, size = case.options.get("label_smoothing", 0.0), case.options.get("boundary_size", 0)
    targets = (labels, dense, None, None, COLUMNS, COLUMNS)
    return logits, *targets, "softmax", epsilon, size, -100, None, 1.0


@pytest.mark.benchmark(group="forward")
def test_cpu_statistics(benchmark, case):
    benchmark(torch.ops.jml_kernels.cpu_statistics, *arguments(case))


@pytest.mark.benchmark(group="backward")
def test_cpu_statistics_backward(benchmark, case):
    logits, *rest = arguments(case)
    n, c = logits.shape[:2]
    grads = [torch.ones(1, len(SUMS), n, c), torch.zeros(1, len(TOTALS), n)]
    grads = [grad.double() for grad in grads]
    benchmark(torch.ops.jml_kernels.cpu_statistics_backward, *grads, logits, *rest)
