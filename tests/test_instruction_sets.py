"""The CPU kernels are compiled for several instruction sets and choose one at run time: the others
are tested in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import jml_kernels as jml

pytestmark = pytest.mark.skipif(
    jml.backends()["cpu"] is not None, reason=f"backend cpu: {jml.backends()['cpu']}"
)

EVERY_CASE = """
import sys
from jml_kernels import _cpu

chosen = _cpu.build_info()["instruction set"]
print(chosen)
if chosen != sys.argv[2]:
    sys.exit()

sys.path.insert(0, sys.argv[1])
import torch
from cases import FINITE_CASES, OVERLAPS
from objective_cases import CROSS_ENTROPY_CASES, DISTILLATION_CASES
from test_objectives import assert_objective
from test_statistics import assert_columns, assert_loss

torch.set_num_threads(1)
failed = []
for i, case in enumerate(FINITE_CASES):
    try:
        assert_columns(case, "cpu", "cpu")
        assert_loss(case, list(OVERLAPS)[i % len(OVERLAPS)], "cpu", "cpu")
    except AssertionError as error:
        failed.append(f"{case.name}: {error}")
for case in (*CROSS_ENTROPY_CASES, *DISTILLATION_CASES):
    try:
        assert_objective(case, "cpu", "cpu")
    except AssertionError as error:
        failed.append(f"{case.name}: {error}")
print(*failed, sep="\\n")
"""


def _cpu_default() -> str:
    from jml_kernels import _cpu  # noqa: PLC0415

    return _cpu.build_info()["instruction set"]


@pytest.mark.parametrize("name", ["baseline", "avx2", "avx512"])
def test_every_case(name, tmp_path):
    if name == _cpu_default():
        pytest.skip("the default here: every other test runs it")
    result = subprocess.run(
        [sys.executable, "-c", EVERY_CASE, str(Path(__file__).parent), name],
        env={**os.environ, "JML_CPU_ISA": name},
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert result.returncode == 0, result.stderr
    chosen, *failed = result.stdout.strip().splitlines()
    if chosen != name:
        pytest.skip(f"this processor has no {name}")
    assert failed == []
