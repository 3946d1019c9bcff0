"""The fused losses on the CPU, forward and backward, against naive code (eager and under
torch.compile), torch's cross-entropy, other libraries, and the floor: the bytes that cannot be
avoided, at this machine's speed of copying.

    python -m benchmarks.cpu --help

Takes about half an hour with all suites. Run nothing beside it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from jml_kernels.bench import report
from jml_kernels.bench.session import Results, run
from jml_kernels.bench.worker import Settings, WorkerError
from jml_kernels.option_checks import check_choice

from .goals import summary
from .suites import SUITES, Suite, quick

RESULTS = Path(__file__).parent / "results" / "cpu.json"
#: Suites that have goals (goals.py).
JUDGED = ("jml", "objectives", "upsample")


def main(
    suite: Annotated[list[str], typer.Option(help=f"Of {', '.join(SUITES)}.")] = list(SUITES),  # noqa: B006
    rounds: Annotated[int, typer.Option(min=2, help="Figures are medians of theirs.")] = 9,
    threads: Annotated[int, typer.Option(min=1, help="Threads of every competitor.")] = 2,
    file: Annotated[
        Path, typer.Option("--json", help="Suites in it that are not measured stay.")
    ] = RESULTS,
    small: Annotated[
        bool, typer.Option("--quick", help="Tiny inputs: shows that it runs.")
    ] = False,
) -> None:
    """Measure suites of cases on the CPU, and write what is found."""
    console = Console(width=120)
    for name in suite:
        try:
            check_choice("--suite", name, tuple(SUITES))
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None
    for name in suite:
        chosen = quick(SUITES[name]) if small else SUITES[name]
        try:
            results = measure(chosen, 2 if small else rounds, threads, console)
        except WorkerError as error:
            console.print(error, style="red")
            raise typer.Exit(1) from error
        write(file, name, results, rounds, threads)
        wrong = [why for row in results.every_row() for why in row["wrong"].values()]
        if wrong:
            console.print("\n".join(wrong), style="red")
            raise typer.Exit(1)
        if name in JUDGED and not small:
            console.print("\n  ".join(summary(results.rows)), highlight=False)
    console.print(f"written: {file}")


def measure(suite: Suite, rounds: int, threads: int, console: Console) -> Results:
    settings = Settings(list(suite.cases), list(suite.competitors), rounds=rounds, threads=threads)
    with console.status("starting") as status:
        results = run(
            settings,
            list(suite.allocators),
            list(suite.axes),
            progress=lambda doing, done, total: status.update(f"{done} of {total}: {doing}"),
            on_row=lambda row: console.print(report.table(row), highlight=False),
        )
    for axis, rows in results.sweeps.items():
        console.print(report.growth_table(rows, axis), highlight=False)
    return results


def write(file: Path, suite: str, results: Results, rounds: int, threads: int) -> None:
    """Write the results without the turns and in four digits, which is what the pages need, and is
    small enough to be committed."""
    content = json.loads(file.read_text()) if file.exists() else {}
    for row in results.every_row():
        del row["turns"]
    content[suite] = {
        "machine": results.machine,
        "rounds": rounds,
        "threads": threads,
        "rows": results.rows,
        "growth": results.sweeps,
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(in_four_digits(content), indent=1) + "\n")


def in_four_digits(content: dict) -> dict:
    """As JSON keeps it, with every float rounded."""
    return json.loads(json.dumps(content), parse_float=lambda digits: float(f"{float(digits):.4g}"))


if __name__ == "__main__":
    typer.run(main)
