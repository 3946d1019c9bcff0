"""What is timed on a GPU, the most important first."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace

import torch

import jml_kernels as jml
from jml_kernels.bench.cases import CE_JACCARD, DISTILLATION, JACCARD, BenchmarkCase
from jml_kernels.bench.competitors import (
    COMPILED,
    CROSS_ENTROPY,
    EAGER,
    FULL_SIZE,
    INTERPOLATED,
)

#: Where tensors lie.
DEVICE = "cuda"

CUDA, TRITON = "cuda", "triton"
BACKENDS = (CUDA, TRITON)
NAIVE = (EAGER, COMPILED)

CLASSES = (2, 4, 8, 16, 19, 21, 32, 64, 128, 150, 171, 256)
DTYPES = ("float32", "bfloat16", "float16")
LAYOUTS = ("contiguous", "channels_last")
SIDE = 512
#: Of the logits: far more than any cache holds, and long against a launch.
BYTES = 2**30
QUICK_BYTES = 2**24


@dataclass(frozen=True)
class Entry:
    """A case and who takes part."""

    case: BenchmarkCase
    competitors: tuple[str, ...]

    def here(self) -> Entry:
        """Without the backends that cannot run here: of those `jml.backends` says why."""
        backends = jml.backends()

        def why_not(name: str) -> str | None:
            return backends.get(name.removesuffix(INTERPOLATED).removesuffix(FULL_SIZE))

        runs = [name for name in self.competitors if why_not(name) is None]
        return replace(self, competitors=tuple(runs))

    @property
    def compilers(self) -> list[str]:
        """Who compiles at run time."""
        return [name for name in self.competitors if name in (TRITON, COMPILED)]


def shape_of(classes: int, dtype: str, size: int) -> tuple[int, ...]:
    """About `size` bytes of logits, in images of one size."""
    image = classes * SIDE**2 * getattr(torch, dtype).itemsize
    return (max(size // image, 1), classes, SIDE, SIDE)


def _case(
    classes: int, dtype: str, layout: str, target="labels", objective=JACCARD
) -> BenchmarkCase:
    return BenchmarkCase(
        shape_of(classes, dtype, BYTES), target, objective, dtype=dtype, layout=layout
    )


_FORMS = tuple(itertools.product(DTYPES, LAYOUTS))
#: What takes other ways through the kernels: a target and an objective.
_KINDS = (
    ("labels", JACCARD),
    ("soft", JACCARD),
    ("boundary", JACCARD),
    ("labels", DISTILLATION),
    ("labels", CE_JACCARD),
)


def _every_kind(*form: str) -> list[BenchmarkCase]:
    return [_case(classes, *form, *kind) for kind in _KINDS for classes in (19, 150)]


_USUAL = _every_kind("float32", "contiguous")
_AMP = _every_kind("bfloat16", "channels_last")
_FORMS_OF_LABELS = [
    case
    for form in _FORMS
    for classes in (19, 150)
    if (case := _case(classes, *form)) not in (*_USUAL, *_AMP)
]
#: So small that launches are all that takes time.
_SMALL = [BenchmarkCase((2, classes, 64, 64)) for classes in (19, 150)]
_TWO = [_case(2, *form) for form in _FORMS]
_OTHERS = [
    _case(classes, *form) for form in _FORMS for classes in CLASSES if classes not in (2, 19, 150)
]

#: Logits of lower resolution: images and objectives of the usual network, and many classes.
_UPSAMPLED = [
    *(
        BenchmarkCase((32, 19, SIDE, SIDE), target, objective, upsample=ratio)
        for target, objective, ratio in (
            ("labels", JACCARD, 4),
            ("boundary", JACCARD, 4),
            ("labels", DISTILLATION, 4),
            ("labels", JACCARD, 8),
        )
    ),
    *(BenchmarkCase((8, 150, SIDE, SIDE), upsample=ratio) for ratio in (4, 8)),
    *(
        BenchmarkCase((n, classes, SIDE, SIDE), dtype="bfloat16", upsample=4)
        for n, classes in ((32, 19), (8, 150))
    ),
]

_WITH_NAIVE = tuple(Entry(case, (*BACKENDS, *NAIVE)) for case in _USUAL)
_MORE_WITH_NAIVE = tuple(
    Entry(case, (*BACKENDS, *NAIVE)) for case in (*_AMP, *_FORMS_OF_LABELS, *_SMALL, *_TWO)
)
_INTERPOLATING = (CUDA, CUDA + INTERPOLATED, CUDA + FULL_SIZE, *NAIVE, CROSS_ENTROPY)
_LOWER = tuple(Entry(case, _INTERPOLATING) for case in _UPSAMPLED)
#: What is prepared together and then timed, one batch after the other.
BATCHES = (_WITH_NAIVE, _LOWER, _MORE_WITH_NAIVE, tuple(Entry(case, BACKENDS) for case in _OTHERS))
ENTRIES = tuple(itertools.chain(*BATCHES))


def quick(entry: Entry) -> Entry:
    """The same at a size that takes no time, without a compiler that does: shows that all runs."""
    case = entry.case
    n, c, *spatial = case.shape
    image = c * math.prod(spatial) * getattr(torch, case.dtype).itemsize
    small = replace(case, shape=(max(min(n, QUICK_BYTES // image), 1), c, *spatial))
    return Entry(small, tuple(name for name in entry.competitors if name != COMPILED))


#: Of `ENTRIES`: a few of each sort.
QUICK = tuple(
    i
    for i, entry in enumerate(ENTRIES)
    if entry.case.shape[1] in (2, 19) and entry.case.dtype != "bfloat16"
)
