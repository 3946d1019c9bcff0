"""The benchmarks run and print every row. Nothing here is timed: the inputs are tiny."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import jml_kernels as jml
from jml_kernels.naive import naive_jaccard_distillation_loss

ROOT = Path(__file__).parents[1]
KINDS = {
    "labels",
    "labels, random",
    "boundary smoothing",
    "boundary smoothing, random",
    "soft target",
}

needs_kernels = pytest.mark.skipif(
    jml.backends()["cpu"] is not None, reason=f"backend cpu: {jml.backends()['cpu']}"
)


def run(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )


def results(script: str, folder: Path, *options: str) -> tuple[list[dict], str]:
    """What a script wrote as JSON and printed."""
    file = folder / "results.json"
    # Two threads that meet at every tiny operation wait for each other where a machine is busy.
    arguments = ("--quick", "--threads", "1", "--markdown", "--json", str(file))
    done = run(script, *arguments, *options)
    assert done.returncode == 0, done.stderr
    return json.loads(file.read_text())["results"], done.stdout


@needs_kernels
def test_cpu(tmp_path):
    # A compiler takes longer over each case than all the rest.
    found, printed = results("benchmarks.cpu", tmp_path, "--no-compile")
    assert {(r["allocator"], r["case"]["size"], r["case"]["kind"]) for r in found} == {
        (allocator, size, kind)
        for allocator in ("default", "warm")
        for size in ("2x19x64x48", "1x150x32x32")
        for kind in KINDS
    }
    for result in found:
        assert f"{result['name']}, {result['allocator']} allocator" in printed
        rows = {row["name"]: row for row in result["rows"]}
        dice = (
            {"our soft Dice", "nnU-Net's Dice"} if "soft" not in result["case"]["kind"] else set()
        )
        expected = {"peak memory", "floor", "fused, in place", "naive, eager", "cross-entropy"}
        assert rows.keys() == expected | dice
        for name, row in rows.items():
            assert row["note"] or row["ratio"] or name == "peak memory"
        # The gradient, and little besides; the naive loss holds five tensors and more.
        assert 1 <= rows["peak memory"]["peak"] < 1.1
        assert rows["fused, in place"]["peak"] < 0.1
        assert rows["naive, eager"]["peak"] >= 5
        assert result["errors"]["fused"]["loss"] <= 1e-6
        assert result["errors"]["fused"]["gradient"] <= 1e-5
    for name in ("fused / floor", "naive, eager / fused", "cross-entropy / fused", "our soft Dice"):
        assert printed.count(name) >= 16
    assert "Default allocator:\n\n| logits | case | fused / floor" in printed
    assert "| 2x19x64x48 float32 | labels, random |" in printed


@needs_kernels
def test_objectives(tmp_path):
    found, printed = results("benchmarks.objectives", tmp_path, "--no-compile")
    assert {(r["allocator"], r["case"]["size"], r["case"]["kind"]) for r in found} == {
        (allocator, size, kind)
        for allocator in ("default", "warm")
        for size in ("2x19x64x48", "1x150x32x32")
        for kind in (
            "CE + JML, labels",
            "CE + JML, boundary smoothing",
            "CE + JML, soft target",
            "distillation, labels",
        )
    }
    for result in found:
        assert f"{result['name']}, {result['allocator']} allocator" in printed
        rows = {row["name"]: row for row in result["rows"]}
        assert rows.keys() == {"peak memory", "floor", "naive, eager"}
        assert 1 <= rows["peak memory"]["peak"] < 1.1
        # A softmax for each term: distillation has four of the student, and one of the teacher.
        distillation = result["case"]["objective"] == "distillation"
        assert rows["naive, eager"]["peak"] >= (10 if distillation else 5)
        assert result["errors"]["fused"]["loss"] <= 1e-6
        assert result["errors"]["fused"]["gradient"] <= 1e-5
    assert "| 2x19x64x48 float32 | distillation, labels |" in printed


@needs_kernels
def test_sweep(tmp_path):
    found, printed = results("benchmarks.sweep", tmp_path)
    forms = {result["case"]["form"] for result in found}
    assert forms >= {"float16", "bfloat16", "float64", "float32 channels_last"}
    assert {result["case"]["shape"][1] for result in found} >= {2, 19, 150, 1000}
    assert {len(result["case"]["shape"]) for result in found} == {4, 5}
    for result in found:
        assert result["name"] in printed
        assert [row["name"] for row in result["rows"]] == ["peak memory", "floor", "naive, eager"]


@needs_kernels
def test_a_selection_that_selects_nothing_is_an_error():
    done = run("benchmarks.cpu", "--quick", "--allocator", "warm", "--only", "a case")
    assert done.returncode == 2
    assert "no case has 'a case' in its name" in done.stderr


def test_naive_distillation_is_equation_17():
    """What the benchmark compares with computes the same."""
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn((2, 2, 5, 8, 6), generator=generator)
    labels = torch.randint(5, (2, 8, 6), generator=generator)
    expected = jml.JaccardDistillationLoss(backend="reference")(student, labels, teacher)
    torch.testing.assert_close(naive_jaccard_distillation_loss(student, labels, teacher), expected)
