"""What the scripts share: options, workers one after the other, tables as they come, files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from . import report
from .allocators import SETTINGS
from .suites import SUITES
from .worker import Settings, WorkerError, messages

Rounds = Annotated[int, typer.Option(min=2, help="Rounds; a ratio is the median of theirs.")]
Threads = Annotated[int, typer.Option(min=1, help="Threads of every competitor.")]
Only = Annotated[
    list[str], typer.Option(help="Only cases whose name has this; all, where it is repeated.")
]
Allocator = Annotated[str, typer.Option(help=f"One of {', '.join(SETTINGS)}, or both.")]
Json = Annotated[Path | None, typer.Option(help="Write machine, settings and all turns here.")]
Markdown = Annotated[bool, typer.Option(help="Print tables for README.md at the end.")]
Compile = Annotated[bool, typer.Option(help="Whether torch.compile takes part.")]
Quick = Annotated[bool, typer.Option(help="Tiny inputs: shows that it runs, no more.")]

_TOO_SMALL = "--quick: the inputs are too small for the ratios to mean anything"


def session(
    suite: str,
    *,
    allocator: str,
    rounds: int,
    threads: int,
    only: list[str],
    json_file: Path | None,
    print_markdown: bool,
    quick: bool,
    with_compile: bool = True,
) -> None:
    if allocator not in ("both", *SETTINGS):
        expected = ", ".join(("both", *SETTINGS))
        raise typer.BadParameter(f"--allocator {allocator!r}: expected one of {expected}")
    suite = f"{suite}, quick" if quick else suite
    rounds = 2 if quick else rounds
    if not SUITES[suite].chosen(only):
        raise typer.BadParameter(f"--only: no case has {' and '.join(map(repr, only))} in its name")
    console = Console()
    results, machine = [], {}
    try:
        for setting in SETTINGS if allocator == "both" else [allocator]:
            settings = Settings(suite, setting, rounds, threads, only, with_compile)
            machine = _run(settings, console, results)
    except WorkerError as error:
        console.print(error, style="red")
        raise typer.Exit(1) from error

    told = "  ".join(f"{key}: {value}" for key, value in machine.items())
    for text in (told, _TOO_SMALL if quick else report.summary(results)):
        console.print(text, highlight=False, soft_wrap=True)
    if print_markdown:
        print("\n" + report.markdown(results))
    if json_file:
        document = {"machine": machine, "rounds": rounds, "threads": threads, "results": results}
        json_file.write_text(json.dumps(document, indent=1))
        console.print(f"written: {json_file}")


def _run(settings: Settings, console: Console, results: list[dict]) -> dict[str, object]:
    """One worker: shows its tables, adds its results, returns the description of the machine."""
    machine = {}
    with console.status("starting") as status:
        for message in messages(settings):
            machine = message.get("machine", machine)
            if "doing" in message:
                status.update(message["doing"])
            if "result" in message:
                results.append(message["result"])
                console.print(report.table(message["result"]))
    return machine
