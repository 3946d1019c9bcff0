"""Streams and devices: kernels run on the current stream of their tensors' device. What comes late
on a side stream, `jml-kernels check` looks at (test_gpu.py)."""

from __future__ import annotations

import pytest
import torch
from problems import KINDS, draw, problem, step

from jml_kernels.selfcheck.corpus.drawing import Tensors
from jml_kernels.selfcheck.corpus.losses import make
from jml_kernels.selfcheck.on_gpu import LONG

SHAPE = (2, 19, 128, 160)
LARGE = (2, 19, 512, 512)


def test_what_follows_on_the_stream_finds_the_gradient(backend):
    """While the default stream is busy, a step on another is done when that one says so: no kernel
    of it is in the queue of the default stream."""
    case = problem("labels", LARGE)
    logits, *others = draw(case).arguments
    loss = make(case, backend, "cuda")
    leaf = logits.requires_grad_()
    # Without a scale, which would come from the CPU.
    (expected,) = torch.autograd.grad(loss(leaf, *others), leaf)
    kept = torch.zeros_like(expected)
    stream = torch.cuda.Stream()
    # A first step leaves another gradient in the stream's memory. What asks the driver for more
    # later may wait for the whole GPU, and hide who does not wait for what it should.
    torch.cuda.synchronize()
    with torch.cuda.stream(stream):
        step(case, backend, draw(case, seed=1))
    torch.cuda.synchronize()
    torch.cuda._sleep(LONG)
    with torch.cuda.stream(stream):
        kept.copy_(torch.autograd.grad(loss(leaf, *others), leaf)[0])
    stream.synchronize()
    if torch.cuda.default_stream().query():
        pytest.skip("the host took longer than the kernel that keeps the default stream busy")
    with torch.cuda.stream(stream):
        assert torch.equal(kept, expected)


@pytest.mark.parametrize("kind", KINDS)
def test_another_device_than_the_current_one(kind, backend):
    if torch.cuda.device_count() < 2:
        pytest.skip("there is one GPU")
    case = problem(kind, SHAPE)
    tensors = draw(case, "cuda:0")
    first = step(case, backend, tensors)
    moved = Tensors(*(None if tensor is None else tensor.to("cuda:1") for tensor in tensors))
    with torch.cuda.device(0):
        second = step(case, backend, moved)
        assert torch.cuda.current_device() == 0
    assert second.gradient.device == second.loss.device == torch.device("cuda:1")
    same = torch.cuda.get_device_name(0) == torch.cuda.get_device_name(1)
    tolerance = {"rtol": 0, "atol": 0} if same else {"rtol": 1e-5, "atol": 1e-6}
    torch.testing.assert_close(first.loss, second.loss.to("cuda:0"), **tolerance)
    torch.testing.assert_close(first.gradient, second.gradient.to("cuda:0"), **tolerance)
