"""From turns to a row of the results."""

from __future__ import annotations

import json
import math

import pytest

from jml_kernels.bench import figures
from jml_kernels.bench.cases import BenchmarkCase
from jml_kernels.bench.timing import PARTS

CASE = BenchmarkCase((1, 2, 512, 512))  # 2 MiB of logits, and 2 MiB of labels
SIZE = CASE.bytes
#: Whose median is such that a byte read or written takes 1 / SIZE.
COPIES = [2.0, 9.0, 2.0]
TIMES = {"cpu": (1.25, 2.5), "eager": (10.0, 30.0), "metric": (5.0, None)}


@pytest.fixture
def row(make_row) -> dict:
    return make_row(CASE, TIMES, copies=COPIES)


def test_share_of_a_copy(row):
    assert row["copy bytes per second"] == SIZE
    of = row["figures"]["cpu"]
    assert {part: of[part]["share"] for part in PARTS} == {
        "forward": 1 / 1.25,
        "backward": 2 / 2.5,
        "step": 3 / 3.75,
    }
    # Labels of two classes are as large as their logits in float32.
    assert {part: of[part]["share, labels counted"] for part in PARTS} == {
        "forward": 2 / 1.25,
        "backward": 3 / 2.5,
        "step": 5 / 3.75,
    }
    assert of["step"]["bytes per second"] == 3 * SIZE / 3.75


def test_times_of_the_first(row):
    assert row["subject"] == "cpu"
    of = row["figures"]["eager"]
    assert of["step"]["seconds"]["median"] == 40
    assert {part: of[part]["times"]["median"] for part in PARTS} == {
        "forward": 8,
        "backward": 12,
        "step": 40 / 3.75,
    }


def test_without_backward(row):
    of = row["figures"]["metric"]
    assert set(of) & set(PARTS) == {"forward"}
    assert of["forward"]["times"]["median"] == 4


def test_of_a_first_without_backward_only_forwards_are_multiples(make_row):
    row = make_row(CASE, {"metric": (5.0, None), "cpu": (1.25, 2.5)})
    times = {part: row["figures"]["cpu"][part]["times"] for part in PARTS}
    assert times["forward"]["median"] == 0.25
    assert times["backward"] is times["step"] is None


def test_memory(make_row):
    peaks = {"cpu": SIZE, "eager": 5 * SIZE}
    found = make_row(CASE, TIMES, peaks=peaks)["figures"]
    assert found["eager"]["peak bytes"] == 5 * SIZE
    assert found["eager"]["peak / logits"] == 5
    assert found["metric"]["peak bytes"] is found["metric"]["peak / logits"] is None


@pytest.mark.parametrize("times", [TIMES, {"metric": (5.0, None)}, {}], ids=len)
def test_a_row_is_strict_json(times, make_row):
    """Whoever ran, and whatever number is none."""
    errors = {"cpu": {"loss": math.nan, "gradient": math.inf}}
    row = make_row(CASE, times, errors=errors, wrong={"cpu": "why"}, left_out={"cuda": "none"})
    read = json.loads(json.dumps(row, allow_nan=False))
    assert read["errors"] == {"cpu": {"loss": None, "gradient": None}}
    assert read["turns"].keys() == {*times, figures.COPY}
    assert read["figures"].keys() == times.keys()
    assert read["subject"] == next(iter(times), None)
    assert (read["wrong"], read["left out"]) == ({"cpu": "why"}, {"cuda": "none"})
    assert read["case"] | {"shape": tuple(read["case"]["shape"])} == row["case"]
    assert row["case"].items() >= {"kind": CASE.kind, "form": CASE.form, "size": CASE.size}.items()


def test_errors_that_are_numbers_stay(make_row):
    errors = {"cpu": {"loss": 1e-9, "gradient": 0.0}}
    assert make_row(CASE, TIMES, errors=errors)["errors"] == errors


def test_compare(row):
    found = figures.compare(row, "eager", "cpu")
    assert {part: of["median"] for part, of in found.items()} == {
        "forward": 8,
        "backward": 12,
        "step": 40 / 3.75,
    }
    assert figures.compare(row, "metric", "cpu").keys() == {"forward"}
    assert figures.compare(row, "cuda", "cpu") is figures.compare(row, "cpu", "cuda") is None


def test_times_the_floor(row):
    """The step moves 3 times the logits, a copy 2."""
    found = row["over floor"]
    assert found["median"] == 3.75 / (1.5 * 2.0)
    assert found["low"] < found["high"]


def test_bytes_of_what_is_read_with_a_teacher():
    case = BenchmarkCase((2, 3, 8, 4), objective="distillation")
    size = case.bytes
    assert figures.bytes_of(case) == {
        "logits": size,
        "forward": 2 * size,
        "backward": 3 * size,
        "step": 5 * size,
        "labels": 8 * 64,
        "inputs": 2 * size + 8 * 64,
    }
