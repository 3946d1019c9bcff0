"""`jml-kernels check`: what it prints, writes and returns."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest
from typer.testing import CliRunner

import jml_kernels as jml
from jml_kernels.backend import NAMES
from jml_kernels.cli import app
from jml_kernels.cli.check import _names
from jml_kernels.selfcheck import runner
from jml_kernels.selfcheck.results import Measure, Trial

RUN = [name for name in ("cpu", "reference") if jml.backends()[name] is None]
ALL = dict.fromkeys(NAMES)


def invoke(*options: str):
    return CliRunner().invoke(app, ["check", *options], env={"COLUMNS": "200", "TERM": "dumb"})


def read(file) -> dict:
    """Standard JSON: no NaN."""
    return json.loads(file.read_text(encoding="utf-8"), parse_constant=pytest.fail)


@pytest.fixture
def two_checks(monkeypatch):
    """In place of all; one of them fails on backend "cuda"."""

    def trials(subject):
        error = 2.0 if subject.backend == "cuda" else 0.5
        return [Trial("a [case]", lambda: [Measure("error", error, 1.0)])]

    monkeypatch.setattr(runner, "CHECKS", {"one": trials, "two": lambda subject: "not [today]"})


@pytest.fixture
def here(monkeypatch):
    """Chooses which backends run: name -> reason why not."""

    def choose(**reasons: str):
        monkeypatch.setattr(runner, "backends", lambda: ALL | reasons)
        monkeypatch.setattr(runner, "has_stand_in", lambda backend: False)

    return choose


# ---- a real run ----------------------------------------------------------------------------------


def test_a_quick_run_passes(tmp_path):
    file = tmp_path / "check.json"
    result = invoke("--quick", "--backend", *RUN, "--json", str(file))
    assert result.exit_code == 0, result.output
    assert "Nothing failed" in result.output
    found = read(file)
    rows = {(row["backend"], row["check"]): row for row in found["rows"]}
    assert set(rows) == {(name, check) for name in RUN for check in runner.CHECKS}
    assert found["passed"] is True
    assert found["failures"] == []
    assert found["quick"] is True
    assert found["machine"]["versions"]["jml-kernels"] == jml.__version__
    for check in ("gradcheck", "parity", "same bits", "bad input", "torch.compile"):
        for name in RUN:
            assert rows[name, check]["passed"] > 0
            assert rows[name, check]["failed"] == 0
    assert "promises nothing" in rows["reference", "memory"]["skipped"]
    worst = {one["what"]: one for one in rows["reference", "parity"]["worst"]}
    assert set(worst) == {"loss error", "gradient error"}
    assert all(0 < one["found"] <= one["allowed"] for one in worst.values())


# ---- which backends ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words", [["cpu", "reference"], ["cpu,reference"], ["cpu, reference", "cpu"]], ids=str
)
def test_names(words):
    assert _names(words) == ["cpu", "reference"]


@pytest.mark.parametrize(
    "options",
    ["--backend cpu reference", "--backend cpu --backend reference", "--backend cpu,reference"],
)
def test_backends_by_name(options, two_checks, here, tmp_path):
    here()
    file = tmp_path / "check.json"
    assert invoke(*options.split(), "--json", str(file)).exit_code == 0
    assert {row["backend"] for row in read(file)["rows"]} == {"cpu", "reference"}


def test_an_unknown_backend_is_an_error_of_usage():
    result = invoke("--backend", "cpu", "cdua")
    assert result.exit_code == 2
    assert "'cdua': expected one of cuda, triton, cpu, reference" in result.output


def test_a_backend_that_was_asked_for_and_cannot_run(two_checks, here, tmp_path):
    here(cuda="no [GPU] here")
    file = tmp_path / "check.json"
    result = invoke("--backend", "cuda", "reference", "--json", str(file))
    assert result.exit_code == 1
    assert "cannot run: no [GPU] here" in result.output
    found = read(file)
    assert found["rows"][0] | {"failed": 1, "skipped": "no [GPU] here"} == found["rows"][0]
    (failure,) = found["failures"]
    assert (failure["backend"], failure["found"]) == ("cuda", "no [GPU] here")


def test_backends_that_cannot_run_are_skipped(two_checks, here):
    here(cuda="no GPU here", cpu="not built")
    result = invoke()
    assert result.exit_code == 0
    assert "skipped: no GPU here" in result.output
    assert "skipped: not built" in result.output
    assert "skipped: not [today]" in result.output


def test_a_failure(two_checks, here, tmp_path):
    here()
    file = tmp_path / "check.json"
    result = invoke("--json", str(file))
    assert result.exit_code == 1
    assert "cuda, one, a [case]" in result.output
    assert "error 2e+00 of 1e+00" in result.output
    assert "1 failure" in result.output
    assert read(file)["failures"] == [
        {
            "backend": "cuda",
            "check": "one",
            "case": "a [case]",
            "found": "error 2e+00",
            "expected": "at most 1e+00",
        }
    ]


def test_json_to_standard_output(two_checks, here):
    here()
    result = invoke("--json", "-")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["passed"] is False
    assert "1 failure" in result.stderr


def test_a_file_that_cannot_be_written(two_checks, here, tmp_path, monkeypatch):
    """It is tried before anything is checked; where it fails in the end, the content is printed."""
    here()
    ran = []
    monkeypatch.setitem(runner.CHECKS, "one", lambda subject: ran.append(subject) or "not today")
    result = invoke("--json", str(tmp_path / ("x" * 300)))
    assert result.exit_code == 2
    text = " ".join(result.output.replace("│", " ").split())
    assert "expected a file that can be written" in text
    assert ran == []

    file = tmp_path / "check.json"
    monkeypatch.setitem(runner.CHECKS, "one", lambda subject: file.mkdir(exist_ok=True) or "no")
    result = invoke("--json", str(file))
    assert result.exit_code == 1
    assert "its content goes to standard output" in result.stderr
    assert json.loads(result.stdout[result.stdout.index("\n{\n") :])["passed"] is True


def test_a_folder_that_is_not_there(two_checks, tmp_path):
    result = invoke("--json", str(tmp_path / "nowhere" / "check.json"))
    assert result.exit_code == 2
    assert "expected a file in a folder that exists" in result.output


# ---- Triton without a GPU ------------------------------------------------------------------------


def test_a_process_that_ends_without_results(two_checks, here, monkeypatch):
    here(triton="no GPU here")
    monkeypatch.setattr(runner, "has_stand_in", lambda backend: backend == "triton")
    done = subprocess.CompletedProcess([], -11, stdout="", stderr="one\nSegmentation fault\n")
    started = []
    monkeypatch.setattr(subprocess, "run", lambda *a, **k: started.append((a, k)) or done)
    result = invoke("--backend", "triton", "--quick")
    assert result.exit_code == 1
    assert "exit status -11: Segmentation fault" in result.output
    ((command,), more) = started[0]
    assert command[1:6] == ["-m", "jml_kernels", "check", "--backend", "triton"]
    assert "--quick" in command
    assert more["env"]["TRITON_INTERPRET"] == "1"
    assert isinstance(more["stdin"], int)  # a pipe, with which it ends
    assert (more["cwd"] / "jml_kernels").is_dir()


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL], ids=lambda how: how.name)
def test_a_process_ends_with_its_parent(how, tmp_path):
    """However that ends. Its standard error is the parent's, which is then closed."""
    parent = (
        "import subprocess, sys\n"
        "from jml_kernels.parent import held\n"
        "with held() as more:\n"
        "    subprocess.run([sys.executable, '-c', sys.argv[1]], **more)\n"
    )
    child = (
        "import os, sys, time\n"
        "from jml_kernels.parent import end_where_asked\n"
        "end_where_asked()\n"
        "print('child', os.getpid(), file=sys.stderr, flush=True)\n"
        "time.sleep(3600)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", parent, child], stderr=subprocess.PIPE, text=True
    ) as process:
        started = int(process.stderr.readline().split()[1])
        process.send_signal(how)
        try:
            process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            os.kill(started, signal.SIGKILL)
            raise
    assert process.returncode == -how


def test_it_runs_only_where_it_is_asked_for(two_checks, here, monkeypatch):
    here(triton="no GPU here")
    monkeypatch.setattr(runner, "has_stand_in", lambda backend: backend == "triton")
    result = invoke("--backend", "reference")
    assert "triton" not in result.output
    monkeypatch.setattr(runner, "backends", lambda: ALL | {"triton": "no GPU here", "cuda": "no"})
    result = invoke()
    assert result.exit_code == 0
    assert (
        "no GPU here; --backend triton runs its kernels interpreted, without a GPU" in result.output
    )
