"""One case on the GPU: check, weigh, time."""

from __future__ import annotations

import contextlib
import functools
import gc
from collections.abc import Callable

import torch
from torch import Tensor

from .. import accuracy
from ..cases import DISTILLATION, Case, build
from ..competitors import COMPILED, EAGER, Loss, compiled, eager, fused
from ..timing import Step, interleave
from . import figures
from .cases import CUDA, NAIVE, Entry

DEVICE = "cuda"
COPY = "copy"
#: Milliseconds of each turn, before which it is run for a few more.
WARM_UP, TURN = 10, 30

#: Told what is done next: a process that dies has said so.
Say = Callable[[str], None]


class DeviceLostError(Exception):
    """The GPU answers nothing more in this process."""


def maker(name: str) -> Callable[[Case], Loss]:
    """Of a competitor; backends have their own names."""
    naive = {EAGER: eager, COMPILED: compiled}
    return naive[name] if name in naive else functools.partial(fused, backend=name)


def synchronize() -> None:
    """Wait for the GPU.

    Raises:
        DeviceLostError: where an earlier kernel failed, which is for good.
    """
    try:
        torch.cuda.synchronize()
    except RuntimeError as error:
        raise DeviceLostError(first_line(error)) from error


def peak_memory(call: Callable[[], object]) -> int:
    """The most bytes that a call holds at once, beyond what was there before."""
    synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_stats()["allocated_bytes.all.current"]
    result = call()
    synchronize()
    del result
    return torch.cuda.memory_stats()["allocated_bytes.all.peak"] - before


def seconds(step: Step) -> float:
    """Median of a turn's runs, caches emptied before each."""
    from triton.testing import do_bench  # noqa: PLC0415, there need be no GPU to import this file

    step.prepare()
    return do_bench(step.run, warmup=WARM_UP, rep=TURN, return_mode="median") / 1000


def release_memory() -> None:
    gc.collect()
    torch.cuda.empty_cache()


def first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}"


def measure(entry: Entry, rounds: int, say: Say, without: dict[str, str]) -> dict[str, object]:
    """`figures.row` of a case.

    Args:
        without: competitors that are left out, and why.

    Raises:
        DeviceLostError: where a kernel failed.
    """
    case = entry.case
    say("inputs")
    logits, *targets = build(case, DEVICE)
    logits.requires_grad_()
    failed = {name: why for name, why in without.items() if name in entry.competitors}
    losses, peaks = {}, {}
    for name in entry.competitors:
        if name in failed:
            continue
        say(name)
        with _caught(name, failed):
            loss = maker(name)(case)
            torch.autograd.grad(loss(logits, *targets), logits)  # compiles
            peaks[name] = peak_memory(_step(loss, logits, targets))
            losses[name] = loss
    say("check")
    errors, wrong = {}, {}
    with _caught("check", failed):
        _check(case, losses, logits, targets, errors, wrong)
    release_memory()
    # It does its own runs before those that count.
    turns = interleave(_steps(losses, logits, targets, failed, say), rounds, seconds, uncounted=0)
    copies = turns.pop((COPY, COPY))
    by_name: figures.Turns = {}
    for (name, part), times in turns.items():
        by_name.setdefault(name, {})[part] = times
    peaks = {name: peak for name, peak in peaks.items() if name in by_name}
    return figures.row(case, by_name, copies, peaks, errors, wrong, failed)


def prepare(entry: Entry) -> None:
    """Let who compiles at run time do so, and keep it on disk: processes can do that side by
    side, which would disturb a clock."""
    case = entry.case
    logits, *targets = _blank(case)
    logits.requires_grad_()
    for name in entry.competitors:
        if name not in (EAGER, CUDA):
            with _caught(name, {}):
                torch.autograd.grad(maker(name)(case)(logits, *targets), logits)


def _blank(case: Case) -> list[Tensor]:
    """Tensors like those of `cases.build`, which takes several times their memory to draw them."""
    memory = torch.channels_last if case.layout == "channels_last" else torch.contiguous_format
    like = {"dtype": getattr(torch, case.dtype), "device": DEVICE}

    def blank() -> Tensor:
        return torch.empty(case.shape, **like, memory_format=memory).zero_()

    n, _, *spatial = case.shape
    labels = torch.zeros(n, *spatial, dtype=torch.int64, device=DEVICE)
    target = blank() if case.target == "soft" else labels
    return [blank(), target, *([blank()] if case.objective == DISTILLATION else [])]


@contextlib.contextmanager
def _caught(name: str, failed: dict[str, str]):
    """What goes wrong with one competitor stops no other."""
    try:
        yield
        synchronize()
    except DeviceLostError:
        raise
    except Exception as error:  # of a compiler, an allocator, an operator
        failed[name] = first_line(error)
        synchronize()
        release_memory()


def _step(loss: Loss, logits: Tensor, targets: list[Tensor]) -> Callable[[], object]:
    return lambda: torch.autograd.grad(loss(logits, *targets), logits)


def _steps(
    losses: dict[str, Loss],
    logits: Tensor,
    targets: list[Tensor],
    failed: dict[str, str],
    say: Say,
) -> dict[tuple[str, str], Step]:
    """By competitor and part; and the copy."""
    source = logits.detach()
    copy = torch.empty_like(source)
    steps = {(COPY, COPY): Step(lambda: copy.copy_(source), lambda: say(COPY))}
    for name, loss in losses.items():
        forward = functools.partial(loss, logits, *targets)
        parts = {figures.FORWARD: forward, figures.STEP: _step(loss, logits, targets)}
        if name not in NAIVE:
            with _caught(name, failed):
                parts[figures.BACKWARD] = functools.partial(
                    torch.autograd.grad, loss(logits, *targets), logits, retain_graph=True
                )
        if name not in failed:
            saying = functools.partial(say, name)
            steps |= {(name, part): Step(run, saying) for part, run in parts.items()}
    return steps


def _check(
    case: Case,
    losses: dict[str, Loss],
    logits: Tensor,
    targets: list[Tensor],
    errors: dict[str, dict[str, float]],
    wrong: dict[str, str],
) -> None:
    """Adds the errors of the backends, and why what is wrong is. Wrong ones are timed all the same,
    and the run fails in the end: whoever has a GPU for minutes wants to know both."""
    # As exact as is of use: half types are judged by 1e-5 and more, and are as many again.
    dtype = torch.float64 if case.dtype == "float32" else torch.float32
    expected = accuracy.oracle(case, logits, *targets, dtype=dtype)
    release_memory()
    counted = accuracy.untied(case, logits, *targets)
    allowed = accuracy.LOSS_TOLERANCE[case.dtype], accuracy.GRADIENT_TOLERANCE[case.dtype]
    for name, loss in losses.items():
        if name in NAIVE:
            continue
        release_memory()
        answer = accuracy.answer(loss, logits, *targets)
        found = accuracy.errors(answer, expected, counted)
        errors[name] = dict(zip(("loss", "gradient"), found, strict=True))
        try:
            accuracy.check(name, found, allowed)
        except ArithmeticError as error:
            wrong[name] = str(error)
