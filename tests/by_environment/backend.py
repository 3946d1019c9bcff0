"""Which backend is tested in this process, and on which cases.

Triton's kernels run through its interpreter, the CUDA ones through the emulation in
cuda_emulation/. A tile takes the interpreter 10 ms, whatever it holds: only cases that are
`interpreted` run there. On a GPU all tests run as they are.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

import jml_kernels as jml
from jml_kernels.selfcheck.corpus.case import LossCase
from jml_kernels.selfcheck.results import Subject

#: Set by processes.py.
BACKEND = os.environ["JML_TESTED_BACKEND"]
assert jml.backends()[BACKEND] is None

SUBJECT = Subject(BACKEND)


def kept(cases: Iterable[LossCase]) -> list[LossCase]:
    return [case for case in cases if case.interpreted or not SUBJECT.is_interpreted]
