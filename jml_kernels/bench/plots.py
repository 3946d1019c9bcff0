"""Four plots of one run: time against classes, memory against batch, the share of the limit, and
the largest batch that fits."""

from __future__ import annotations

from pathlib import Path

from ..extras import import_extra
from .figures import whole
from .growth import BATCH, CLASSES, largest_batch, place
from .report import GIB, setting

MIB = 2**20
DPI = 150
#: GiB, as GPUs have it.
MEMORIES = (4, 8, 16, 24, 40, 80)


def check(file: Path) -> None:
    """Raise, before anything is measured, a MissingPackageError without matplotlib, and a
    ValueError for a format that it does not know."""
    known = _figure().canvas.get_supported_filetypes()
    if file.suffix.removeprefix(".").lower() not in known:
        expected = ", ".join(known)
        raise ValueError(f"--plot={str(file)!r}: expected a name that ends in one of {expected}")


def _figure(**options):
    return import_extra("matplotlib.figure", "plot").Figure(**options)


def save(rows: list[dict], sweeps: dict[str, list[dict]], file: Path) -> None:
    """Draw and write.

    Args:
        rows: of the cases, whose shares of the limit are drawn; of several settings of the
            allocator, the first.
        sweeps: rows by axis, of classes and of the batch at least.
        file: its suffix says the format, as matplotlib knows it.
    """
    rows = [row for row in rows if setting(row) == setting(rows[0])]
    figure = _figure(figsize=(12, 8.5), layout="constrained")
    axes = figure.subplots(2, 2)
    for axis, draw, drawn in (
        (axes[0, 0], _time, sweeps[CLASSES]),
        (axes[0, 1], _memory, sweeps[BATCH]),
        (axes[1, 0], _limit, rows),
        (axes[1, 1], _capacity, sweeps[BATCH]),
    ):
        if drawn:
            draw(axis, drawn)
        else:  # one image may be as large as a sweep may get
            axis.text(0.5, 0.5, "not measured: one place only", ha="center")
            axis.set_axis_off()
    figure.suptitle(f"Forward and backward of a loss ({setting(rows[0])})")
    figure.savefig(file, dpi=DPI)


def _names(rows: list[dict]) -> list[str]:
    """Who ran and was right, at every place in the same order and colour."""
    every = dict.fromkeys(name for row in rows for name in row["figures"])
    return [name for name in every if not any(name in row["wrong"] for row in rows)]


def _lines(axis, rows: list[dict], along: str, value) -> None:
    for i, name in enumerate(_names(rows)):
        points = [(place(along, row), value(row, name)) for row in rows if name in row["figures"]]
        points = [point for point in points if point[1] is not None]
        axis.plot(*zip(*points, strict=True), marker="o", markersize=3, color=f"C{i}", label=name)
    axis.legend(fontsize=7)
    axis.grid(alpha=0.3)


def _of(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def _time(axis, rows: list[dict]) -> None:
    def milliseconds(row, name):
        step = row["figures"][name].get(whole(row))
        return step and 1e3 * step["seconds"]["median"]

    _lines(axis, rows, CLASSES, milliseconds)
    axis.set_xscale("log", base=2)
    axis.set_yscale("log")
    shape = rows[0]["case"]["shape"]
    axis.set(xlabel="classes", ylabel="ms", title=f"Time, {shape[0]}xCx{_of(shape[2:])}")


def _memory(axis, rows: list[dict]) -> None:
    _lines(axis, rows, BATCH, lambda row, name: row["figures"][name]["peak bytes"] / MIB)
    axis.set_ylim(bottom=0)
    shape = rows[0]["case"]["shape"]
    axis.set(xlabel="images", ylabel="MiB", title=f"Memory beside the inputs, Nx{_of(shape[1:])}")


def _limit(axis, rows: list[dict]) -> None:
    """Bars: a group for each case."""
    names = _names(rows)
    height = 0.8 / max(len(names), 1)
    for i, name in enumerate(names):
        shares = [
            100 * row["figures"].get(name, {}).get(whole(row), {}).get("share", 0) for row in rows
        ]
        places = [at + i * height for at in range(len(rows))]
        axis.barh(places, shares, height=height, color=f"C{i}", label=name)
    axis.set_yticks([at + 0.4 - height / 2 for at in range(len(rows))])
    cases = [row["case"] for row in rows]
    words = [f"{case['size']} {case['form']}\n{case['kind']}" for case in cases]
    axis.set_yticklabels(words, fontsize=7)
    axis.invert_yaxis()
    axis.legend(fontsize=7)
    axis.set(xlabel="%", title="Share of the limit: a copy of the bytes that cannot be avoided")


def _capacity(axis, rows: list[dict]) -> None:
    for i, name in enumerate(_names(rows)):
        images = [largest_batch(rows, name, memory * GIB) for memory in MEMORIES]
        axis.plot(MEMORIES, images, marker="o", markersize=3, color=f"C{i}", label=name)
    axis.legend(fontsize=7)
    axis.grid(alpha=0.3)
    shape = rows[0]["case"]["shape"]
    axis.set(
        xlabel="GiB for inputs and loss",
        ylabel="images",
        title=f"Largest batch, Nx{_of(shape[1:])}",
    )
