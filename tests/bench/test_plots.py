"""Plots of rows that nobody measured."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import pytest

from jml_kernels.bench import plots
from jml_kernels.bench.cases import BenchmarkCase
from jml_kernels.bench.growth import along
from jml_kernels.extras import MissingPackageError

CASE = BenchmarkCase((2, 3, 64, 32))
TIMES = {"cpu": (1e-3, 2e-3), "mine:loss": (1e-2, 1e-2), "metric": (1e-4, None)}


@pytest.fixture
def figures(monkeypatch) -> list:
    """Those that are made."""
    pytest.importorskip("matplotlib")
    made, make = [], plots._figure

    def figure(**options):
        made.append(make(**options))
        return made[-1]

    monkeypatch.setattr(plots, "_figure", figure)
    monkeypatch.setattr(plots, "DPI", 40)
    return made


def results(make_row, **changed) -> tuple[list[dict], dict[str, list[dict]]]:
    def rows(cases: list[BenchmarkCase]) -> list[dict]:
        return [make_row(case, TIMES, **changed) for case in cases]

    cases = [CASE, BenchmarkCase(CASE.shape, "soft", dtype="float16")]
    return rows(cases), {axis: rows(along(axis, CASE)) for axis in ("classes", "batch")}


@pytest.mark.parametrize(("suffix", "begins"), [("PNG", b"\x89PNG"), ("svg", b"<?xml")])
def test_files(suffix, begins, figures, make_row, tmp_path):
    file = tmp_path / f"plots.{suffix}"
    plots.check(file)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plots.save(*results(make_row), file)
    assert file.read_bytes().startswith(begins)


def test_what_is_drawn(figures, make_row, tmp_path):
    plots.save(*results(make_row), tmp_path / "plots.svg")
    time, memory, limit, capacity = figures[0].axes

    def lines(axis) -> dict[str, int]:
        return {line.get_label(): len(line.get_xdata()) for line in axis.lines}

    # A metric has no time of forward and backward.
    assert lines(time) == {"cpu": 8, "mine:loss": 8}
    assert list(time.lines[0].get_ydata()) == pytest.approx([3.0] * 8)  # ms
    assert lines(memory) == dict.fromkeys(TIMES, 4)
    assert list(memory.lines[0].get_xdata()) == [1, 2, 4, 8]
    assert lines(capacity) == dict.fromkeys(TIMES, len(plots.MEMORIES))
    labels = [label.get_text() for label in limit.get_yticklabels()]
    assert labels == ["2x3x64x32 float32\nlabels", "2x3x64x32 float16\nsoft target"]
    # Copies take 1 ms, and 1.5 of them move as much as a step with labels.
    assert limit.patches[0].get_width() == pytest.approx(50)
    assert "default allocator" in figures[0].get_suptitle()


def test_what_is_wrong_is_not_drawn(figures, make_row, tmp_path):
    plots.save(*results(make_row, wrong={"mine:loss": "why"}), tmp_path / "plots.svg")
    for axis in figures[0].axes:
        assert "mine:loss" not in axis.get_legend_handles_labels()[1]
        assert "cpu" in axis.get_legend_handles_labels()[1]


def test_one_setting_of_the_allocator(figures, make_row, tmp_path):
    rows, sweeps = results(make_row)
    both = rows + [row | {"allocator": "warm"} for row in rows]
    plots.save(both, sweeps, tmp_path / "plots.svg")
    assert len(figures[0].axes[2].get_yticklabels()) == len(rows)


def test_a_sweep_of_one_place_is_not_drawn(figures, make_row, tmp_path):
    rows, sweeps = results(make_row)
    plots.save(rows, sweeps | {"batch": []}, tmp_path / "plots.svg")
    time, memory, limit, capacity = figures[0].axes
    assert time.lines
    assert limit.patches
    assert not memory.lines
    assert not capacity.lines


@pytest.mark.parametrize("name", ["plots.xyz", "plots", "png"])
def test_format_that_is_not_known(name, figures):
    with pytest.raises(ValueError, match=rf"^--plot='{name}': expected a name that ends in .*png"):
        plots.check(Path(name))


def test_without_matplotlib(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'jml-kernels\[plot\]'"):
        plots.check(Path("plots.png"))
