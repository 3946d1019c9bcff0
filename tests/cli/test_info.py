"""`jml-kernels info` says what is here."""

from __future__ import annotations

import pytest
import torch
from typer.testing import CliRunner

import jml_kernels as jml
from jml_kernels import cuda_resources, machine
from jml_kernels.cli import app, info


def run(*options: str):
    return CliRunner().invoke(app, ["info", *options], env={"COLUMNS": "200", "TERM": "dumb"})


def output(*options: str) -> str:
    result = run(*options)
    assert result.exit_code == 0, result.output
    return result.output


def test_versions_and_threads():
    text = output()
    assert jml.__version__ in text
    assert torch.__version__ in text
    assert machine.processor()["threads of torch"] == str(torch.get_num_threads())


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
    monkeypatch.setattr(machine, "build_info", lambda: {"instruction set": "made up"})
    assert "made up" in output()
    monkeypatch.setattr(machine, "build_info", dict)
    assert "CPU kernels" not in output()


# ---- kernels -------------------------------------------------------------------------------------

REPORT = """\
ptxas info    : Compiling entry function 'void jml::cuda::forward<float, 24>(P)' for 'sm_90'
ptxas info    : Function properties for void jml::cuda::forward<float, 24>(P)
    0 bytes stack frame, 4 bytes spill stores, 8 bytes spill loads
ptxas info    : Used 168 registers, used 1 barriers, 512 bytes smem
"""


@pytest.fixture
def no_triton(monkeypatch):
    """It would take a minute."""
    monkeypatch.setattr(info, "why_not_compiled", lambda: "there is none")


@pytest.fixture
def report(monkeypatch, tmp_path):
    """The path of one, which is not there yet."""
    monkeypatch.setattr(cuda_resources, "REPORT", tmp_path / "report.txt")
    return tmp_path / "report.txt"


@pytest.mark.parametrize(("counted", "cell"), [({"forward<float, 24>": 7904}, "7904"), ({}, "-")])
def test_kernels_of_cuda(no_triton, report, monkeypatch, counted, cell):
    report.write_text(REPORT)
    monkeypatch.setattr(cuda_resources, "instructions", lambda library, target: counted)
    text = output("--kernels")
    assert "Triton kernels: nothing to compile them with: there is none" in text
    assert "CUDA kernels on sm_90" in text
    (line,) = (line for line in text.splitlines() if "forward<float, 24>" in line)
    assert [cell.strip() for cell in line.split("│")[2:-1]] == ["168", "0", "12", "512", "12", cell]


def test_kernels_of_triton_alone(report, monkeypatch):
    monkeypatch.setattr(info, "triton_table", lambda target: info.Table(title=f"on {target}"))
    text = output("--kernels", "--target", "sm_80")
    assert "CUDA kernels: they were not built" in text
    report.write_text(REPORT)
    text = output("--kernels", "--target", "sm_80")
    assert "CUDA kernels: target='sm_80': they were built for sm_90" in text


def test_kernels_of_neither(no_triton, report):
    result = run("--kernels")
    assert result.exit_code == 2
    assert "there is none" in result.output
    assert "they were not built" in result.output
