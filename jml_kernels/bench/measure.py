"""Measures one case: checks the results, weighs the memory, takes the times."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

import jml_kernels as jml

from .. import accuracy, upsampling
from ..memory import peak_memory
from . import figures
from .cases import DISTILLATION, METRICS, BenchmarkCase, build
from .competitor import NotAvailableError
from .competitors import BACKENDS, FULL_SIZE, IN_PLACE, INTERPOLATED, find, fused, make
from .timing import OfGpu, Step, interleave, of_cpu

#: The errors of loss and gradient that naive code may have: its sums in float32 cancel, and it must
#: only be the same loss.
NAIVE_TOLERANCE = (1e-4, 1e-2)

#: The same of scores: pixels at the edges of bins fall into either by their last bit.
SCORE_TOLERANCE = 1e-4

#: Called with what is done next, so that a process that dies has said what it did.
Say = Callable[[str], None]


class DeviceLostError(Exception):
    """The GPU answers nothing more in this process."""


class Inputs(NamedTuple):
    """What a loss is called with in a case."""

    logits: Tensor
    targets: list[Tensor]


def measure(
    case: BenchmarkCase,
    names: list[str],
    device: str = "cpu",
    rounds: int = 11,
    say: Say = lambda what: None,
    without: Mapping[str, str] | None = None,
) -> dict[str, object]:
    """`figures.row` of a case. What goes wrong with one competitor stops no other.

    Args:
        names: of competitors; others are compared with the first.
        device: "cpu" or "cuda".
        rounds: of which figures are medians, at least 2.
        without: who is left out, and why.

    Raises:
        DeviceLostError: where a kernel failed.
    """
    say("inputs")
    logits, *targets = build(case, device)
    inputs = Inputs(logits.requires_grad_(), targets)
    say("check")
    judge = Judge(case, inputs)
    left_out = dict(without or {})
    steps: dict[str, Step] = {}
    peaks: dict[str, int] = {}
    errors: dict[str, dict[str, float]] = {}
    wrong: dict[str, str] = {}
    for name in names:
        if name in left_out:
            continue
        say(name)
        with _caught(name, device, left_out):
            loss, given = make(name, case), inputs
            if name.endswith(FULL_SIZE):
                given = at_full_size(case, inputs)
            step, answer = _first(name, loss, given)  # compiles
            if given is not inputs:
                answer = None  # its gradient is that of other logits
            distance = judge.errors(answer)
            del answer
            step.prepare()
            peaks[name] = peak_memory(step.run, device) + held_besides(given, inputs)
            steps[name] = step
            if distance is not None:
                errors[name] = distance
            if find(name).same and (why := judge.wrong(name, distance)):
                wrong[name] = why
    del judge
    release_memory(device)
    copy, source = torch.empty_like(logits), logits.detach()
    steps[figures.COPY] = Step(lambda: copy.copy_(source))
    clock = OfGpu() if device == "cuda" else of_cpu
    turns = interleave(steps, rounds, clock, say=say)
    return figures.row(case, device, turns, peaks, errors, wrong, left_out)


def at_full_size(case: BenchmarkCase, inputs: Inputs) -> Inputs:
    """Logits, and a teacher's, that are interpolated already."""
    logits, (target, *teacher) = inputs

    def resized(tensor: Tensor) -> Tensor:
        full = upsampling.interpolated(tensor.detach(), case.full_size, False)
        return full.to(tensor.dtype)

    return Inputs(resized(logits).requires_grad_(), [target, *map(resized, teacher)])


def held_besides(given: Inputs, inputs: Inputs) -> int:
    """Bytes of what a competitor is given in place of the inputs of its case."""
    if given is inputs:
        return 0
    logits, (_, *teacher) = given
    return sum(tensor.nbytes for tensor in (logits, *teacher))


def _first(
    name: str, loss: Callable[..., Tensor], inputs: Inputs
) -> tuple[Step, accuracy.Answer | None]:
    """The step of a competitor, and what it gives the first time. One that returns a value without
    a gradient, a metric, has no backward."""
    logits, targets = inputs
    scale = accuracy.gradient_scale(logits).to(logits.device)
    source, prepare = logits.detach(), lambda: None
    if name.endswith(IN_PLACE):
        logits = accuracy.made_by_an_operation(source.clone())

        @torch.no_grad()
        def prepare() -> None:
            logits.copy_(source)

    def forward() -> Tensor:
        return loss(logits, *targets)

    def backward(value: Tensor) -> Tensor:
        (gradient,) = torch.autograd.grad(value, logits, scale.to(value.dtype))
        return gradient

    prepare()
    value = forward()
    if not value.requires_grad:
        return Step(forward, None, prepare), accuracy.Answer(value, None)
    answer = accuracy.Answer(value.detach(), backward(value))
    return Step(forward, backward, prepare), answer


class Judge:
    """Holds values and gradients against the oracle, the reference backend in float64."""

    def __init__(self, case: BenchmarkCase, inputs: Inputs) -> None:
        self.case = case
        self.why_not: str | None = None
        logits, targets = inputs
        # As exact as is of use: half types are judged by 1e-5 and more, and are as many again.
        exact = torch.float32 if logits.element_size() == 2 else torch.float64
        leaf, *others = accuracy.in_dtype(exact, logits, *targets)
        try:
            loss = fused(case, "reference")
            if case.objective == METRICS:
                self.expected = accuracy.Answer(loss(leaf, *others), None)
                return
            self.expected = accuracy.answer(loss, leaf.requires_grad_(), *others)
            full, targets = at_full_size(case, inputs)
            counted = accuracy.untied(full, _soft_targets(case, logits.shape[1], *targets))
            self.counted = accuracy.at_low_resolution(counted, logits.shape[2:])
        except (RuntimeError, MemoryError) as error:
            if not _is_out_of_memory(error):
                raise
            self.why_not = first_line(error)

    def errors(self, answer: accuracy.Answer | None) -> dict[str, float] | None:
        """The errors of "loss" and "gradient", of a score of "loss" alone; None where a loss has no
        gradient, or there is no oracle."""
        if answer is None or self.why_not is not None:
            return None
        if self.expected.gradient is None:
            return {"loss": abs(answer.loss.item() - self.expected.loss.item())}
        if answer.gradient is None:
            return None
        of_loss, of_gradient = accuracy.errors(answer, self.expected, self.counted)
        return {"loss": of_loss, "gradient": of_gradient}

    def wrong(self, name: str, errors: dict[str, float] | None) -> str | None:
        """Why who computes our loss is wrong. It is timed all the same; who reports figures says
        so in their place."""
        if errors is None:
            return f"not checked: {self.why_not}"
        ours = name.removesuffix(IN_PLACE).removesuffix(INTERPOLATED) in BACKENDS
        dtype = getattr(torch, self.case.dtype)
        if "gradient" not in errors:
            error = errors["loss"]
            return (
                None if error <= SCORE_TOLERANCE else f"{name}: its scores are off by {error:.2e}"
            )
        try:
            limits = accuracy.allowed(dtype) if ours else NAIVE_TOLERANCE
            accuracy.check(name, (errors["loss"], errors["gradient"]), limits)
        except ArithmeticError as error:
            return str(error)
        return None


def _soft_targets(
    case: BenchmarkCase, num_classes: int, target: Tensor, *teacher: Tensor
) -> Iterator[Tensor]:
    """Those that x may meet, float64 (N, C, *spatial)."""
    if case.target == "soft":
        yield target.double()
    if case.target == "boundary":
        yield jml.smooth_labels(target, num_classes, **case.options, dtype=torch.float64)
    if case.objective == DISTILLATION:
        for logits in teacher:
            yield torch.softmax(logits.double(), dim=1)


@contextlib.contextmanager
def _caught(name: str, device: str, left_out: dict[str, str]) -> Iterator[None]:
    """Notes why a competitor failed."""
    try:
        yield
        synchronize(device)
    except NotAvailableError as error:
        left_out[name] = str(error)
    except DeviceLostError:
        raise
    except Exception as error:  # of a compiler, an allocator, an operator
        left_out[name] = first_line(error)
        synchronize(device)
        release_memory(device)


def synchronize(device: str) -> None:
    """Wait for the GPU.

    Raises:
        DeviceLostError: where an earlier kernel failed, which is for good.
    """
    if device != "cuda":
        return
    try:
        torch.cuda.synchronize()
    except RuntimeError as error:
        raise DeviceLostError(first_line(error)) from error


def release_memory(device: str) -> None:
    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()


def _is_out_of_memory(error: Exception) -> bool:
    """Of a GPU, or of the CPU, whose allocator raises a plain RuntimeError."""
    kinds = (torch.OutOfMemoryError, MemoryError)
    return isinstance(error, kinds) or "can't allocate memory" in str(error)


def first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}"
