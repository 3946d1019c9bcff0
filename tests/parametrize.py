"""How tests take the cases of the corpus: each is a parameter, with its name in the report."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest

from jml_kernels.selfcheck.corpus import BY_NAME
from jml_kernels.selfcheck.corpus.case import LossCase


def is_slow(case: LossCase) -> bool:
    return case.slow


def each(cases: Iterable[LossCase], left_out: Callable[[LossCase], bool] = is_slow):
    """Run a test with every case. Those that are `left_out` of `make test` wait for
    `make test-slow`."""
    parameters = [
        pytest.param(case, id=case.name, marks=[pytest.mark.slow] if left_out(case) else [])
        for case in cases
    ]
    names = [parameter.id for parameter in parameters]
    assert len(set(names)) == len(names)
    return pytest.mark.parametrize("case", parameters)


def named(*names: str):
    """Run a test with the cases of these names, whether they are slow or not."""
    cases = [BY_NAME[name] for name in names]
    return pytest.mark.parametrize("case", cases, ids=names)
