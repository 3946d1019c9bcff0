"""What was found: a table, a list of failures, and JSON."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

from rich.console import Group
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from .results import Failure, Measure, Report, Row

# ---- on a terminal -------------------------------------------------------------------------------


def number(value: float) -> str:
    """Counts as they are, others with two digits."""
    if isinstance(value, int) or value == 0:
        return f"{value:,.0f}"
    return f"{value:.1e}".replace(".0e", "e")


def table(report: Report) -> Table:
    found = Table(title="Checks", title_justify="left")
    for head in ("Backend", "Check", "Passed", "Failed", "Worst error, of what is allowed"):
        found.add_column(head, justify="right" if head in ("Passed", "Failed") else "left")
    previous = None
    for row in report.rows:
        if previous not in (None, row.backend):
            found.add_section()
        found.add_row(_subject(row) if row.backend != previous else "", *_cells(row))
        previous = row.backend
    return found


def _subject(row: Row) -> str:
    return f"{row.backend}\n[dim]{row.where}[/]" if row.where else row.backend


def _cells(row: Row) -> tuple[str, ...]:
    failed = f"[bold red]{row.failed}[/]" if row.failed else "0"
    if row.skipped is None:
        return row.check, str(row.passed), failed, "\n".join(map(_worst, row.worst))
    if row.failed:
        return row.check, "", failed, f"[red]cannot run:[/] {escape(row.skipped)}"
    return row.check, "", "", f"[yellow]skipped:[/] {escape(row.skipped)}"


def _worst(measure: Measure) -> str:
    what = measure.what.removesuffix(" error")
    text = f"{what} {number(measure.found)} of {number(measure.allowed)}"
    return text if measure.holds else f"[red]{text}[/]"


def failures(report: Report) -> Group:
    """One paragraph each."""
    return Group(*(_paragraph(failure) for failure in report.failures))


def _paragraph(failure: Failure) -> Text:
    names = (failure.backend, failure.check, failure.case)
    text = Text(", ".join(name for name in names if name), style="bold red")
    text.append(f"\n  found     {failure.found}\n  expected  {failure.expected}", style="default")
    return text


# ---- JSON ----------------------------------------------------------------------------------------


def to_json(
    report: Report, machine: dict[str, object], quick: bool, seconds: float
) -> dict[str, object]:
    """Standard JSON: what is no number is null. `machine`: of `machine.describe`."""
    return {
        "machine": machine,
        "quick": quick,
        "seconds": round(seconds, 1),
        "passed": report.holds,
        "rows": [_row(row) for row in report.rows],
        "failures": [dataclasses.asdict(failure) for failure in report.failures],
    }


def _row(row: Row) -> dict[str, object]:
    worst = [
        {name: _finite(value) for name, value in measure._asdict().items()} for measure in row.worst
    ]
    return dataclasses.asdict(row) | {"worst": worst}


def _finite(value: object) -> object:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def rows_and_failures(found: dict) -> Iterator[tuple[Row, list[Failure]]]:
    """Back from `to_json`."""
    failures = [Failure(**failure) for failure in found["failures"]]
    for values in found["rows"]:
        worst = [
            Measure(one["what"], math.nan if one["found"] is None else one["found"], one["allowed"])
            for one in values["worst"]
        ]
        row = Row(**values | {"worst": tuple(worst)})
        yield row, [one for one in failures if (one.backend, one.check) == (row.backend, row.check)]
