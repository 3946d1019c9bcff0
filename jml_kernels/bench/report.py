"""Tables for the terminal."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Group
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from .competitors import find
from .growth import BATCH, CLASSES, PIXELS, WINDOW, growths, largest_batch, place
from .timing import BACKWARD, FORWARD, STEP

GIB = 2**30


def number(value: float | None) -> str:
    """Three digits or so."""
    if value is None:
        return "-"
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def duration(seconds: float) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= size:
            return f"{number(seconds / size)} {unit}"
    return f"{number(seconds / 1e-9)} ns" if seconds > 0 else "0"


def setting(row: dict) -> str:
    """Where a row was measured."""
    return "GPU" if row["device"] == "cuda" else f"CPU, {row['allocator']} allocator"


def table(row: dict) -> Group:
    """Of one case. The median of a time is followed by half of the distance of its quartiles."""
    title = f"{row['name']} ({setting(row)})"
    made = Table(title=title, title_justify="left", title_style="bold", min_width=len(title))
    made.add_column("", no_wrap=True)
    for head in (FORWARD, BACKWARD, "both", "x", "quartiles", "GB/s", "limit", "memory"):
        made.add_column(head, justify="right", no_wrap=True)
    for name, of in row["figures"].items():
        if name in row["wrong"]:
            made.add_row(name, "WRONG", style="red")
            continue
        whole = of.get(STEP) or of[FORWARD]
        times = whole["times"]
        made.add_row(
            escape(name),
            *(_time(of.get(part)) for part in (FORWARD, BACKWARD, STEP)),
            number(times["median"]) if times else "-",
            f"{number(times['low'])} to {number(times['high'])}" if times else "-",
            number(whole["bytes per second"] / 1e9),
            f"{whole['share']:.0%}",
            number(of["peak / logits"]),
            style="bold" if name == row["subject"] else None,
        )
    return Group(made, *map(Text, notes(row)))


def _time(part: dict | None) -> str:
    if part is None:
        return "-"
    seconds = part["seconds"]
    half = (seconds["high"] - seconds["low"]) / 2 / seconds["median"]
    return f"{duration(seconds['median'])} ±{half:.0%}"


def notes(row: dict) -> list[str]:
    """What is wrong or left out, and how far from ours a loss of the user's is."""
    found = [f"  WRONG: {why}" for why in row["wrong"].values()]
    for name, of in row["errors"].items():
        if ":" in name:
            found.append(
                f"  {name} differs from ours by {of['loss']:.1e} (loss) and "
                f"{_error(of['gradient'])} (gradient, relative)"
            )
    return found + [f"  {name} is left out: {why}" for name, why in row["left out"].items()]


def _error(value: float | None) -> str:
    return "NaN" if value is None else f"{value:.1e}"


def legend(names: Iterable[str]) -> Table:
    """What competitors compute, and what the columns say."""
    made = Table(show_header=False, box=None, title="Who takes part", title_justify="left")
    for name in names:
        made.add_row(escape(name), escape(find(name).what))
    return made


COLUMNS = (
    "x: time of forward and backward as a multiple of the first's, in the same round. GB/s: bytes "
    "that cannot be avoided (logits and dense targets read twice, the gradient written once), over "
    "the time of both. limit: the share of what this machine copies in a second. memory: held at "
    "the worst moment beside the inputs, gradient included, as a multiple of the logits."
)


def growth_table(rows: list[dict], axis: str) -> Table:
    """Of rows along an axis: times of a step at each place, and how they grow."""
    title = f"How it grows with {axis}, from {rows[0]['name']} ({setting(rows[0])})"
    made = Table(title=title, title_justify="left", title_style="bold", min_width=len(title))
    found = growths(rows, axis)
    made.add_column(axis, no_wrap=True)
    for name in found:
        made.add_column(escape(name), justify="right", no_wrap=True)
    for row in rows:
        steps = [row["figures"].get(name, {}).get(STEP) for name in found]
        times = [duration(step["seconds"]["median"]) if step else "-" for step in steps]
        made.add_row(str(place(axis, row)), *times)
    made.add_section()
    letter = {CLASSES: "C", PIXELS: "P", BATCH: "N", WINDOW: "k"}[axis]
    made.add_row("grows as", *(f"{letter}^{of.exponent:.2f}" for of in found.values()))
    made.add_row("fixed", *(duration(of.fixed) for of in found.values()))
    made.add_row(f"per {letter}", *(duration(of.each) for of in found.values()))
    return made


def capacity_table(rows: list[dict], memory: float) -> Table:
    """The largest batch that fits, by competitor."""
    shape = "x".join(map(str, rows[0]["case"]["shape"][1:]))
    title = f"Images of {shape} in {memory / GIB:g} GiB, with all that a step of the loss holds"
    made = Table(title=title, title_justify="left", title_style="bold", min_width=len(title))
    made.add_column("")
    made.add_column("largest batch", justify="right")
    for name in rows[0]["figures"]:
        made.add_row(escape(name), str(largest_batch(rows, name, memory)))
    return made


def machine(of: dict[str, dict[str, str]]) -> str:
    """What figures were measured on, in a line."""
    parts = {**of["processor"], **of.get("GPU", {}), "torch": of["versions"]["torch"]}
    return "Machine: " + ", ".join(f"{name} {value}" for name, value in parts.items())
