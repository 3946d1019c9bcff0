"""Which backends run here, and what those say that do not."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import jml_kernels as jml
from jml_kernels import backend
from jml_kernels.backend import ALL, BY_NAME, NAMES, choose, cuda, why_not


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
    if not BY_NAME[name].needs_gpu:
        loss = jml.JaccardMetricLoss(backend=name)(logits, labels)
        assert loss.item() == pytest.approx(0.5)  # x = 1/2 at 3 pixels: 1 - 1.5 / 3


def test_the_reference_always_runs():
    assert jml.backends()["reference"] is None
    assert why_not("reference", torch.device("meta")) is None


def test_auto_takes_the_first_that_runs_on_the_device():
    """Tests of a GPU's kernels on the CPU are taken by name only."""
    runs = [name for name in NAMES if why_not(name, torch.device("cpu")) is None]
    runs = [name for name in runs if not BY_NAME[name].is_stand_in]
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
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    return tmp_path / "_cuda.so"


def load(library: Path) -> str | None:
    return cuda.load(emulation=None, library=library)


def test_cuda_kernels_that_were_not_built(library):
    expected = "the CUDA kernels were not built (install with nvcc and JML_BUILD=auto)"
    assert load(library) == expected


def test_cuda_kernels_that_do_not_load(library):
    library.write_text("not a library")
    reason = load(library)
    assert reason.startswith("the CUDA kernels do not load: ")
    assert str(library) in reason


def test_a_pytorch_without_cuda_loads_no_cuda_kernels(library, monkeypatch):
    library.touch()
    loaded = []
    monkeypatch.setattr(torch.ops, "load_library", loaded.append)
    assert load(library) is None
    assert loaded == [library]
    monkeypatch.setattr(torch.version, "cuda", None)
    assert load(library) == "this PyTorch has no CUDA"
    assert loaded == [library]


def test_cuda_kernels_where_there_is_no_gpu(monkeypatch):
    built = dataclasses.replace(
        BY_NAME["cuda"], device="cuda", device_in_words="a GPU", reason=None, stand_in=None
    )
    every = (built, *ALL[1:])
    monkeypatch.setattr(backend, "ALL", every)
    monkeypatch.setattr(backend, "BY_NAME", {one.name: one for one in every})
    monkeypatch.setattr(backend, "_AUTOMATIC", backend.automatic(every))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert jml.backends()["cuda"] == "PyTorch finds no GPU for it here"
    with pytest.raises(RuntimeError, match="cannot run here: PyTorch finds no GPU"):
        choose("cuda", torch.device("cpu"))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert jml.backends()["cuda"] is None
    assert choose("auto", torch.device("cuda")) == "cuda"
    with pytest.raises(RuntimeError, match="run on a GPU and the tensors are on cpu"):
        choose("cuda", torch.device("cpu"))


def test_every_backend_has_its_operators():
    """What a record promises is registered."""
    for one in backend.COMPILED:
        for name in ("statistics", "statistics_backward", "statistics_backward_"):
            assert hasattr(torch.ops.jml_kernels, f"{one.name}_{name}")
        assert hasattr(torch.ops.jml_kernels, f"{one.name}_loss") == one.finishes_loss


EMULATED = """
import json
import torch
import jml_kernels as jml
from jml_kernels.backend import choose, why_not

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
