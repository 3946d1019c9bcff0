"""What produces the figures of the pages: it runs, and the pages say what was measured. Nothing
here is timed: the inputs are tiny."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import jml_kernels as jml
from jml_kernels.bench.cases import BenchmarkCase
from jml_kernels.naive import naive_jaccard_distillation_loss

ROOT = Path(__file__).parents[1]
# Last: an installed package must not be hidden by its sources.
sys.path.append(str(ROOT))

from benchmarks import goals, pages, regression, suites  # noqa: E402

needs_kernels = pytest.mark.skipif(
    jml.backends()["cpu"] is not None, reason=f"backend cpu: {jml.backends()['cpu']}"
)


def run(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )


# ---- measuring -----------------------------------------------------------------------------------


@needs_kernels
@pytest.mark.slow
@pytest.mark.long
def test_every_suite_is_measured_and_told(tmp_path):
    file = tmp_path / "folder" / "cpu.json"
    # Two threads that meet at every tiny operation wait for each other where a machine is busy.
    done = run("benchmarks.cpu", "--quick", "--threads", "1", "--json", str(file))
    assert done.returncode == 0, done.stderr + done.stdout
    assert "is wrong" not in done.stdout
    results = json.loads(file.read_text())
    assert_every_case_is_measured(results)
    assert_sections_of_the_pages_come_from(results)


def assert_every_case_is_measured(results: dict) -> None:
    assert results.keys() == suites.SUITES.keys()
    for name, suite in suites.SUITES.items():
        small = suites.quick(suite)
        measured = {(row["name"], row["allocator"]) for row in results[name]["rows"]}
        assert measured == {(c.name, how) for c in small.cases for how in small.allocators}
        assert results[name]["growth"].keys() == set(small.axes)
    for row in results["jml"]["rows"]:
        held = {name: of["peak / logits"] for name, of in row["figures"].items()}
        # The gradient, and little besides; the naive loss holds five tensors and more.
        assert 1 <= held["cpu"] < 1.1
        assert held["cpu-in-place"] < 0.1
        assert held["eager"] >= 5
        assert row["errors"]["cpu"]["loss"] <= 1e-6
        assert row["errors"]["cpu"]["gradient"] <= 1e-5
    # A softmax for each term: distillation has four of the student, and one of the teacher.
    (distillation,) = {
        row["figures"]["eager"]["peak / logits"] // 1
        for row in results["objectives"]["rows"]
        if row["case"]["objective"] == "distillation"
    }
    assert distillation >= 10


WITHOUT_A_TABLE = (
    *("machine", "goals", "what peers compute", "upsampling saves", "GPU costs"),
    "scale, sources",
)


def assert_sections_of_the_pages_come_from(results: dict) -> None:
    for name, section in pages.SECTIONS.items():
        text = section(pages.measured() | results)
        assert text.strip()
        if name not in WITHOUT_A_TABLE:
            assert "|---" in text or "|--:" in text
    assert "2×19×64×48, labels" in pages.costs(results)  # noqa: RUF001
    assert "| distillation, labels |" in pages.objectives(results)
    assert "2×2×64×64 channels_last" in pages.forms(results)  # noqa: RUF001
    assert "| 17 |" in pages.growth(results)
    assert "goals met" in pages.goals(results)


def test_a_suite_that_is_none_is_an_error():
    done = run("benchmarks.cpu", "--suite", "cpu")
    assert done.returncode == 2
    assert "--suite='cpu': expected one of 'jml'" in done.stderr


def test_suites_have_both_shapes_of_the_design_and_the_hard_cases():
    cases = suites.SUITES["jml"].cases
    assert {case.shape for case in cases} == {(4, 19, 512, 512), (2, 150, 256, 256)}
    kinds = {(case.target, case.labels) for case in cases}
    assert kinds == {
        *(("labels", drawn) for drawn in ("regions", "random")),
        *(("boundary", drawn) for drawn in ("regions", "random")),
        ("soft", "regions"),
    }
    forms = suites.SUITES["forms"].cases
    assert {case.dtype for case in forms} >= {"float16", "bfloat16", "float64"}
    assert {case.layout for case in forms} == {"contiguous", "channels_last"}
    assert {case.shape[1] for case in forms} >= {2, 19, 150, 1000}
    upsampled = {(case.logits_shape, case.full_size) for case in suites.SUITES["upsample"].cases}
    assert upsampled == {
        ((4, 19, 128, 128), (512, 512)),
        ((2, 19, 64, 128), (512, 1024)),
        ((2, 150, 128, 128), (512, 512)),
        ((2, 150, 64, 64), (512, 512)),
    }


# ---- pages ---------------------------------------------------------------------------------------


def test_pages_say_what_was_measured():
    """Figures are not written by hand: `python -m benchmarks.pages` changes nothing."""
    found = pages.measured()
    named = []
    for page in pages.PAGES:
        text = page.read_text()
        assert pages.render(text, found) == text, f"{page.name}: run python -m benchmarks.pages"
        sections = [match["name"] for match in pages.SECTION.finditer(text)]
        assert len(sections) == text.count("<!-- figures:")
        named += sections
    assert set(named) == set(pages.SECTIONS)


def test_a_section_is_replaced_and_the_rest_kept(monkeypatch):
    monkeypatch.setitem(pages.SECTIONS, "machine", lambda results: f"on {results}\n")
    page = "a\n<!-- figures: machine -->\nold\n<!-- end of figures -->\nb\n"
    once = pages.render(page, "this")
    assert once == "a\n<!-- figures: machine -->\non this\n<!-- end of figures -->\nb\n"
    assert pages.render(once, "this") == once
    with pytest.raises(KeyError):
        pages.render(page.replace("machine", "nothing"), "this")


# ---- goals ---------------------------------------------------------------------------------------


def row(allocator="warm", fused=1.0, eager=20.0, held=1.0, case=None, wrong=()) -> dict:
    """Of results: seconds of a step, of a copy that takes 1/4."""
    case = case or BenchmarkCase(suites.CITYSCAPES)

    def of(seconds, peak):
        return {"step": {"times": {"median": seconds / fused}}, "peak / logits": peak}

    return {
        "name": case.name,
        "case": {**vars(case)},
        "allocator": allocator,
        "subject": "cpu",
        "bytes": {"logits": case.bytes},
        "over floor": {"median": fused / (0.25 * 3 / 2)},
        "figures": {"cpu": of(fused, held), "eager": of(eager, 5.0)},
        "wrong": dict.fromkeys(wrong, "why"),
    }


def test_goals_that_are_met_and_missed():
    verdicts = {verdict.what: verdict.met for verdict in goals.judged(row())}
    assert verdicts == {
        goals.MEMORY: True,
        goals.FLOOR: False,  # 2.67
        "eager / ours": True,
    }
    verdicts = {v.what: v.met for v in goals.judged(row(fused=0.7, eager=10.0, held=1.2))}
    assert verdicts == {goals.MEMORY: False, goals.FLOOR: True, "eager / ours": False}
    assert goals.FLOOR not in {verdict.what for verdict in goals.judged(row("default"))}
    lines = goals.summary([row(), row("default")])
    assert lines[0] == "4 of 5 goals met"
    assert lines[1].endswith("warm: ours / floor is 2.67, goal ≤ 2")


@pytest.mark.parametrize(
    ("case", "allocator", "expected"),
    [
        ({}, "default", {"eager / ours": "≥ 20"}),
        ({"target": "boundary"}, "warm", {goals.FLOOR: "≤ 2", "eager / ours": "≥ 15"}),
        ({"target": "soft"}, "warm", {goals.FLOOR: "≤ 1.5", "eager / ours": "≥ 4"}),
        ({"target": "soft"}, "default", {}),
        ({"objective": "distillation"}, "warm", {}),
    ],
    ids=str,
)
def test_goals_of_a_case(case, allocator, expected):
    """Beside that of memory, which every case has."""
    of_case = row(allocator, case=BenchmarkCase(suites.CITYSCAPES, **case))
    found = {verdict.what: str(verdict.goal) for verdict in goals.judged(of_case)}
    assert found.pop(goals.MEMORY).startswith("≤ 1.0")
    assert found == expected


@pytest.mark.parametrize(
    ("case", "interpolated", "eager"),
    [
        ({"upsample": 4}, 6, 20),
        ({"upsample": 4, "labels": "random"}, 5, 20),
        ({"upsample": 4, "target": "boundary"}, 5, 20),
        ({"upsample": 8}, 7.5, None),
        ({"shape": suites.CROPS_OF_ADE20K, "upsample": 4}, 8, 30),
        ({"shape": suites.CROPS_OF_ADE20K, "upsample": 8}, 13, None),
    ],
    ids=str,
)
def test_goals_of_logits_of_lower_resolution(case, interpolated, eager):
    of_case = row(case=BenchmarkCase(**{"shape": suites.CITYSCAPES, **case}))
    for name in ("cpu-interpolated", "cpu-full-size"):
        of_case["figures"][name] = of_case["figures"]["eager"]
    found = {verdict.what: verdict.goal.limit for verdict in goals.judged(of_case)}
    # 2 MiB beside the gradient.
    gradient = of_case["bytes"]["logits"]
    assert found.pop(goals.MEMORY) * gradient == pytest.approx(gradient + 2**21, rel=0.1)
    assert found.pop("eager / ours", None) == eager
    assert found == {"cpu-interpolated / ours": interpolated, "cpu-full-size / ours": 1}
    of_case["allocator"] = "default"
    assert [verdict.what for verdict in goals.judged(of_case)] == [goals.MEMORY]


# ---- single operators ----------------------------------------------------------------------------


@needs_kernels
@pytest.mark.slow
def test_operators_run():
    """Once each, with no clock."""
    chosen = ("-k", "2x150 and not channels_last", "--benchmark-disable")
    done = run("pytest", "benchmarks/test_ops.py", *chosen, "-p", "no:cacheprovider")
    assert done.returncode == 0, done.stdout
    assert done.stdout.count(".") >= 10


# ---- regression ----------------------------------------------------------------------------------


def test_a_ratio_that_falls_by_more_than_a_third_is_told():
    before = {"a": {"eager": 15.0, "floor": 0.5}, "b": {"eager": 3.0}}
    assert regression.fallen(before, before) == []
    held = {"a": {"eager": 10.1, "floor": 0.34}, "b": {"eager": 30.0}}
    assert regression.fallen(held, before) == []
    worse = {"a": {"eager": 9.9, "floor": 0.5}}
    assert regression.fallen(worse, before) == [
        "a: eager / fused fell from 15 to 9.9",
        "b: eager is no longer measured",
    ]


def test_ratios_are_the_higher_the_better():
    found = regression.ratios(row(fused=1.0, eager=20.0))
    assert found == {"floor": pytest.approx(3 / 8), "eager": 20.0}
    with pytest.raises(ArithmeticError, match="why"):
        regression.ratios(row(wrong=("cpu",)))


def test_the_baseline_has_every_case():
    content = json.loads(regression.BASELINE.read_text())
    for of in content.values():
        assert of["ratios"].keys() == {case.name for case in regression.CASES}
        assert of["processor"]["model"]


@needs_kernels
def test_a_baseline_is_written_and_read(tmp_path, monkeypatch):
    monkeypatch.setattr(regression, "BASELINE", tmp_path / "baseline.json")
    assert regression.baseline() is None
    small = (BenchmarkCase((1, 3, 16, 16)),)
    found = regression.measure(small, rounds=2)
    regression.write(found, {"model": "made up"})
    read = regression.baseline()
    assert read.keys() == {small[0].name}
    assert read[small[0].name].keys() == {"floor", "eager", "cross-entropy"}
    assert regression.fallen(found, read) == []


def test_naive_distillation_is_equation_17():
    """What the benchmark compares with computes the same."""
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn((2, 2, 5, 8, 6), generator=generator)
    labels = torch.randint(5, (2, 8, 6), generator=generator)
    expected = jml.JaccardDistillationLoss(backend="reference")(student, labels, teacher)
    torch.testing.assert_close(naive_jaccard_distillation_loss(student, labels, teacher), expected)
