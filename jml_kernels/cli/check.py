"""`jml-kernels check`: whether every backend is right on this machine."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from .. import parent
from ..backend import NAMES
from ..machine import describe
from ..selfcheck import report as in_words
from ..selfcheck.results import Row
from ..selfcheck.runner import run
from . import output


def check(
    backend: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME...",
            help=f"Backends to check, one or several of {', '.join(NAMES)}.",
            show_default="all that run here",
        ),
    ] = None,
    quick: Annotated[
        bool,
        typer.Option("--quick", help="Check a few cases of each sort only, which takes seconds."),
    ] = False,
    file: Annotated[
        Path | None,
        typer.Option(
            "--json",
            metavar="FILE",
            help="Write all that was measured to this file; -: to standard output, and the "
            "tables to standard error.",
            dir_okay=False,
        ),
    ] = None,
) -> None:
    """Check every backend on this machine: gradients, parity, repeatability, memory.

    Gradients against finite differences in float64; loss and gradient against the reference in
    float64, over dtypes, layouts, targets, options and shapes; the same bits twice and on any
    number of threads; bad input; torch.compile; peak memory; and on a GPU that the host never
    waits, CUDA graphs and streams. Under a minute on two cores.

    `--backend triton` runs Triton's kernels where there is no GPU too, through its interpreter, on
    fewer and smaller cases.

    Exit status 1: a check failed, a backend that was asked for cannot run, or the file could not
    be written.
    """
    parent.end_where_asked()
    names = _names(backend or [])
    try:
        output.check_file("--json", file)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    console, started = output.console(file), time.perf_counter()
    machine = describe()  # while a GPU still answers, whatever a kernel does to it
    with _follow(console) as progress:
        report = run(names, quick, progress)
    seconds = time.perf_counter() - started
    console.print(in_words.table(report))
    if report.failures:
        console.print(in_words.failures(report))
    console.print(_verdict(len(report.failures), seconds))
    is_written = True
    if file is not None:
        is_written = output.write_json(
            in_words.to_json(report, machine, quick, seconds), file, console
        )
    if not (report.holds and is_written):
        raise typer.Exit(1)


def _names(given: list[str]) -> list[str]:
    """The backends that are named, each once, in the order given. A comma may separate them too."""
    names = [name for word in given for name in word.replace(",", " ").split()]
    for name in names:
        if name not in NAMES:
            raise typer.BadParameter(
                f"{name!r}: expected one of {', '.join(NAMES)}", param_hint="--backend"
            )
    return list(dict.fromkeys(names))


def _verdict(failures: int, seconds: float) -> str:
    if not failures:
        return f"[green]Nothing failed[/], {seconds:.0f} s"
    return f"[bold red]{failures} failure{'s' * (failures > 1)}[/], {seconds:.0f} s"


class _Follow:
    """Shows bars on a terminal, and prints a line for each check elsewhere."""

    def __init__(self, console: Console, bars: Progress):
        self.console = console
        self.bars = bars
        self.task = bars.add_task("", total=None, case="")

    def start(self, what: str, count: int | None) -> None:
        self.bars.reset(self.task, description=what, total=count, case="")

    def step(self, case: str) -> None:
        # The first of n begins when none is done.
        task = self.bars.tasks[self.task]
        self.bars.update(self.task, advance=1 if task.fields["case"] else 0, case=case)

    def done(self, row: Row) -> None:
        if self.console.is_terminal or row.skipped is not None:
            return
        failed = f", {row.failed} failed" if row.failed else ""
        self.console.print(f"{row.backend}: {row.check}: {row.passed} passed{failed}")


@contextmanager
def _follow(console: Console) -> Iterator[_Follow]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[case]}"),
    )
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bars:
        yield _Follow(console, bars)
