"""The same bits: twice, and on the CPU with any number of threads."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from .. import accuracy
from .corpus.case import LossCase
from .corpus.drawing import arguments, differentiable
from .corpus.losses import make
from .corpus.steps import STEPS
from .results import Measure, Mismatch, Subject, Trial

THREADS = (1, 2, 3)


def twice(subject: Subject) -> list[Trial]:
    return _trials(subject, _twice)


def any_threads(subject: Subject) -> list[Trial] | str:
    if subject.backend == "reference":
        return "the reference promises it for one number of threads"
    if subject.backend != "cpu":
        return "its kernels take no threads of PyTorch"
    return _trials(subject, _any_threads)


def _trials(subject: Subject, run: Callable[[LossCase, Subject], list[Measure]]) -> list[Trial]:
    cases = (case for case in subject.chosen(STEPS) if subject.computes(case))
    return [Trial(case.name, functools.partial(run, case, subject)) for case in cases]


def _step(case: LossCase, subject: Subject) -> Callable[[], accuracy.Answer]:
    """The tensors are made once: PyTorch's softmax has other bits on other numbers of threads."""
    logits, *others = arguments(case, subject.device)
    loss = make(case, subject.backend, subject.device)
    return lambda: accuracy.answer(loss, differentiable(case, logits), *others)


def _twice(case: LossCase, subject: Subject) -> list[Measure]:
    step = _step(case, subject)
    first = step()
    for _ in range(1 if subject.is_interpreted else 3):
        require_same_bits(step(), first)
    return []


def _any_threads(case: LossCase, subject: Subject) -> list[Measure]:
    step, found = _step(case, subject), []
    for count in THREADS:
        with threads(count):
            found.append(step())
    for count, answer in zip(THREADS[1:], found[1:], strict=True):
        require_same_bits(answer, found[0], f" with {count} threads and with 1")
    return []


@contextmanager
def threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def require_same_bits(found: accuracy.Answer, expected: accuracy.Answer, when: str = "") -> None:
    """Raise a `Mismatch` where they differ."""
    for name in ("loss", "gradient"):
        one, other = getattr(found, name), getattr(expected, name)
        different = bits(one) != bits(other)
        if different.any():
            raise Mismatch(
                f"{int(different.sum())} of {one.numel()} numbers of the {name} differ{when}",
                "the same bits",
            )


def bits(numbers: Tensor) -> Tensor:
    """As integers: NaN equals NaN, and 0.0 is not -0.0."""
    sizes = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    return numbers.contiguous().view(sizes[numbers.element_size()])
