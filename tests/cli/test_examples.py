"""The examples run from top to bottom: a few steps on a small synthetic map, or two processes."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import distributed

import jml_kernels as jml

FOLDER = Path(__file__).parents[2] / "examples"
#: Example -> rows of the table that it ends with.
ROWS = {
    "cross_entropy_and_jaccard": ["cross-entropy", "CE + JML, boundary smoothing"],
    "distillation": ["teacher", "student by itself", "student with teacher"],
    "upsampling": ["interpolate, then the loss", 'upsample="bilinear"'],
}
#: Example -> what its last paragraph says.
CAVEATS = dict.fromkeys(ROWS, "within the spread of seeds") | {
    "upsampling": r"losses differ by (\d\.\de-\d+|0\.0e\+00) at the first step"
}
#: The examples on two processes, which read no map, and what they share.
ON_TWO_PROCESSES, SHARED = ("data_parallel", "fully_sharded", "large_batch"), "small_task"


def imported(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    return example


def test_every_example_is_tested():
    tested = {*ROWS, *ON_TWO_PROCESSES, SHARED}
    assert {file.stem for file in FOLDER.glob("*.py")} == tested


@pytest.mark.parametrize("name", ROWS)
def test_example(name, monkeypatch, capsys, synthetic):
    example = imported(name)
    monkeypatch.setattr(example, "load", lambda: synthetic)
    monkeypatch.setattr(example, "CROP", 16)  # the map's stripes are that narrow
    example.main(steps=2, seed=0)

    _, table, caveat = capsys.readouterr().out.split("\n\n")
    head, *rows = table.splitlines()
    assert head.split()[-2:] == ["loss", "mIoU"]
    for row, title in zip(rows, ROWS[name], strict=True):
        loss, miou = map(float, row.removeprefix(title).split()[-2:])
        assert loss > 0
        assert 0 <= miou <= 1
    assert re.search(CAVEATS[name], caveat)


def test_the_losses_of_both_ways_coincide():
    example = imported("upsampling")
    logits, labels = torch.randn(2, 6, 5, 4), torch.randint(0, 6, (2, 17, 16))
    torch.testing.assert_close(
        example.FROM_A_QUARTER(logits, labels), example.interpolate_first(logits, labels)
    )


@pytest.mark.parametrize("name", ROWS)
def test_help(name):
    command = [sys.executable, FOLDER / f"{name}.py", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--steps" in done.stdout
    assert "--seed" in done.stdout


@pytest.mark.skipif(not distributed.is_available(), reason="PyTorch has no distributed here")
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) for name in ON_TWO_PROCESSES]
)
def test_the_gradient_of_two_processes_is_that_of_one(name):
    done = subprocess.run(
        [sys.executable, FOLDER / f"{name}.py"],
        env=os.environ | {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    training, comparison = done.stdout.split("\n\n")
    *losses, _ = (float(loss) for loss in re.findall(r"step \d+ of \d+: loss (.+)", training))
    assert len(losses) == 10
    assert losses[-1] < 0.8 * losses[0]
    whole, parts = map(float, re.findall(r"by the .+ (\d\.\de[+-]\d+)\n", comparison))
    assert whole <= 1e-6
    assert parts > 1e-2
    assert comparison.endswith(" equals that of a single process.\n")


def test_another_gradient_ends_the_example(capsys):
    task = imported(SHARED)
    loss_function = jml.JaccardCrossEntropyLoss(upsample="bilinear")
    model = task.network(torch.device("cpu"))
    images, labels = task.batch(4, 0, torch.device("cpu"))
    loss_function(model(images), labels).backward()
    gradients = [parameter.grad for parameter in model.parameters()]

    task.compare(gradients, gradients, loss_function, 4)
    assert "equals" in capsys.readouterr().out
    for factor in (1 + 1e-5, float("nan")):
        others = [*gradients[:-1], factor * gradients[-1]]
        with pytest.raises(SystemExit, match="differs"):
            task.compare(others, gradients, loss_function, 4)
        assert "equals" not in capsys.readouterr().out
