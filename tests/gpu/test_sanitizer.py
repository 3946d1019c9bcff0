"""NVIDIA's compute-sanitizer watches a short run: no access outside of a tensor, no race in shared
memory, no barrier that some threads miss, no read of what was never written."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import jml_kernels as jml

FOLDER = Path(__file__).parent
TOOLS = ("memcheck", "racecheck", "synccheck", "initcheck")
#: The exit status that the tool is told to have where it finds something.
FOUND = 97
SECONDS = 240
TOO_LONG = 124


def sanitizer() -> str | None:
    toolkit = Path(os.environ.get("CUDA_HOME", "/usr/local/cuda")) / "bin" / "compute-sanitizer"
    return shutil.which("compute-sanitizer") or shutil.which(toolkit)


def watch(tool: str, *arguments: str) -> tuple[int, str]:
    """(exit status, what was printed) of Python with these arguments, under a tool."""
    command = [sanitizer(), "--tool", tool, "--error-exitcode", str(FOUND), "--print-limit", "20"]
    # PyTorch's allocator hands out parts of larger blocks, in which an access that leaves a tensor
    # stays unseen: without it each tensor is an allocation of the driver's.
    variables = os.environ | {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
    try:
        done = subprocess.run(
            [*command, sys.executable, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=variables,
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        return TOO_LONG, (error.stdout or b"").decode(errors="replace")
    return done.returncode, done.stdout.decode(errors="replace")


def tail(output: str) -> str:
    return "\n".join(output.strip().splitlines()[-60:])


@functools.cache
def why_not(tool: str) -> str | None:
    """Why a tool cannot judge here. It must let a program pass that has no kernel of ours."""
    if sanitizer() is None:
        return "there is no compute-sanitizer"
    status, output = watch(tool, "-c", "import torch; torch.zeros(1, device='cuda').item()")
    if status:
        return f"compute-sanitizer --tool {tool} does not run here ({status}): {tail(output)}"
    return None


@pytest.mark.parametrize("tool", TOOLS)
def test_finds_nothing(tool, backend):
    reason = why_not(tool)
    if reason is not None:
        pytest.skip(reason)
    status, output = watch(tool, str(FOLDER / "short_run.py"), backend)
    if status == TOO_LONG:
        pytest.skip(f"compute-sanitizer --tool {tool} takes more than {SECONDS} s")
    assert status == 0, f"compute-sanitizer --tool {tool}, {backend}:\n{tail(output)}"
    assert " steps" in output


def test_memcheck_sees_the_element_past_the_end():
    """Without this the test above could not fail; the kernel that does it is one of Triton's."""
    reason = jml.backends()["triton"] or why_not("memcheck")
    if reason is not None:
        pytest.skip(reason)
    status, output = watch("memcheck", str(FOLDER / "out_of_bounds.py"))
    assert status != 0
    assert "Invalid __global__ write" in output, tail(output)
