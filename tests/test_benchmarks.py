"""The benchmarks run and print every row. Nothing here is timed: the inputs are tiny."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import jml_kernels as jml

ROOT = Path(__file__).parents[1]
KINDS = {
    "labels",
    "labels, random",
    "boundary smoothing",
    "boundary smoothing, random",
    "soft target",
}

pytestmark = pytest.mark.skipif(
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
    assert "Default allocator:\n\n| logits | target | fused / floor" in printed
    assert "| 2x19x64x48 float32 | labels, random |" in printed


def test_sweep(tmp_path):
    found, printed = results("benchmarks.sweep", tmp_path)
    forms = {result["case"]["form"] for result in found}
    assert forms >= {"float16", "bfloat16", "float64", "float32 channels_last"}
    assert {result["case"]["shape"][1] for result in found} >= {2, 19, 150, 1000}
    assert {len(result["case"]["shape"]) for result in found} == {4, 5}
    for result in found:
        assert result["name"] in printed
        assert [row["name"] for row in result["rows"]] == ["peak memory", "floor", "naive, eager"]


def test_a_selection_that_selects_nothing_is_an_error():
    done = run("benchmarks.cpu", "--quick", "--allocator", "warm", "--only", "a case")
    assert done.returncode == 2
    assert "no case has 'a case' in its name" in done.stderr
