"""The commands of `jml-kernels`, one module for each. They need the extra "cli"; the entry point,
which says so, is `jml_kernels.__main__`."""

from __future__ import annotations

from typing import Annotated

import typer

from .. import __version__
from . import bench, check, info, train
from .multivalue import MultiValueCommand

app = typer.Typer(
    help="Jaccard Metric Losses, fused: see what runs here, check that it is right, measure what "
    "it costs, and watch a training run.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_show_locals=False,
)
app.command()(info.info)
app.command(cls=MultiValueCommand)(check.check)
app.command(cls=MultiValueCommand)(bench.bench)
app.command()(train.train)


def _print_version(is_asked_for: bool) -> None:
    if is_asked_for:
        typer.echo(f"jml-kernels {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Options of every command."""
