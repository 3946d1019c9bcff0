"""The inputs that the table tells of."""

from __future__ import annotations

from dataclasses import dataclass, field

from benchmarks.gpu.cases import BYTES, shape_of
from jml_kernels.bench.cases import CE_JACCARD, DISTILLATION, JACCARD, SMOOTHING, BenchmarkCase

LAST = "channels_last"


@dataclass(frozen=True)
class Row:
    """A case, and options of the loss beyond its own."""

    case: BenchmarkCase
    options: dict[str, float] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """As benchmarks.gpu has it, which the figures are compared by."""
        more = "".join(f", {name} = {value:g}" for name, value in self.options.items())
        return self.case.name + more


def _row(
    *shape: int,
    dtype: str = "float32",
    layout: str = "contiguous",
    target: str = "labels",
    objective: str = JACCARD,
    upsample: int = 1,
    **options: float,
) -> Row:
    form = {"dtype": dtype, "layout": layout, "upsample": upsample}
    return Row(BenchmarkCase(shape, target, objective, **form), options)


_EVERY_PIXEL = {"label_smoothing": SMOOTHING}
_TARGETS = ({"target": "boundary"}, {"target": "soft"}, {"objective": DISTILLATION})
_HALF, _AMP = {"dtype": "float16"}, {"dtype": "bfloat16", "layout": LAST}
_FORMS = tuple(
    {"dtype": dtype, "layout": layout}
    for dtype in ("float32", "float16", "bfloat16")
    for layout in ("contiguous", LAST)
)

_19, _150 = (4, 19, 512, 512), (1, 150, 512, 512)

#: Of the sizes that people train with.
USUAL = (
    *(_row(*_19, **form) for form in _FORMS),
    *(_row(*_19, **form, **_EVERY_PIXEL) for form in ({}, _HALF)),
    *(_row(*_19, **form, **target) for target in _TARGETS for form in ({}, _HALF, _AMP)),
    *(_row(*_19, **form, objective=CE_JACCARD) for form in ({}, _HALF)),
    _row(2, 19, 1024, 2048),
    *(_row(8, 2, 512, 512, **form) for form in ({}, _HALF, {"layout": LAST})),
    _row(1, 4, 128, 128, 128),
    _row(1, 4, 128, 128, 128, target="boundary"),
    *(_row(*_150, **form) for form in _FORMS),
    *(_row(*_150, **target) for target in _TARGETS),
    *(_row(1, 256, 512, 512, **form) for form in ({}, _HALF)),
    _row(1, 1000, 256, 256),
)

_LARGE_19, _LARGE_150 = (shape_of(classes, "float32", BYTES) for classes in (19, 150))

#: Of about 1 GiB of logits, as benchmarks.gpu measures them first.
LARGE = (
    *(_row(*_LARGE_19, **target) for target in ({}, *_TARGETS)),
    *(_row(*_LARGE_150, **target) for target in ({}, *_TARGETS[:2])),
)

#: Logits of lower resolution, as benchmarks.gpu measures them.
UPSAMPLED = tuple(
    _row(*shape, upsample=ratio, **form)
    for shape in ((32, 19, 512, 512), (8, 150, 512, 512))
    for ratio, form in ((4, {}), (8, {}), (4, {"dtype": "bfloat16"}), (4, {"target": "boundary"}))
)
ROWS = (*USUAL, *LARGE, *UPSAMPLED)
