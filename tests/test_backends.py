"""Which backends run here, and what those say that do not."""

from __future__ import annotations

import os

import pytest
import torch

import jml_kernels as jml
from jml_kernels.backends import NAMES, choose, why_not


@pytest.mark.parametrize("name", NAMES)
def test_runs_or_says_why_not(name):
    """A backend that is skipped is seen in the report, with its own words."""
    reason = jml.backends()[name]
    if reason is not None:
        assert len(reason.split()) > 3
        with pytest.raises(RuntimeError, match=f"backend='{name}' cannot run here"):
            choose(name, torch.device("cpu"))
        pytest.skip(reason)
    logits, labels = torch.zeros(1, 2, 3), torch.zeros(1, 3, dtype=torch.int64)
    if name not in ("cuda", "triton"):
        loss = jml.JaccardMetricLoss(backend=name)(logits, labels)
        assert loss.item() == pytest.approx(0.5)  # x = 1/2 at 3 pixels: 1 - 1.5 / 3


def test_the_reference_always_runs():
    assert jml.backends()["reference"] is None
    assert why_not("reference", torch.device("meta")) is None


def test_auto_takes_the_first_that_runs_on_the_device():
    runs = [name for name in NAMES if why_not(name, torch.device("cpu")) is None]
    assert choose("auto", torch.device("cpu")) == runs[0]
    assert runs[-1] == "reference"
    assert choose("auto", torch.device("meta")) == "reference"


def test_the_cpu_kernels_refuse_other_devices():
    if jml.backends()["cpu"] is not None:
        pytest.skip(jml.backends()["cpu"])
    with pytest.raises(RuntimeError, match="the tensors are on meta"):
        choose("cpu", torch.device("meta"))


def test_the_answer_is_a_copy():
    jml.backends().clear()
    assert set(jml.backends()) == set(NAMES)


def test_kernels_are_there_where_they_were_asked_for():
    """Continuous integration builds them: without this, a failed build would pass by skipping."""
    if os.environ.get("JML_BUILD") != "cpu":
        pytest.skip("JML_BUILD is not 'cpu'")
    assert jml.backends()["cpu"] is None
