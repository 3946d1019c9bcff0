"""The Lovász losses of other libraries, where those are installed."""

from __future__ import annotations

import pytest
import torch

import jml_kernels as jml
from jml_kernels.bench.cases import LOVASZ, BenchmarkCase
from jml_kernels.bench.competitor import NotAvailableError
from jml_kernels.bench.lovasz_peers import LOVASZ_PEERS
from jml_kernels.bench.peers import PEERS

SHAPE = (3, 4, 12, 10)
OURS = {
    "kornia-lovasz": jml.LovaszSoftmaxLoss(per_image=True, classes="all"),
    "smp-lovasz": jml.LovaszSoftmaxLoss(),
}


@pytest.mark.parametrize("name", LOVASZ_PEERS)
def test_it_is_what_is_said(name):
    try:
        loss = LOVASZ_PEERS[name].make(BenchmarkCase(SHAPE, objective=LOVASZ))
    except NotAvailableError as error:
        assert "installed" in str(error)  # noqa: PT017
        pytest.skip(str(error))
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(SHAPE, generator=generator)
    labels = torch.randint(0, 3, (SHAPE[0], *SHAPE[2:]), generator=generator)  # one is absent
    labels[0] = 1
    torch.testing.assert_close(loss(logits, labels), OURS[name](logits, labels))


@pytest.mark.parametrize("name", LOVASZ_PEERS)
def test_it_is_compared_with_its_kind(name):
    with pytest.raises(NotAvailableError, match="--objective lovasz"):
        LOVASZ_PEERS[name].make(BenchmarkCase(SHAPE))


@pytest.mark.parametrize("name", PEERS)
def test_others_are_not(name):
    with pytest.raises(NotAvailableError, match="no Lovász loss"):
        PEERS[name].make(BenchmarkCase(SHAPE, objective=LOVASZ))
