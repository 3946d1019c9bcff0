"""Tables for the terminal."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from rich.console import Group
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from .competitors import find
from .figures import whole
from .growth import LETTERS, growths, largest_batch, place
from .timing import BACKWARD, FORWARD, STEP

GIB = 2**30


def number(value: float | None) -> str:
    """A number in about three digits."""
    if value is None:
        return "-"
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def duration(seconds: float) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= 0.9995 * size:  # 1.00 of a unit, not 1000 of the next
            return f"{number(seconds / size)} {unit}"
    return f"{number(seconds / 1e-9)} ns" if seconds > 0 else "0"


def setting(row: dict) -> str:
    """Where a row was measured."""
    return "GPU" if row["device"] == "cuda" else f"CPU, {row['allocator']} allocator"


def table(row: dict) -> Group:
    """The table of one case. Behind the median of a time stands half of the distance of its
    quartiles."""
    made = _table(f"{row['name']} ({setting(row)})")
    made.add_column("", overflow="fold")
    for head in (FORWARD, BACKWARD, "both", "x", "quartiles", "GB/s", "limit", "memory"):
        several = head in (FORWARD, BACKWARD, "both", "quartiles")  # words
        made.add_column(head, justify="right", overflow="fold", no_wrap=not several)
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
    copied = number(row["copy bytes per second"] / 1e9)
    made.add_row("a copy", *["-"] * 5, copied, "100%", "-", style="dim")
    return Group(made, *map(Text, notes(row)))


def _table(title: str) -> Table:
    """A table whose lines break on a narrow terminal, so that nothing is lost."""
    return Table(
        title=title,
        title_justify="left",
        title_style="bold",
        min_width=len(title),
        collapse_padding=True,
    )


def _time(part: dict | None) -> str:
    if part is None:
        return "-"
    seconds = part["seconds"]
    half = (seconds["high"] - seconds["low"]) / 2 / seconds["median"]
    return f"{duration(seconds['median'])} ±{half:.0%}"


def notes(row: dict) -> list[str]:
    """What is wrong or left out, and how far from ours a loss of the user's is."""
    distances = [
        f"  {name} differs from ours by {_error(of['loss'])} (loss)"
        + (f" and {_error(of['gradient'])} (gradient, relative)" if "gradient" in of else "")
        for name, of in row["errors"].items()
        if ":" in name
    ]
    return failures(row) + distances


def failures(row: dict) -> list[str]:
    """What is wrong or left out."""
    wrong = {name: why.removeprefix(f"{name}: ") for name, why in row["wrong"].items()}
    return [
        *(f"  WRONG: {name}: {why}" for name, why in wrong.items()),
        *(f"  {name} is left out: {why}" for name, why in row["left out"].items()),
    ]


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
    "the worst moment beside the inputs, gradient included, as a multiple of the logits, which are "
    "those of lower resolution where they are upsampled."
)


def growth_table(rows: list[dict], axis: str, known: Collection[str] = ()) -> Group:
    """Of rows along an axis: times of a step at each place, and how they grow; who was wrong or
    left out, and why.

    Args:
        known: lines of `failures` that need not be told again.
    """
    made = _table(f"How it grows with {axis}, from {rows[0]['name']} ({setting(rows[0])})")
    by_name = growths(rows, axis)
    made.add_column(axis, no_wrap=True)
    for name in by_name:
        made.add_column(escape(name), justify="right", overflow="fold")
    for row in rows:
        made.add_row(str(place(axis, row)), *(_step(row, name) for name in by_name))
    made.add_section()
    letter = LETTERS[axis]
    made.add_row(
        "grows as", *(f"{letter}^{round(of.exponent, 2) + 0:.2f}" for of in by_name.values())
    )
    made.add_row("fixed", *(duration(of.fixed) for of in by_name.values()))
    made.add_row(f"per {letter}", *(duration(of.each) for of in by_name.values()))
    told = dict.fromkeys(note for row in rows for note in failures(row))
    return Group(made, *(Text(note) for note in told if note not in known))


def _step(row: dict, name: str) -> str:
    if name in row["wrong"]:
        return "WRONG"
    step = row["figures"].get(name, {}).get(whole(row))
    return duration(step["seconds"]["median"]) if step else "-"


def capacity_table(rows: list[dict], memory: float) -> Table:
    """The largest batch that fits, by competitor."""
    shape = "x".join(map(str, rows[0]["case"]["shape"][1:]))
    size = f"{memory / GIB:g} GiB"
    made = _table(f"Images of {shape} in {size}, with all that a step of the loss holds")
    made.add_column("", overflow="fold")
    made.add_column("largest batch", justify="right")
    wrong = {name for row in rows for name in row["wrong"]}
    for name in dict.fromkeys(name for row in rows for name in row["figures"]):
        most = "WRONG" if name in wrong else str(largest_batch(rows, name, memory))
        made.add_row(escape(name), most)
    return made


def machine(of: dict[str, dict[str, str]]) -> str:
    """What figures were measured on, in a line."""
    parts = {"CPU": of["processor"], "GPU": of.get("GPU", {})}
    told = [
        f"{name}: " + ", ".join(f"{what} {value}" for what, value in part.items())
        for name, part in parts.items()
        if part
    ]
    packages = {"torch": of["versions"]["torch"], **of.get("peers", {})}
    return "; ".join([*told, ", ".join(f"{name} {version}" for name, version in packages.items())])
