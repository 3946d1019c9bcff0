"""Streams and devices: kernels run on the current stream of their tensors' device."""

from __future__ import annotations

import pytest
import torch
from problems import KINDS, draw, step

SHAPE = (2, 19, 128, 160)
#: Cycles of a kernel that does nothing: some 0.1 s, in which the host has launched all the rest.
LONG = 200_000_000
kinds = pytest.mark.parametrize("kind", KINDS)


def poisoned(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor to be filled later: whoever reads it before gets NaN, or label 0 everywhere."""
    return torch.full_like(tensor, float("nan") if tensor.is_floating_point() else 0)


def take_memory(stream: torch.cuda.Stream, loss, *arguments: torch.Tensor) -> None:
    """A first step on a stream. Its memory is the stream's from then on: what asks the driver for
    more may wait for the whole GPU, and hide who does not wait for what it should."""
    torch.cuda.synchronize()
    with torch.cuda.stream(stream):
        step(loss, *arguments)
    torch.cuda.synchronize()


@kinds
def test_side_streams_give_the_same_bits(kind, backend):
    """Inputs come late on each of two streams, which run side by side: whoever works on another
    stream, or waits for none, reads what is not there yet."""
    logits, *others = draw(kind, SHAPE)
    loss = KINDS[kind].loss(backend)
    leaf = logits.detach().requires_grad_()
    expected = loss(leaf, *others)
    expected.backward()
    streams = [torch.cuda.Stream() for _ in range(2)]
    late = [[poisoned(tensor) for tensor in (logits, *others)] for _ in streams]
    for stream in streams:
        take_memory(stream, loss, *draw(kind, SHAPE, seed=1))
    found = []
    for stream, tensors in zip(streams, late, strict=True):
        with torch.cuda.stream(stream):
            torch.cuda._sleep(LONG)
            for tensor, value in zip(tensors, (logits, *others), strict=True):
                tensor.copy_(value)
            tensors[0].requires_grad_()
            value = loss(*tensors)
            value.backward()
            found.append(value)
    for stream in streams:
        torch.cuda.current_stream().wait_stream(stream)
    for value, tensors in zip(found, late, strict=True):
        assert torch.equal(value, expected)
        assert torch.equal(tensors[0].grad, leaf.grad)


def test_what_follows_on_the_stream_finds_the_gradient(backend):
    """While the default stream is busy, a step on another is done when that one says so: no kernel
    of it is in the queue of the default stream."""
    shape = (2, 19, 512, 512)
    logits, labels = draw("labels", shape)
    loss = KINDS["labels"].loss(backend)
    leaf = logits.requires_grad_()
    (expected,) = torch.autograd.grad(loss(leaf, labels), leaf)
    kept = torch.zeros_like(expected)
    stream = torch.cuda.Stream()
    take_memory(stream, loss, *draw("labels", shape, seed=1))  # leaves another gradient there
    torch.cuda._sleep(LONG)
    with torch.cuda.stream(stream):
        kept.copy_(torch.autograd.grad(loss(leaf, labels), leaf)[0])
    stream.synchronize()
    if torch.cuda.default_stream().query():
        pytest.skip("the host took longer than the kernel that keeps the default stream busy")
    with torch.cuda.stream(stream):
        assert torch.equal(kept, expected)


@kinds
def test_another_device_than_the_current_one(kind, backend):
    if torch.cuda.device_count() < 2:
        pytest.skip("there is one GPU")
    loss = KINDS[kind].loss(backend)
    arguments = draw(kind, SHAPE, device="cuda:0")
    first = step(loss, *arguments)
    with torch.cuda.device(0):
        second = step(loss, *(tensor.to("cuda:1") for tensor in arguments))
        assert torch.cuda.current_device() == 0
    assert all(tensor.device == torch.device("cuda:1") for tensor in second)
    same = torch.cuda.get_device_name(0) == torch.cuda.get_device_name(1)
    tolerance = {"rtol": 0, "atol": 0} if same else {"rtol": 1e-5, "atol": 1e-6}
    for one, other in zip(first, second, strict=True):
        torch.testing.assert_close(one, other.to("cuda:0"), **tolerance)
