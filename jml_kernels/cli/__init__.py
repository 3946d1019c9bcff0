"""The command line: `jml-kernels`, also `python -m jml_kernels`. One module for each command."""

from __future__ import annotations

from typing import Annotated

import typer

from .. import __version__
from . import bench, check, info, train
from .many import Many

app = typer.Typer(
    help="Jaccard Metric Losses, fused: what runs here, whether it is right, what it costs, and a "
    "training run to see it.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_show_locals=False,
)
app.command()(info.info)
app.command(cls=Many)(check.check)
app.command(cls=Many)(bench.bench)
app.command()(train.train)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"jml-kernels {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print and leave."),
    ] = False,
) -> None:
    """Options of every command."""


def main() -> None:
    """The entry point."""
    app(prog_name="jml-kernels")
