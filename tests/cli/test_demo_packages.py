"""What is missing is said in words, with the command that installs it."""

from __future__ import annotations

import importlib.metadata

import pytest
from typer.testing import CliRunner

from jml_kernels.cli import app, train
from jml_kernels.cli.train import demo, land_cover
from jml_kernels.cli.train.demo_packages import DATA, data_file
from jml_kernels.extras import import_extra


def absent(name: str):
    raise importlib.metadata.PackageNotFoundError(name)


EXTRA = "pip install 'jml-kernels[demo]'"


def absent_module(module: str, extra: str):
    return import_extra(f"no_such_package_{module}", extra)


def run() -> str:
    """`jml-kernels train`, which must fail without a traceback; returns what it says."""
    result = CliRunner().invoke(app, ["train", "--steps", "3"])
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit)
    return result.output


def test_import_extra_returns_the_module():
    assert import_extra("json.decoder", "demo").__name__ == "json.decoder"


def test_data_file_imports_nothing():
    assert data_file("typer", "py.typed").name == "py.typed"


def test_no_data(monkeypatch):
    monkeypatch.setattr(land_cover, "import_extra", lambda module, extra: None)
    monkeypatch.setattr(importlib.metadata, "files", absent)
    assert DATA in run()


def test_no_pillow(monkeypatch):
    monkeypatch.setattr(land_cover, "import_extra", absent_module)
    output = run()
    assert EXTRA in output
    assert "PIL" in output


def test_no_matplotlib_is_noticed_before_training(monkeypatch, synthetic, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(train, "load", lambda: synthetic)
    monkeypatch.setattr(demo, "import_extra", absent_module)
    monkeypatch.setattr(demo, "train_run", lambda *_: pytest.fail("trained"))
    assert EXTRA in run()
    assert not any(tmp_path.iterdir())
