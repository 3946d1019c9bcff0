"""The losses need PyTorch alone; the commands say what else they need."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata, resources

import pytest

#: What the extra "cli" brings along.
EXTRA = ("numpy", "rich", "typer")
#: Put in front of a script, this makes every import of these packages fail.
WITHOUT_THE_EXTRA = f"import sys\nsys.modules.update(dict.fromkeys({EXTRA}))\n"


def run(code: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-W", "ignore", "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_package_imports_none_of_its_tools():
    """PyTorch itself imports NumPy where there is one, so that NumPy is not looked for here."""
    done = run("import sys, jml_kernels\nprint(*sys.modules)")
    assert done.returncode == 0, done.stderr
    imported = done.stdout.split()
    assert "jml_kernels.reference" in imported
    tools = ("jml_kernels.bench", "jml_kernels.cli", "jml_kernels.selfcheck", "rich", "typer")
    tools += ("jml_kernels.metrics", "torchmetrics")
    assert [name for name in imported if name.startswith(tools)] == []


def test_losses_need_nothing_but_pytorch():
    code = """
import torch
import jml_kernels as jml

logits = torch.zeros(2, 3, 4, 4, requires_grad=True)
labels = torch.zeros(2, 4, 4, dtype=torch.int64)
loss = jml.JaccardCrossEntropyLoss(label_smoothing=0.1, boundary_size=3)(logits, labels)
loss.backward()
print(jml.class_statistics(logits, labels).true_positive[0, 0].item())
"""
    done = run(WITHOUT_THE_EXTRA + code)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) == pytest.approx(16 / 3)  # x = 1/3 at 16 pixels


def test_a_command_says_what_to_install():
    code = """
import runpy
sys.argv[:] = ["jml-kernels", "info"]
runpy.run_module("jml_kernels", run_name="__main__")
"""
    done = run(WITHOUT_THE_EXTRA + code)
    assert done.returncode == 1
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("Error: ")
    assert "is not installed" in line
    assert "pip install 'jml-kernels[cli]'" in line


def test_the_metadata_say_the_same():
    required = metadata.requires("jml-kernels")
    assert [name for name in required if "extra ==" not in name] == ["torch>=2.11"]
    of_cli = [name for name in required if name.endswith('extra == "cli"')]
    assert [name for name in EXTRA if not any(one.startswith(name) for one in of_cli)] == []


def test_type_checkers_are_told_of_the_annotations():
    assert resources.files("jml_kernels").joinpath("py.typed").is_file()
