"""What a trial finds, and what becomes of it: rows of a table, and failures."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from ..backend import BY_NAME
from .corpus.case import LossCase

#: The name of the check that a backend runs here at all.
RUNS = "runs here"


@dataclass(frozen=True)
class Subject:
    """A backend that is checked.

    Attributes:
        backend: a name of `backends()`.
        quick: a few cases of each sort.
    """

    backend: str
    quick: bool = False

    @property
    def device(self) -> str:
        """Where its tensors lie: "cpu" or "cuda"."""
        return BY_NAME[self.backend].device or "cpu"

    @property
    def where(self) -> str:
        """What runs it, in words."""
        backend = BY_NAME[self.backend]
        if backend.is_stand_in:
            return backend.stand_in.how
        return "on the GPU" if backend.needs_gpu else "on the CPU"

    @property
    def is_interpreted(self) -> bool:
        """Whether a step takes a fifth of a second, however small it is."""
        return self.where == "interpreted"

    def computes(self, case: LossCase) -> bool:
        """Whether the backend's own kernels compute the whole of a case. For one that does not
        interpolate logits PyTorch does, and neither repeats its bits nor saves memory."""
        return not case.upsamples or BY_NAME[self.backend].upsamples

    def chosen(self, cases: Iterable[LossCase]) -> list[LossCase]:
        """The cases that it is checked on."""
        return [
            case
            for case in cases
            if (case.quick if self.quick else case.checked)
            and (case.interpreted or not self.is_interpreted)
        ]


class Measure(NamedTuple):
    """A number that a trial found, and how large it may be."""

    what: str
    found: float
    allowed: float

    @property
    def holds(self) -> bool:
        return self.found <= self.allowed

    @property
    def share(self) -> float:
        """Of what is allowed; what is no number is more than anything."""
        return math.inf if math.isnan(self.found) else self.found / self.allowed


class Mismatch(Exception):  # noqa: N818, no error of the program
    """What a trial found is not what was expected; both in words."""

    def __init__(self, found: str, expected: str):
        super().__init__(f"{found}: expected {expected}")
        self.found = found
        self.expected = expected


class Trial(NamedTuple):
    """One case of a check: `run` measures, and raises where there is nothing to measure."""

    case: str
    run: Callable[[], Iterable[Measure]]


@dataclass(frozen=True)
class Failure:
    backend: str
    check: str
    case: str
    found: str
    expected: str


@dataclass(frozen=True)
class Row:
    """A check of a backend.

    Attributes:
        where: what ran it, see `Subject.where`.
        worst: of each thing measured, what came nearest to what is allowed, or farthest beyond.
        skipped: why nothing ran; None where it did. A failure too of a backend that was asked for.
    """

    backend: str
    where: str
    check: str
    passed: int = 0
    failed: int = 0
    worst: tuple[Measure, ...] = ()
    skipped: str | None = None


@dataclass
class Report:
    rows: list[Row] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        return not self.failures

    def add(self, row: Row, failures: Iterable[Failure] = ()) -> None:
        self.rows.append(row)
        self.failures.extend(failures)
