"""Tables for the terminal."""

from __future__ import annotations

import re
from io import StringIO

import pytest
from rich.console import Console

from jml_kernels.bench import report
from jml_kernels.bench.cases import BenchmarkCase
from jml_kernels.bench.growth import AXES, along

CASE = BenchmarkCase((2, 3, 64, 32), dtype="float16")
TIMES = {
    "cpu": (1.5e-3, 2.5e-3),
    "eager": (10e-3, 30e-3),
    "torchmetrics-jaccard": (123e-6, None),
}


def printed(*what, width: int = 120) -> str:
    console = Console(width=width, file=StringIO())
    console.print(*what, highlight=False)
    return console.file.getvalue()


def cells(text: str, name: str) -> list[str]:
    """Of the line of a table that begins with a name."""
    (line,) = (line for line in text.splitlines() if re.match(rf"│\s*{re.escape(name)}\s*│", line))
    return [cell.strip() for cell in line.strip("│").split("│")]


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "-"), (0.123, "0.12"), (9.99, "9.99"), (10.04, "10.0"), (123.4, "123")],
)
def test_number(value, text):
    assert report.number(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (2.5, "2.50 s"),
        (0.0123, "12.3 ms"),
        (0.99999e-3, "1.00 ms"),
        (4.56e-6, "4.56 us"),
        (7e-9, "7.00 ns"),
        (0.0, "0"),
    ],
)
def test_duration(seconds, text):
    assert report.duration(seconds) == text


def test_table(make_row):
    row = make_row(CASE, TIMES, copies=[2e-3] * 3, allocator="warm")
    text = printed(report.table(row))
    assert text.startswith(f"{CASE.name} (CPU, warm allocator)")
    gb = 3 * CASE.bytes / 4e-3 / 1e9
    assert cells(text, "cpu")[1:] == [
        "1.50 ms ±0%",
        "2.50 ms ±0%",
        "4.00 ms ±0%",
        "1.00",
        "1.00 to 1.00",
        f"{gb:.2f}",
        "75%",  # 1.5 copies of the logits are 3 ms
        "1.00",
    ]
    assert cells(text, "eager")[3:6] == ["40.0 ms ±0%", "10.0", "10.0 to 10.0"]
    # Forward only: it is compared with a forward.
    found = cells(text, "torchmetrics-jaccard")
    assert found[1:5] == ["123 us ±0%", "-", "-", "0.08"]
    # The limit itself: logits are read and written in 2 ms.
    assert cells(text, "a copy")[6:8] == [f"{2 * CASE.bytes / 2e-3 / 1e9:.2f}", "100%"]


def test_half_of_the_distance_of_quartiles(make_row):
    row = make_row(CASE, TIMES)
    row["figures"]["cpu"]["step"]["seconds"] = {"median": 2.0, "low": 1.8, "high": 2.6}
    assert cells(printed(report.table(row)), "cpu")[3] == "2.00 s ±20%"


def test_gpu(make_row):
    row = make_row(CASE, TIMES)
    assert report.setting(row | {"device": "cuda"}) == "GPU"


def test_of_what_is_wrong_no_time_is_told(make_row):
    wrong = {"eager": "eager: error of the loss is 1.00e-01, allowed 1e-04"}
    text = printed(report.table(make_row(CASE, TIMES, wrong=wrong)))
    assert cells(text, "eager")[1:] == ["WRONG", *[""] * 7]
    assert "  WRONG: eager: error of the loss is 1.00e-01, allowed 1e-04" in text.splitlines()
    assert "40.0 ms" not in text
    assert "4.00 ms" in text


def test_who_was_not_checked_is_named(make_row):
    text = printed(report.table(make_row(CASE, TIMES, wrong={"eager": "not checked: no memory"})))
    assert "  WRONG: eager: not checked: no memory" in text.splitlines()


def test_notes(make_row):
    errors = {
        "cpu": {"loss": 1e-9, "gradient": 1e-9},
        "mine:loss": {"loss": 0.25, "gradient": float("nan")},
        "mine:other": {"loss": float("inf"), "gradient": 0.5},
    }
    left_out = {"triton": "there is no GPU [pip install 'x[y]']"}
    row = make_row(CASE, TIMES, errors=errors, left_out=left_out)
    assert report.notes(row) == [
        "  triton is left out: there is no GPU [pip install 'x[y]']",
        "  mine:loss differs from ours by 2.5e-01 (loss) and NaN (gradient, relative)",
        "  mine:other differs from ours by NaN (loss) and 5.0e-01 (gradient, relative)",
    ]
    text = printed(report.table(row))
    assert all(note in text.splitlines() for note in report.notes(row))


def test_nobody_ran(make_row):
    text = printed(report.table(make_row(CASE, {}, left_out={"cpu": "why"})))
    assert "cpu is left out: why" in text


@pytest.mark.parametrize("width", [80, 100])
def test_a_narrow_terminal_breaks_lines_and_loses_nothing(width, make_row):
    times = {"cpu": (0.1234, 0.5678), "monai-jaccard-soft": (12.34, 98.76), "eager": (1.0, 2.0)}
    rows = [make_row(case, times) for case in along("batch", CASE)]
    text = printed(report.table(rows[0]), report.growth_table(rows, "batch"), width=width)
    assert "…" not in text
    wide = printed(report.table(rows[0]), report.growth_table(rows, "batch"))
    assert max(map(len, text.splitlines())) <= width

    def characters(text: str) -> list[str]:
        return sorted(re.sub(r"[\s━─│┃┏┓┗┛┳┻╇┡┩├┤┼┴┬└┘]", "", text))

    assert characters(text) == characters(wide)


def test_legend():
    text = printed(report.legend(["cpu", "cross-entropy", "math:sqrt"]))
    assert "backend cpu" in text
    assert "torch.nn.functional.cross_entropy" in text
    assert "a loss given by its import path" in text


# ---- growth --------------------------------------------------------------------------------------


def sweep(make_row, axis: str = "batch", **changed) -> list[dict]:
    """A step of 1 ms, and 2 ms more for each image; another of 3 ms whatever there is."""
    rows = []
    for case in along(axis, CASE):
        n = case.shape[0]
        times = {"cpu": (1e-3, n * 2e-3), "math:sqrt": (1e-3, 2e-3), "metric": (1.0, None)}
        rows.append(make_row(case, times))
    for row in rows:
        row.update(changed)
    return rows


def test_growth_table(make_row):
    text = printed(report.growth_table(sweep(make_row), "batch"))
    assert text.startswith("How it grows with batch, from 1x3x64x32 float16, labels (CPU, default")
    assert re.search(r"batch.*cpu.*math:sqrt", text)
    assert "metric" not in text
    assert cells(text, "1") == ["1", "3.00 ms", "3.00 ms"]
    assert cells(text, "8") == ["8", "17.0 ms", "3.00 ms"]
    assert re.fullmatch(r"N\^0\.8\d", cells(text, "grows as")[1])
    assert cells(text, "grows as")[2] == "N^0.00"
    assert cells(text, "fixed") == ["fixed", "1.00 ms", "3.00 ms"]
    assert cells(text, "per N")[1] == "2.00 ms"


@pytest.mark.parametrize(
    ("axis", "letter"),
    [("classes", "C"), ("pixels", "P"), ("batch", "N"), ("k", "k"), ("ratio", "r")],
)
def test_letters(axis, letter, make_row):
    text = printed(report.growth_table(sweep(make_row, axis), axis))
    assert f"per {letter}" in text
    assert len(AXES) == 5


def test_what_is_wrong_on_the_way_is_told(make_row):
    rows = sweep(make_row)
    rows[1]["wrong"] = rows[2]["wrong"] = {"cpu": "cpu: error of the loss is nan, allowed 1e-06"}
    rows[0]["left out"] = {"triton": "there is none"}
    text = printed(report.growth_table(rows, "batch"))
    assert cells(text, "2") == ["2", "WRONG", "3.00 ms"]
    assert "5.00 ms" not in text
    assert text.count("WRONG: cpu: error of the loss is nan") == 1
    assert "triton is left out: there is none" in text
    known = report.failures(rows[0])
    text = printed(report.growth_table(rows, "batch", known))
    assert "triton is left out" not in text
    assert "WRONG: cpu" in text


def test_who_is_wrong_everywhere_is_told(make_row):
    rows = sweep(make_row, wrong={"cpu": "not checked: no memory"})
    text = printed(report.growth_table(rows, "batch"))
    assert "3.00 ms" in text
    assert "17.0 ms" not in text
    assert "WRONG: cpu: not checked: no memory" in text


def test_capacity_table(make_row):
    rows = sweep(make_row)
    image = 64 * 32 * (2 * 3 * 2 + 8)  # logits and as much beside them, labels
    text = printed(report.capacity_table(rows, 1000 * image))
    assert "Images of 3x64x32 in" in text
    assert cells(text, "cpu") == ["cpu", "1000"]
    rows[2]["wrong"] = {"cpu": "why"}
    text = printed(report.capacity_table(rows, 2.5 * report.GIB))
    assert "in 2.5 GiB" in text
    assert cells(text, "cpu") == ["cpu", "WRONG"]
