"""Which cases are timed, against what."""

from __future__ import annotations

from dataclasses import dataclass, replace

from .cases import CE_JACCARD, DISTILLATION, Case
from .competitors import COMPETITORS, COMPILED, EAGER, FUSED


@dataclass(frozen=True)
class Suite:
    """Cases, against whom, and whether `goals.py` speaks of them."""

    cases: tuple[Case, ...]
    competitors: tuple[str, ...]
    judged: bool = False

    def chosen(self, only: list[str]) -> list[Case]:
        """The cases whose name has all these parts."""
        return [case for case in self.cases if all(part in case.name for part in only)]


def _kinds(shape: tuple[int, ...]) -> list[Case]:
    """Every kind of target: of labels the usual case and the hard one."""
    return [
        Case(shape),
        Case(shape, labels="random"),
        Case(shape, "boundary"),
        Case(shape, "boundary", labels="random"),
        Case(shape, "soft"),
    ]


CITYSCAPES = (4, 19, 512, 512)
ADE20K = (2, 150, 256, 256)
VOLUME = (2, 14, 96, 96, 96)
BINARY = (8, 2, 1024, 1024)
IMAGENET = (2, 1000, 96, 96)

_CPU = [*_kinds(CITYSCAPES), *_kinds(ADE20K)]
_OBJECTIVES = [
    *(
        Case(shape, target, CE_JACCARD)
        for shape in (CITYSCAPES, ADE20K)
        for target in ("labels", "boundary", "soft")
    ),
    *(Case(shape, "labels", DISTILLATION) for shape in (CITYSCAPES, ADE20K)),
]
_SWEEP = [
    *(
        Case(CITYSCAPES, target, dtype=dtype)
        for dtype in ("float16", "bfloat16", "float64")
        for target in ("labels", "soft")
    ),
    *(
        Case(shape, target, layout="channels_last")
        for shape in (CITYSCAPES, ADE20K)
        for target in ("labels", "soft")
    ),
    Case(CITYSCAPES, dtype="bfloat16", layout="channels_last"),
    Case(BINARY),
    Case(BINARY, "boundary"),
    Case(BINARY, layout="channels_last"),
    Case(IMAGENET),
    Case(IMAGENET, "soft"),
    Case(IMAGENET, layout="channels_last"),
    Case(VOLUME),
    Case(VOLUME, "boundary"),
    Case(VOLUME, dtype="float16"),
    Case(VOLUME, layout="channels_last"),
]


def _small(cases: list[Case]) -> tuple[Case, ...]:
    """The same cases at sizes that take no time; what they show is that everything runs."""
    sizes = {
        CITYSCAPES: (2, 19, 64, 48),
        ADE20K: (1, 150, 32, 32),
        VOLUME: (1, 14, 16, 16, 16),
        BINARY: (2, 2, 64, 64),
        IMAGENET: (1, 1000, 16, 16),
    }
    return tuple(replace(case, shape=sizes[case.shape]) for case in cases)


SUITES = {
    "cpu": Suite(tuple(_CPU), tuple(COMPETITORS), judged=True),
    "cpu, quick": Suite(_small(_CPU), tuple(COMPETITORS)),
    "objectives": Suite(tuple(_OBJECTIVES), (FUSED, EAGER, COMPILED), judged=True),
    "objectives, quick": Suite(_small(_OBJECTIVES), (FUSED, EAGER, COMPILED)),
    "sweep": Suite(tuple(_SWEEP), (FUSED, EAGER)),
    "sweep, quick": Suite(_small(_SWEEP), (FUSED, EAGER)),
}
