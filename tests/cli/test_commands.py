"""Every command starts, explains itself, and needs no more than it says."""

from __future__ import annotations

import subprocess
import sys

import pytest
from typer.testing import CliRunner

import jml_kernels as jml
from jml_kernels.cli import app

COMMANDS = {
    "check": ["--backend", "--quick", "--json"],
    "info": ["backends"],
    "train": ["--quick", "--out", "--seed", "--threads", "--steps"],
    "bench": [
        *("--shape", "--preset", "--dtype", "--layout", "--objective", "--labels"),
        *("--against", "--backend", "--device", "--threads", "--allocator", "--rounds"),
        *("--growth", "--memory", "--quick", "--json", "--plot"),
    ],
}


def invoke(*arguments: str):
    # Wide, so that no word is broken.
    return CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200", "TERM": "dumb"})


def test_help_names_every_command():
    result = invoke("--help")
    assert result.exit_code == 0
    assert all(name in result.output for name in COMMANDS)


def test_every_command_is_tested():
    assert {command.callback.__name__ for command in app.registered_commands} == set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_a_command(name):
    result = invoke(name, "--help")
    assert result.exit_code == 0
    assert all(word in result.output for word in COMMANDS[name])


def test_version():
    assert invoke("--version").output == f"jml-kernels {jml.__version__}\n"


def test_unknown_command_is_an_error():
    assert invoke("trian").exit_code == 2


def test_module_does_not_search_the_current_folder(tmp_path):
    """`python -m` does, and would run whatever lies there by the name of a package."""
    for name in ("typer", "rich"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('not today')\n")
    done = subprocess.run(
        [sys.executable, "-m", "jml_kernels", "--version"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert jml.__version__ in done.stdout


def test_module_runs_without_the_extra():
    """`python -m jml_kernels info` where nothing of the extra `demo` is installed."""
    code = (
        "import runpy, sys\n"
        "sys.modules.update(dict.fromkeys(('matplotlib', 'PIL')))\n"
        "sys.argv[1:] = ['info']\n"
        "runpy.run_module('jml_kernels', run_name='__main__')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert jml.__version__ in done.stdout
