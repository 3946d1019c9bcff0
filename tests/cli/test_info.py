"""`jml-kernels info` says what is here."""

from __future__ import annotations

import importlib

import pytest
import torch
from typer.testing import CliRunner

import jml_kernels as jml
from jml_kernels.cli import app, info


def output() -> str:
    result = CliRunner().invoke(app, ["info"], env={"COLUMNS": "200", "TERM": "dumb"})
    assert result.exit_code == 0, result.output
    return result.output


def test_versions_and_threads():
    text = output()
    assert jml.__version__ in text
    assert torch.__version__ in text
    assert info.processor()["threads of torch"] == str(torch.get_num_threads())


@pytest.mark.parametrize("name", jml.backends())
def test_backend_runs_or_says_why_not(name):
    line = next(line for line in output().splitlines() if f" {name} " in line)
    assert (jml.backends()[name] or "runs") in line


def test_reason_is_printed_as_it_is(monkeypatch):
    """Square brackets are markup to rich."""
    reason = "install it with pip install 'x[y]'"
    monkeypatch.setattr(info, "backends", lambda: {"cpu": reason})
    assert reason in output()


def test_build_info_is_shown_where_it_exists(monkeypatch):
    module = importlib.import_module("jml_kernels.backends")
    monkeypatch.setattr(module, "build_info", lambda: {"instruction set": "made up"}, raising=False)
    assert "made up" in output()
    monkeypatch.delattr(module, "build_info")
    assert "made up" not in output()
