"""How far the runs are: bars on a terminal, a few lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

LINES_PER_RUN = 4

#: (title of the run, steps done, loss).
Report = Callable[[str, int, float], None]


@contextmanager
def follow(console: Console, titles: list[str], steps: int) -> Iterator[Report]:
    """Show runs of `steps` steps each, one after the other; yields what to call at each step."""
    if not console.is_terminal:
        yield _lines(console, max(map(len, titles)), steps)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TextColumn("{task.fields[loss]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        total = progress.add_task("[bold]all runs", total=steps * len(titles), loss="")
        tasks = {t: progress.add_task(t, total=steps, loss="", start=False) for t in titles}

        def report(title: str, step: int, loss: float) -> None:
            if step == 1:
                progress.start_task(tasks[title])
            progress.update(tasks[title], completed=step, loss=f"loss {loss:.3f}")
            progress.advance(total)

        yield report


def _lines(console: Console, width: int, steps: int) -> Report:
    start = time.perf_counter()
    shown = {steps * part // LINES_PER_RUN for part in range(1, LINES_PER_RUN + 1)}

    def report(title: str, step: int, loss: float) -> None:
        if step in shown:
            elapsed = time.perf_counter() - start
            line = f"{title:<{width}}  step {step:>4}/{steps}  loss {loss:.3f}  {elapsed:4.0f} s"
            console.print(line, highlight=False)

    return report
