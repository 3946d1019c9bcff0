"""What the scripts share: options, workers one after the other, tables as they come, files."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from . import report
from .allocators import SETTINGS
from .suites import SUITES
from .worker import Settings, WorkerError, messages

_TOO_SMALL = "--quick: the inputs are too small for the ratios to mean anything"


def run(suite: str, description: str, default_allocator: str = "both", rounds: int = 11) -> None:
    """The command line of a script: `suite` is a name of `SUITES`."""

    def command(
        allocator: Annotated[
            str, typer.Option(help=f"One of {', '.join(SETTINGS)}, or both.")
        ] = default_allocator,
        rounds: Annotated[
            int, typer.Option(min=2, help="Rounds; a ratio is the median of theirs.")
        ] = rounds,
        threads: Annotated[int, typer.Option(min=1, help="Threads of every competitor.")] = 2,
        only: Annotated[
            list[str],
            typer.Option(help="Only cases whose name has this; all, where it is repeated."),
        ] = [],  # noqa: B006, typer copies it
        json: Annotated[
            Path | None, typer.Option(help="Write machine, settings and all turns here.")
        ] = None,
        markdown: Annotated[
            bool, typer.Option("--markdown", help="Print tables for README.md at the end.")
        ] = False,
        quick: Annotated[
            bool, typer.Option("--quick", help="Tiny inputs: shows that it runs, no more.")
        ] = False,
        compile: Annotated[bool, typer.Option(help="Whether torch.compile takes part.")] = True,
    ) -> None:
        session(suite, allocator, rounds, threads, only, json, markdown, quick, compile)

    command.__doc__ = description
    typer.run(command)


def session(
    suite: str,
    allocator: str,
    rounds: int,
    threads: int,
    only: list[str],
    json_file: Path | None,
    print_markdown: bool,
    quick: bool,
    with_compile: bool,
) -> None:
    """Measure, and print what came of it."""
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
