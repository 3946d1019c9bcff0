"""Which backends run here, and what those say that do not."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import jml_kernels as jml
from jml_kernels.backends import NAMES, choose, why_not

# Not an attribute of the package: there `backends` is the function of that name.
module = importlib.import_module("jml_kernels.backends")


@pytest.mark.parametrize("name", NAMES)
def test_runs_or_says_why_not(name):
    """A backend that is skipped is seen in the report, with its own words."""
    reason = jml.backends()[name]
    if reason is not None:
        assert len(reason.split()) > 3
        with pytest.raises(RuntimeError, match=f"backend='{name}' cannot run here"):
            choose(name, torch.device("cpu"))
        pytest.skip(reason)
    logits, labels = torch.zeros(1, 2, 3), torch.zeros(1, 3, dtype=torch.int64)
    if name not in ("cuda", "triton"):
        loss = jml.JaccardMetricLoss(backend=name)(logits, labels)
        assert loss.item() == pytest.approx(0.5)  # x = 1/2 at 3 pixels: 1 - 1.5 / 3


def test_the_reference_always_runs():
    assert jml.backends()["reference"] is None
    assert why_not("reference", torch.device("meta")) is None


def test_auto_takes_the_first_that_runs_on_the_device():
    """Tests of a GPU's kernels on the CPU are taken by name only."""
    runs = [name for name in NAMES if why_not(name, torch.device("cpu")) is None]
    runs = [name for name in runs if name not in ("cuda", "triton")]
    assert choose("auto", torch.device("cpu")) == runs[0]
    assert runs[-1] == "reference"
    assert choose("auto", torch.device("meta")) == "reference"


def test_the_cpu_kernels_refuse_other_devices():
    if jml.backends()["cpu"] is not None:
        pytest.skip(jml.backends()["cpu"])
    with pytest.raises(RuntimeError, match="the tensors are on meta"):
        choose("cpu", torch.device("meta"))


def test_the_answer_is_a_copy():
    jml.backends().clear()
    assert set(jml.backends()) == set(NAMES)


def test_kernels_are_there_where_they_were_asked_for():
    """Continuous integration builds them: without this, a failed build would pass by skipping."""
    if os.environ.get("JML_BUILD") != "cpu":
        pytest.skip("JML_BUILD is not 'cpu'")
    assert jml.backends()["cpu"] is None


# ---- CUDA ----------------------------------------------------------------------------------------


@pytest.fixture
def library(monkeypatch, tmp_path) -> Path:
    """Where the CUDA kernels are expected, of a PyTorch with CUDA."""
    monkeypatch.setattr(module, "CUDA_EMULATION", None)
    monkeypatch.setattr(module, "CUDA_LIBRARY", tmp_path / "_cuda.so")
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    return module.CUDA_LIBRARY


def test_cuda_kernels_that_were_not_built(library):
    expected = "the CUDA kernels were not built (install with nvcc and JML_BUILD=auto)"
    assert module._load_cuda() == expected


def test_cuda_kernels_that_do_not_load(library):
    library.write_text("not a library")
    reason = module._load_cuda()
    assert reason.startswith("the CUDA kernels do not load: ")
    assert str(library) in reason


def test_a_pytorch_without_cuda_loads_no_cuda_kernels(library, monkeypatch):
    library.touch()
    loaded = []
    monkeypatch.setattr(torch.ops, "load_library", loaded.append)
    assert module._load_cuda() is None
    assert loaded == [library]
    monkeypatch.setattr(torch.version, "cuda", None)
    assert module._load_cuda() == "this PyTorch has no CUDA"
    assert loaded == [library]


def test_cuda_kernels_where_there_is_no_gpu(monkeypatch):
    monkeypatch.setitem(module._WHY_NOT, "cuda", None)
    monkeypatch.setitem(module.DEVICES, "cuda", "cuda")
    monkeypatch.setattr(module, "_TESTS", set())
    monkeypatch.setattr(module, "CUDA_EMULATION", None)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert jml.backends()["cuda"] == "PyTorch finds no GPU for it here"
    with pytest.raises(RuntimeError, match="cannot run here: PyTorch finds no GPU"):
        choose("cuda", torch.device("cpu"))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert jml.backends()["cuda"] is None
    assert choose("auto", torch.device("cuda")) == "cuda"
    with pytest.raises(RuntimeError, match="run on a GPU and the tensors are on cpu"):
        choose("cuda", torch.device("cpu"))


EMULATED = """
import json
import torch
import jml_kernels as jml
from jml_kernels.backends import choose, why_not

cpu, cuda = torch.device("cpu"), torch.device("cuda")
reasons = [jml.backends()["cuda"], why_not("cuda", cpu), why_not("cuda", cuda)]
print(json.dumps([*reasons, choose("auto", cpu)]))
"""


def emulated(library: Path | str) -> list:
    done = subprocess.run(
        [sys.executable, "-c", EMULATED],
        env=os.environ | {"JML_CUDA_EMULATION": str(library)},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def test_an_emulation_runs_on_the_cpu_by_name_only():
    """Of a library that has no operators: whether it loads is all that is asked."""
    library = Path(torch.__file__).with_name("lib") / "libc10.so"
    here, on_cpu, on_gpu, auto = emulated(library)
    assert here is None
    assert on_cpu is None
    assert on_gpu == "its kernels run on the CPU and the tensors are on cuda"
    assert auto == choose("auto", torch.device("cpu"))


def test_an_emulation_that_does_not_load():
    reason, on_cpu, _, auto = emulated("/nowhere/emulation.so")
    assert reason.startswith("the kernels of JML_CUDA_EMULATION do not load: ")
    assert on_cpu == reason
    assert auto == choose("auto", torch.device("cpu"))
