"""Tables: one a case in the terminal, one a setting of the allocator for README.md."""

from __future__ import annotations

from rich.table import Table

from .competitors import FLOOR, IN_PLACE
from .measure import MEMORY

_WORDS = {
    FLOOR: "fused / floor",
    IN_PLACE: "fused in place / fused",
    MEMORY: "fused",
}


def _label(name: str) -> str:
    return _WORDS.get(name, f"{name} / fused")


def _verdict(met: bool | None) -> str:
    return {None: "", True: "met", False: "NOT MET"}[met]


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def table(result: dict) -> Table:
    """Of one case: ratios of times with their quartiles, and peaks of memory over the logits'."""
    left_out = [f"{row['name']}: {row['note']}" for row in result["rows"] if row["note"]]
    title = f"{result['name']}, {result['allocator']} allocator"
    made = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        caption="; ".join(left_out) or None,
        caption_justify="left",
        min_width=len(title),  # a title is broken where the table ends
    )
    made.add_column("", no_wrap=True)
    for head in ("times", "quartiles", "goal", "", "memory"):
        made.add_column(head, justify="right", no_wrap=True)
    for row in result["rows"]:
        spread = f"{_number(row['low'])} to {_number(row['high'])}" if row["low"] else ""
        made.add_row(
            _label(row["name"]),
            _number(row["ratio"]) or ("-" if row["note"] else ""),
            spread,
            row["goal"] or "",
            _verdict(row["met"]),
            _number(row["peak"]),
            style="red" if row["met"] is False else None,
        )
    return made


def summary(results: list[dict]) -> str:
    """How many goals are met, and which are not."""
    rows = [(result, row) for result in results for row in result["rows"]]
    judged = [(result, row) for result, row in rows if row["met"] is not None]
    lines = [f"{sum(row['met'] for _, row in judged)} of {len(judged)} goals met"]
    for result, row in judged:
        if not row["met"]:
            memory = row["name"] == MEMORY
            what = "peak memory / logits" if memory else _label(row["name"])
            value = _number(row["peak"] if memory else row["ratio"])
            lines.append(
                f"  {result['name']}, {result['allocator']}: {what} is {value}, goal {row['goal']}"
            )
    return "\n".join(lines) if judged else "the design sets no goals for these cases"


def markdown(results: list[dict]) -> str:
    """Of all cases under one allocator each: rows are cases, columns what they are compared with.
    A goal that is missed is set in bold beside the ratio."""
    parts = []
    for allocator in dict.fromkeys(result["allocator"] for result in results):
        chosen = [result for result in results if result["allocator"] == allocator]
        names = dict.fromkeys(
            row["name"] for r in chosen for row in r["rows"] if row["ratio"] or row["peak"]
        )
        peaks = [name for name in names if name not in (MEMORY, FLOOR, IN_PLACE)]
        head = ["logits", "case", *(_label(n) for n in names if n != MEMORY)]
        head += [f"peak memory / logits: {_label(MEMORY)}", *peaks]
        lines = [f"| {' | '.join(head)} |", f"|{'---|' * 2}{'--:|' * (len(head) - 2)}"]
        for result in chosen:
            rows = {row["name"]: row for row in result["rows"]}
            cells = [f"{result['case']['size']} {result['case']['form']}", result["case"]["kind"]]
            cells += [_cell(rows.get(name)) for name in names if name != MEMORY]
            cells += [_peak(rows.get(name)) for name in (MEMORY, *peaks)]
            lines.append(f"| {' | '.join(cells)} |")
        parts.append(f"{allocator.capitalize()} allocator:\n\n" + "\n".join(lines))
    return "\n\n".join(parts)


def _cell(row: dict | None) -> str:
    if row is None or row["ratio"] is None:
        return "-"
    missed = f" (**goal {row['goal']}**)" if row["met"] is False else ""
    return _number(row["ratio"]) + missed


def _peak(row: dict | None) -> str:
    return _number(row["peak"]) if row and row["peak"] is not None else "-"
