"""The CPU kernels are compiled for several instruction sets and choose one at run time: the others
are tested in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from needs import cpu_kernels
from processes import passed

from jml_kernels.backend.cpu import build_info

pytestmark = cpu_kernels

ASK = 'from jml_kernels import _cpu; print(_cpu.build_info()["instruction set"])'


def chosen(asked: str) -> str:
    """The instruction set that a process takes where another one is asked for."""
    done = subprocess.run(
        [sys.executable, "-c", ASK],
        env=os.environ | {"JML_CPU_ISA": asked},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


@pytest.mark.long
@pytest.mark.parametrize("name", ["baseline", "avx2", "avx512"])
def test_every_case(name):
    if build_info()["instruction set"] == name:
        pytest.skip("the default here: every other test runs it")
    if chosen(name) != name:
        pytest.skip(f"this processor has no {name}")
    files = ("columns", "losses", "objectives", "tally")
    assert passed(*files, backend="cpu", JML_CPU_ISA=name) > 800
