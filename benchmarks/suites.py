"""Which cases are timed, against what."""

from __future__ import annotations

from dataclasses import dataclass, replace

from jml_kernels.bench.cases import CE_JACCARD, DISTILLATION, JACCARD, PRESETS, BenchmarkCase
from jml_kernels.bench.competitors import (
    COMPILED,
    CROSS_ENTROPY,
    DICE,
    EAGER,
    FULL_SIZE,
    IN_PLACE,
    INTERPOLATED,
)
from jml_kernels.bench.growth import BATCH, CLASSES, PIXELS, RATIO, WINDOW
from jml_kernels.bench.peers import PEERS

CPU = "cpu"
CPU_IN_PLACE = CPU + IN_PLACE
CPU_INTERPOLATED = CPU + INTERPOLATED
CPU_FULL_SIZE = CPU + FULL_SIZE
NNUNET = "nnunet-dice"
BOTH = ("default", "warm")

CITYSCAPES, ADE20K = PRESETS["cityscapes"], PRESETS["ade20k"]
VOLUME, BINARY = PRESETS["volume"], PRESETS["binary"]
IMAGENET = (2, 1000, 96, 96)
#: Of labels whose logits have lower resolution.
WIDE, CROPS_OF_ADE20K = (2, 19, 512, 1024), (2, 150, 512, 512)


@dataclass(frozen=True)
class Suite:
    """Cases, against whom, under which settings of the allocator, and along which axes cost grows
    from the first case."""

    cases: tuple[BenchmarkCase, ...]
    competitors: tuple[str, ...]
    allocators: tuple[str, ...] = BOTH
    axes: tuple[str, ...] = ()


def _kinds(shape: tuple[int, ...]) -> list[BenchmarkCase]:
    """Every kind of target: of labels the usual case and the hard one."""
    return [
        BenchmarkCase(shape),
        BenchmarkCase(shape, labels="random"),
        BenchmarkCase(shape, "boundary"),
        BenchmarkCase(shape, "boundary", labels="random"),
        BenchmarkCase(shape, "soft"),
    ]


_JACCARD = [*_kinds(CITYSCAPES), *_kinds(ADE20K)]
_OBJECTIVES = [
    BenchmarkCase(shape, target, objective)
    for shape in (CITYSCAPES, ADE20K)
    for target, objective in (
        ("labels", CE_JACCARD),
        ("boundary", CE_JACCARD),
        ("soft", CE_JACCARD),
        ("labels", DISTILLATION),
    )
]
_FORMS = [
    *(
        BenchmarkCase(CITYSCAPES, target, dtype=dtype)
        for dtype in ("float16", "bfloat16", "float64")
        for target in ("labels", "soft")
    ),
    *(
        BenchmarkCase(shape, target, layout="channels_last")
        for shape in (CITYSCAPES, ADE20K)
        for target in ("labels", "soft")
    ),
    BenchmarkCase(CITYSCAPES, dtype="bfloat16", layout="channels_last"),
    BenchmarkCase(BINARY),
    BenchmarkCase(BINARY, "boundary"),
    BenchmarkCase(BINARY, layout="channels_last"),
    BenchmarkCase(IMAGENET),
    BenchmarkCase(IMAGENET, "soft"),
    BenchmarkCase(IMAGENET, layout="channels_last"),
    BenchmarkCase(VOLUME),
    BenchmarkCase(VOLUME, "boundary"),
    BenchmarkCase(VOLUME, dtype="float16"),
    BenchmarkCase(VOLUME, layout="channels_last"),
]
_PEERS = [
    BenchmarkCase(shape, target, JACCARD)
    for shape in (CITYSCAPES, ADE20K)
    for target in ("labels", "soft")
]

_UPSAMPLED = [
    *(replace(case, upsample=4) for case in _kinds(CITYSCAPES)[:4]),
    BenchmarkCase(CITYSCAPES, objective=DISTILLATION, upsample=4),
    BenchmarkCase(WIDE, upsample=8),
    BenchmarkCase(CROPS_OF_ADE20K, upsample=4),
    BenchmarkCase(CROPS_OF_ADE20K, upsample=8),
]

SUITES = {
    "jml": Suite(
        tuple(_JACCARD), (CPU, CPU_IN_PLACE, EAGER, COMPILED, CROSS_ENTROPY, DICE, NNUNET)
    ),
    "objectives": Suite(tuple(_OBJECTIVES), (CPU, EAGER, COMPILED)),
    "forms": Suite(tuple(_FORMS), (CPU, EAGER), ("warm",)),
    "peers": Suite(tuple(_PEERS), (CPU, *PEERS), ("warm",)),
    "growth": Suite(
        (BenchmarkCase(CITYSCAPES),),
        (CPU, EAGER, CROSS_ENTROPY),
        ("warm",),
        (CLASSES, PIXELS, BATCH, WINDOW),
    ),
    "upsample": Suite(
        tuple(_UPSAMPLED),
        (CPU, CPU_INTERPOLATED, CPU_FULL_SIZE, EAGER, COMPILED, CROSS_ENTROPY),
        axes=(BATCH, RATIO),
    ),
}

#: Sizes that take no time; what they show is that everything runs.
_SMALL = {
    CITYSCAPES: (2, 19, 64, 48),
    ADE20K: (1, 150, 32, 32),
    VOLUME: (1, 14, 16, 16, 16),
    BINARY: (2, 2, 64, 64),
    IMAGENET: (1, 1000, 16, 16),
    WIDE: (1, 19, 32, 64),
    CROPS_OF_ADE20K: (1, 150, 32, 32),
}


def quick(suite: Suite) -> Suite:
    """The same at small sizes, without a compiler, which takes longer than all the rest."""
    return replace(
        suite,
        cases=tuple(replace(case, shape=_SMALL[case.shape]) for case in suite.cases),
        competitors=tuple(name for name in suite.competitors if name != COMPILED),
    )
