"""Overlap losses: those columns alone that they need."""

from __future__ import annotations

import pytest
from judges import assert_loss

from by_environment.backend import BACKEND, each
from jml_kernels.selfcheck.corpus import INPUTS, NOT_FINITE
from jml_kernels.selfcheck.corpus.drawing import shared
from jml_kernels.selfcheck.corpus.losses import OVERLAPS
from jml_kernels.selfcheck.corpus.options import ACTIVE

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.skipif(BACKEND == "triton", reason="it is the kernel of all columns")
@each(INPUTS)
def test_loss(case):
    """All columns at once are for general CUDA kernels; what a loss needs, for fast ones. The other
    overlaps come by turns."""
    another = list(OVERLAPS)[INPUTS.index(case) % len(OVERLAPS)]
    for overlap in {"metric1": None, another: None}:
        assert_loss(case, overlap, BACKEND, "cpu")


@each(ACTIVE)
def test_active_classes(case):
    """Each mode asks for other columns."""
    assert_loss(case, "soft2", BACKEND, "cpu")


@each(NOT_FINITE)
def test_not_a_number(case):
    logits, target, _, mask = shared(case)
    for overlap in OVERLAPS.values():
        assert overlap(logits, target, mask, backend=BACKEND, **case.options).isnan()
