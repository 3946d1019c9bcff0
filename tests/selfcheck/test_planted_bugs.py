"""`jml-kernels check` of a copy of the package whose Triton kernels have a bug, in their
interpreter: the right row fails."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

# Each runs the whole check in a process, through the interpreter.
pytestmark = pytest.mark.slow

TESTS, ROOT = Path(__file__).parents[1:3]
NO_COPY = shutil.ignore_patterns("__pycache__", "*.pyc")


#: The command, in an interpreter that does not repeat itself.
IN_THE_INTERPRETER = (
    "import interpreter; interpreter.remember_builtins(); "
    "from jml_kernels.__main__ import main; main()"
)


class Bug(NamedTuple):
    file: str
    before: str
    after: str
    checks: set[str]
    """that fail"""
    cases: set[str]
    """some of those that fail"""


BUGS = {
    "false positives are not counted where the label is": Bug(
        "pixel_math.py",
        "terms = terms + (tl.where(is_label, 0.0, p),)",
        "terms = terms + (tl.where(is_label, p_not, p),)",
        {"parity"},
        {"JML1, labels", "1025 pixels", "float16 channels_last, labels"},
    ),
    "false negatives pull the wrong way": Bug(
        "coefficients.py",
        "((tp - fn) * (0.5 * factor)).to(DTYPE)",
        "((tp + fn) * (0.5 * factor)).to(DTYPE)",
        {"gradcheck", "parity"},
        {"2 pixels, JML1, soft", "JML1, soft", "JML1, labels"},
    ),
    "the derivative of the index": Bug(
        "formula.py",
        "by_errors = numerator * inverse * inverse",
        "by_errors = inverse",
        {"parity", "gradcheck"},
        {"2 pixels, JML1, soft", "JML2, soft", "JML1, labels"},
    ),
    "every pixel is at a boundary": Bug(
        "labels.py",
        "smoothed = valid & at_boundary(",
        "smoothed = valid | at_boundary(",
        {"parity"},
        {"JML1, boundary", "float32 transposed, boundary"},
    ),
}


@pytest.fixture
def package(tmp_path) -> Path:
    """A folder that holds a copy, as a wheel would put it there; without kernels for the CPU."""
    pytest.importorskip("triton")
    for name, to in (
        ("jml_kernels", "jml_kernels"),
        ("triton_kernels", "jml_kernels/triton_kernels"),
    ):
        shutil.copytree(ROOT / name, tmp_path / to, ignore=NO_COPY, dirs_exist_ok=True)
    return tmp_path


def check(package: Path, *start: str, **environment: str) -> tuple[int, dict]:
    """(exit status, what the JSON says) of the command, which an interpreter starts with `start`"""
    file = package / "found.json"
    done = subprocess.run(
        [sys.executable, *start, "check", "--backend", "triton", "--quick",
         "--json", str(file)],
        cwd=package,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(package), str(TESTS)])} | environment,
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    assert file.exists(), done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.returncode, json.loads(file.read_text())


@pytest.mark.parametrize("name", BUGS)
def test_a_bug_is_found(name, package):
    bug = BUGS[name]
    path = package / "jml_kernels" / "triton_kernels" / bug.file
    text = path.read_text(encoding="utf-8")
    assert text.count(bug.before) == 1
    path.write_text(text.replace(bug.before, bug.after), encoding="utf-8")
    status, found = check(package, "-c", IN_THE_INTERPRETER, TRITON_INTERPRET="1")
    assert status == 1
    assert not found["passed"]
    rows = {row["check"]: row for row in found["rows"]}
    assert {name for name, row in rows.items() if row["failed"]} == bug.checks
    assert rows["parity"]["passed"] > 0
    assert bug.cases <= {failure["case"] for failure in found["failures"]}


def test_the_copy_itself_passes(package):
    """In a process of its own, since this one has no interpreter."""
    status, found = check(package, "-m", "jml_kernels", TRITON_INTERPRET="0")
    assert (status, found["failures"]) == (0, [])
    passed = {row["check"]: row["passed"] for row in found["rows"]}
    assert passed["parity"] > 20
    assert passed["gradcheck"] > 0
    assert all(row["where"] == "interpreted" for row in found["rows"])
