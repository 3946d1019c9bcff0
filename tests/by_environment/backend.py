"""Which backend is tested in this process, and on which cases.

Triton's kernels run through its interpreter, the CUDA ones through the emulation in
cuda_emulation/. A tile takes the interpreter 10 ms, whatever it holds: it runs the cases that are
`interpreted`, in `make test` those of `jml-kernels check` and in `make test-slow` all others. On a
GPU all tests run as they are.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

import parametrize
from interpreter import remember_builtins

import jml_kernels as jml
from jml_kernels.selfcheck.corpus.case import LossCase
from jml_kernels.selfcheck.results import Subject

#: Set by processes.py.
BACKEND = os.environ["JML_TESTED_BACKEND"]
assert jml.backends()[BACKEND] is None

SUBJECT = Subject(BACKEND)
if SUBJECT.is_interpreted:
    remember_builtins()


def each(cases: Iterable[LossCase]):
    """Run a test with every case that this backend is tested on."""
    return parametrize.each(filter(_is_kept, cases), left_out=_is_slow)


def _is_kept(case: LossCase) -> bool:
    if not SUBJECT.computes(case):  # then it is a case of full size, and a few of these will do
        return case.quick
    return case.interpreted or not SUBJECT.is_interpreted


def _is_slow(case: LossCase) -> bool:
    return case.slow or (SUBJECT.is_interpreted and not case.checked)
