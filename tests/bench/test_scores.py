"""The objective "metrics": all compute the same scores, and there is no backward."""

from __future__ import annotations

import json

import pytest
import torch

from jml_kernels.backend import choose
from jml_kernels.bench import growth, plots, report
from jml_kernels.bench.cases import METRICS, BenchmarkCase, build
from jml_kernels.bench.competitor import Competitor, NotAvailableError
from jml_kernels.bench.competitors import COMPETITORS, find, make
from jml_kernels.bench.figures import whole
from jml_kernels.bench.measure import measure

CASE = BenchmarkCase((3, 4, 13, 17), objective=METRICS)
OURS = choose("auto", torch.device("cpu"))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("upsample", [1, 3])
def test_naive_scores_are_ours(upsample, dtype):
    case = BenchmarkCase(CASE.shape, objective=METRICS, dtype=dtype, upsample=upsample)
    tensors = build(case)
    ours, naive = (make(name, case)(*tensors) for name in (OURS, "eager"))
    assert ours.dim() == 0
    assert not ours.requires_grad
    assert naive.item() == pytest.approx(ours.item(), abs=1e-5)


def test_torchmetrics_computes_a_part():
    pytest.importorskip("torchmetrics")
    tensors = build(CASE)
    found = find("torchmetrics-jaccard").make(CASE)(*tensors)
    assert 0 < found < make(OURS, CASE)(*tensors)


@pytest.mark.parametrize("name", ["cross-entropy", "soft-dice", "reference-in-place", "smp-dice"])
def test_who_computes_no_scores(name):
    with pytest.raises(NotAvailableError, match=r"no scores|no gradient"):
        find(name).make(CASE)


def test_bytes():
    """The logits are read once."""
    assert CASE.traffic == CASE.forward_traffic == CASE.bytes


@pytest.fixture
def row(monkeypatch) -> dict:
    wrong = Competitor("made up", lambda case: lambda *tensors: torch.tensor(0.5), same=True)
    monkeypatch.setitem(COMPETITORS, "wrong", wrong)
    found = measure(CASE, [OURS, "eager", "cross-entropy", "wrong"], "cpu", 2)
    json.dumps(found, allow_nan=False)
    return found | {"allocator": "default"}


def test_row(row):
    assert list(row["figures"]) == [OURS, "eager", "wrong"]
    assert list(row["left out"]) == ["cross-entropy"]
    assert list(row["wrong"]) == ["wrong"]
    assert "its scores are off by" in row["wrong"]["wrong"]
    assert row["turns"][OURS].keys() == {"forward"} == {whole(row)}
    assert row["errors"]["eager"]["loss"] < 1e-5
    assert row["over floor"] is None
    assert report.table(row)


def test_growth(row, tmp_path):
    """Of the forward."""
    larger = measure(BenchmarkCase((6, *CASE.shape[1:]), objective=METRICS), [OURS, "eager"])
    rows = [row, larger | {"allocator": "default"}]
    assert growth.growths(rows, "batch").keys() == {OURS, "eager"}
    assert report.growth_table(rows, "batch")
    pytest.importorskip("matplotlib")
    plots.save(rows, {"classes": rows, "batch": rows}, tmp_path / "plots.png")
