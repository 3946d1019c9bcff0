"""Where nvcc is looked for, and for which GPUs it compiles."""

from __future__ import annotations

import pytest
from cuda_build import ROOT, build_cuda


@pytest.fixture
def folders(monkeypatch, tmp_path) -> dict:
    """With an nvcc in each place where it may be, that knows no GPU after Hopper."""
    found = {name: tmp_path / name for name in ("CUDA_HOME", "CUDA_PATH", "PATH", "TOOLKIT")}
    for name, folder in found.items():
        program = (folder if name == "PATH" else folder / "bin") / "nvcc"
        program.parent.mkdir(parents=True)
        program.write_text("#!/bin/sh\nprintf 'compute_80\\ncompute_90\\n'\n")
        program.chmod(0o755)
        if name != "TOOLKIT":
            monkeypatch.setenv(name, str(folder))
    monkeypatch.setattr(build_cuda, "TOOLKIT", str(found["TOOLKIT"]))
    monkeypatch.setattr(build_cuda, "sources", lambda: ["csrc/cuda/some.cu"])
    monkeypatch.delenv("TORCH_CUDA_ARCH_LIST", raising=False)
    return found


def test_nvcc_is_looked_for_in_this_order(folders, monkeypatch):
    for name in ("CUDA_HOME", "CUDA_PATH"):
        assert build_cuda.nvcc() == str(folders[name] / "bin" / "nvcc")
        monkeypatch.delenv(name)
    assert build_cuda.nvcc() == str(folders["PATH"] / "nvcc")
    (folders["PATH"] / "nvcc").unlink()
    assert build_cuda.nvcc() == str(folders["TOOLKIT"] / "bin" / "nvcc")
    assert build_cuda.missing() is None
    (folders["TOOLKIT"] / "bin" / "nvcc").unlink()
    assert build_cuda.missing() == (
        f"no nvcc in CUDA_HOME or CUDA_PATH (not set), on PATH or in {folders['TOOLKIT']}/bin"
    )


def test_a_toolkit_that_is_named_is_the_only_one(folders, monkeypatch):
    monkeypatch.setenv("CUDA_HOME", "/nowhere")
    assert build_cuda.nvcc() is None
    assert build_cuda.missing() == "no nvcc in /nowhere/bin (CUDA_HOME names it)"


def test_without_sources_nothing_is_built(folders, monkeypatch):
    monkeypatch.setattr(build_cuda, "sources", list)
    assert build_cuda.missing() == "there are no sources in csrc/cuda"


def code(compute: str, result: str) -> str:
    return f"-gencode=arch=compute_{compute},code={result}"


def test_default_architectures_are_those_that_nvcc_knows(folders):
    """Hopper's machine code is made from Ampere's PTX."""
    expected = [code("80", "sm_80"), code("80", "sm_90"), code("80", "compute_80")]
    assert build_cuda.architectures() == expected


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("8.0 9.0+PTX", [("80", "sm_80"), ("90", "sm_90"), ("90", "compute_90")]),
        ("8.0;9.0", [("80", "sm_80"), ("90", "sm_90")]),
        ("9.0a", [("90a", "sm_90a")]),
        (" 10.0f+PTX; ", [("100f", "sm_100f"), ("100f", "compute_100f")]),
        ("12.0 12.0", [("120", "sm_120")]),
    ],
)
def test_architectures_asked_for(asked, expected, monkeypatch):
    monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", asked)
    assert build_cuda.architectures() == [code(*pair) for pair in expected]


@pytest.mark.parametrize("asked", ["Hopper", "8.0 90", "sm_90", "8.0,9.0", "9.0+ptx"])
def test_architectures_that_are_none(asked, monkeypatch):
    monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", asked)
    with pytest.raises(SystemExit, match=r"TORCH_CUDA_ARCH_LIST: .*: expected numbers"):
        build_cuda.architectures()


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, []),
        ({"CXX": "g++-14 -m64"}, ["-ccbin=g++-14"]),
        ({"CXX": "g++", "NVCC_CCBIN": "clang++"}, []),  # nvcc reads that one
    ],
)
def test_the_host_compiler(variables, expected, monkeypatch):
    for name in ("CXX", "NVCC_CCBIN"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert build_cuda._compilers()[1:] == expected


def test_sources_are_relative():
    for source in build_cuda.sources():
        assert source.startswith("csrc/cuda/")
        assert (ROOT / source).is_file()
