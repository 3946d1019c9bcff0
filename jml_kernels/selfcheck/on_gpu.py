"""What only a GPU shows of a step: it waits for nothing, can be captured, and runs on the stream
that is current."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ..accuracy import Answer
from .corpus.case import LossCase
from .corpus.drawing import arguments
from .corpus.losses import make
from .corpus.steps import ON_GPU
from .repeatability import require_same_bits
from .results import Measure, Mismatch, Subject, Trial

#: Cycles of a kernel that does nothing: some 0.1 s, in which the host has launched all the rest.
LONG = 200_000_000


def host_never_waits(subject: Subject) -> list[Trial] | str:
    found = _trials(subject, _never_waits)
    if isinstance(found, str):
        return found
    return [Trial("the debug mode sees who waits", _debug_mode_works), *found]


def cuda_graph(subject: Subject) -> list[Trial] | str:
    return _trials(subject, _captured)


def side_streams(subject: Subject) -> list[Trial] | str:
    return _trials(subject, _on_side_streams)


def _trials(
    subject: Subject, run: Callable[[LossCase, Subject], list[Measure]]
) -> list[Trial] | str:
    if not torch.cuda.is_available():
        return "no GPU here"
    if subject.device != "cuda":
        return f"it runs {subject.where}" if subject.device == "cpu" else "no GPU here"
    cases = (case for case in subject.chosen(ON_GPU) if subject.computes(case))
    return [Trial(case.name, functools.partial(run, case, subject)) for case in cases]


def _given(case: LossCase, subject: Subject, seed: int = 0) -> list[Tensor]:
    """The tensors that the loss is called with; no case has a mask."""
    return [tensor for tensor in arguments(case, subject.device, seed) if tensor is not None]


def _step(loss: nn.Module, logits: Tensor, *others: Tensor) -> Answer:
    """Forward and backward, with nothing that waits."""
    leaf = logits.detach().requires_grad_()
    value = loss(leaf, *others)
    value.backward()
    return Answer(value.detach(), leaf.grad)


# ---- the host ------------------------------------------------------------------------------------


@contextmanager
def waiting_is_an_error() -> Iterator[None]:
    """Within, whoever makes the host wait for the GPU raises a RuntimeError."""
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def _never_waits(case: LossCase, subject: Subject) -> list[Measure]:
    loss, given = make(case, subject.backend, subject.device), _given(case, subject)
    _step(loss, *given)  # compiles
    with waiting_is_an_error():
        _step(loss, *given)
    return []


def _debug_mode_works() -> list[Measure]:
    """Without this the others could not fail."""
    number = torch.ones((), device="cuda")
    with waiting_is_an_error():
        try:
            number.item()
        except RuntimeError:
            return []
    raise Mismatch("a wait that goes unseen", "a RuntimeError of torch.cuda.set_sync_debug_mode")


# ---- graphs --------------------------------------------------------------------------------------


def capture(
    loss: Callable[..., Tensor], logits: Tensor, *others: Tensor
) -> tuple[torch.cuda.CUDAGraph, Tensor]:
    """A step as a graph, and the value that it writes; the gradient is that of the logits, which
    require grad."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            logits.grad = None
            loss(logits, *others).backward()
    torch.cuda.current_stream().wait_stream(side)
    logits.grad = None
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        value = loss(logits, *others)
        value.backward()
    return graph, value


def _captured(case: LossCase, subject: Subject) -> list[Measure]:
    loss = make(case, subject.backend, subject.device)
    logits, *others = _given(case, subject)
    graph, value = capture(loss, logits.requires_grad_(), *others)
    for seed in (1, 2):  # what it reads is there at the replay, not at the capture
        with torch.no_grad():
            for old, new in zip((logits, *others), _given(case, subject, seed), strict=True):
                old.copy_(new)
        graph.replay()
        replayed = Answer(value.detach(), logits.grad)
        require_same_bits(replayed, _step(loss, logits, *others), " in a graph")
    return []


# ---- streams -------------------------------------------------------------------------------------


def _poisoned(tensor: Tensor) -> Tensor:
    """To be filled later: whoever reads it before gets NaN, or label 0 everywhere."""
    return torch.full_like(tensor, math.nan if tensor.is_floating_point() else 0)


def _on_side_streams(case: LossCase, subject: Subject) -> list[Measure]:
    """Inputs come late on each of two streams, which run side by side: whoever works on another
    stream, or waits for none, reads what is not there yet."""
    loss, given = make(case, subject.backend, subject.device), _given(case, subject)
    expected = _step(loss, *given)
    streams = [torch.cuda.Stream() for _ in range(2)]
    late = [[_poisoned(tensor) for tensor in given] for _ in streams]
    for stream in streams:
        # The memory of a first step is the stream's from then on: who asks the driver for more
        # may wait for the whole GPU, which hides who does not wait for what it should.
        torch.cuda.synchronize()
        with torch.cuda.stream(stream):
            _step(loss, *_given(case, subject, seed=1))
        torch.cuda.synchronize()
    found = []
    for stream, tensors in zip(streams, late, strict=True):
        with torch.cuda.stream(stream):
            torch.cuda._sleep(LONG)
            for tensor, value in zip(tensors, given, strict=True):
                tensor.copy_(value)
            found.append(_step(loss, *tensors))
    torch.cuda.synchronize()
    for answer in found:
        require_same_bits(answer, expected, " on a side stream")
    return []
