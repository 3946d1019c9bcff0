"""Options with several values behind."""

from __future__ import annotations

from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from jml_kernels.cli.multivalue import MultiValueCommand, repeat_options

REPEATABLE = {"--a", "--b"}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("", ""),
        ("--a x", "--a x"),
        ("--a x y z", "--a x --a y --a z"),
        ("--a x y --b z", "--a x --a y --b z"),
        # An option between, with a word and without.
        ("--a x --one 1 --a y z", "--a x --one 1 --a y --a z"),
        ("--flag --a x y", "--flag --a x --a y"),
        ("--a x y --flag", "--a x --a y --flag"),
        ("--a x --a y", "--a x --a y"),
        # Behind the sign of equality stands the first.
        ("--a=x", "--a=x"),
        ("--a=x y z", "--a=x --a y --a z"),
        ("--a=x=1 y=2", "--a=x=1 --a y=2"),
        ("--one=1 --a x", "--one=1 --a x"),
        # Words behind other options stay what they are, to be refused.
        ("--one 1 2", "--one 1 2"),
        ("--flag x", "--flag x"),
        ("--unknown x y", "--unknown x y"),
        ("--a x --unknown y z", "--a x --unknown y z"),
        # A word that begins with a dash is an option, or the word of one.
        ("--one -1 --a x", "--one -1 --a x"),
        ("--a -1", "--a -1"),
        ("--a x -1", "--a x -1"),
        ("--ab x y", "--ab x y"),
        ("x y", "x y"),
        ("--a", "--a"),
    ],
)
def test_repeat_options(given, expected):
    assert repeat_options(given.split(), REPEATABLE) == expected.split()


def test_words_with_spaces_and_empty_words():
    assert repeat_options(["--a", "x y", ""], REPEATABLE) == ["--a", "x y", "--a", ""]


# ---- in a command --------------------------------------------------------------------------------

app = typer.Typer()


@app.command(cls=MultiValueCommand)
def show(
    several: Annotated[list[str], typer.Option("--several", "-s")] = ["default"],  # noqa: B006
    number: Annotated[list[float], typer.Option()] = [],  # noqa: B006
    one: Annotated[int, typer.Option()] = 0,
    flag: Annotated[bool, typer.Option("--flag")] = False,
) -> None:
    """Prints what it is given."""
    typer.echo(f"{several} {number} {one} {flag}")


def run(given: str):
    return CliRunner().invoke(app, given.split(), env={"COLUMNS": "200", "TERM": "dumb"})


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("", "['default'] [] 0 False"),
        ("--several x y", "['x', 'y'] [] 0 False"),
        ("-s x y --several z", "['x', 'y', 'z'] [] 0 False"),
        ("--several=x y --flag --one -3", "['x', 'y'] [] -3 True"),
        ("--number 1 2.5 --several x", "['x'] [1.0, 2.5] 0 False"),
        ("--number -1 --number -2", "['default'] [-1.0, -2.0] 0 False"),
    ],
)
def test_command(given, expected):
    result = run(given)
    assert result.exit_code == 0, result.output
    assert result.output.strip() == expected


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ("--one 1 2", "2"),
        ("--flag x", "x"),
        ("x", "x"),
        ("--several x --sevral y z", "--sevral"),
        ("--number 1 -2", "-2"),
        ("--number 1 x", "--number"),
        ("--several", "requires an argument"),
    ],
)
def test_what_is_refused(given, why):
    result = run(given)
    assert result.exit_code == 2
    assert why in result.output
