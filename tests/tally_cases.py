"""What the tally is counted of in tests, and how a backend's is judged.

Probabilities are binned, and one at the edge of a bin may fall into either by its last bit. So the
pixels of a case keep away from edges: those that do not are drawn again, or masked where logits are
interpolated. All numbers are then those of the reference in float64, but for the sums of
probabilities, which have rounding of their own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from jml_kernels import reference_tally
from jml_kernels.backend import BY_NAME
from jml_kernels.packing import NEVER, TallyInts
from jml_kernels.reference_tally import BIN_COLUMNS, PROBABILITY_UNIT
from jml_kernels.tally import TALLIES, Tally
from jml_kernels.upsampling import interpolated

#: How far probabilities keep from the edges of bins, and of interpolated logits the two largest
#: from each other.
REACH = 4e-6
#: Of a sum of probabilities.
TOLERANCE = 5e-6

INTEGERS = (
    *(torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64),
    *(torch.uint16, torch.uint32, torch.uint64, torch.bool),
)


@dataclass(frozen=True)
class TallyCase:
    """An input of the operators.

    Attributes:
        name: of the case, in the report of the tests.
        shape: (N, C, *spatial), of the logits.
        full_size: of labels, where logits have lower resolution.
        dtype, layout: of the logits. Layouts: "contiguous"; "channels_last"; "stepped", every
            second number of a larger tensor; "reversed", with the dimensions' strides in the
            opposite order.
        values: "normal"; "saturated", so far apart that confidences are 1; "ties", few integers;
            "nan", "inf", where some logits are; "-inf", where all of a pixel may be.
        label_dtype, label_layout: "contiguous" or "stepped".
        drawn: labels: "blocks", in squares as objects are; "random"; "one", the same everywhere.
        ignored, masked: which part of the pixels is ignored by label, or left out by the mask;
            without a part there is no mask.
    """

    name: str
    shape: tuple[int, ...] = (2, 5, 13, 17)
    full_size: tuple[int, ...] | None = None
    align_corners: bool = False
    dtype: torch.dtype = torch.float32
    layout: str = "contiguous"
    values: str = "normal"
    label_dtype: torch.dtype = torch.int64
    label_layout: str = "contiguous"
    drawn: str = "blocks"
    ignored: float = 0.05
    ignore_index: int | None = -100
    masked: float = 0.0
    bins: int = 10
    boundary_size: int | None = 3
    calibration: bool = True
    classwise: bool = True

    @property
    def size(self) -> tuple[int, ...]:
        """Of the labels."""
        return self.shape[2:] if self.full_size is None else self.full_size

    @property
    def ints(self) -> TallyInts:
        return TallyInts(
            activation=0,
            bins=self.bins,
            boundary_size=self.boundary_size or 0,
            ignore_index=NEVER if self.ignore_index is None else self.ignore_index,
            upsample=int(self.full_size is not None),
            align_corners=int(self.align_corners),
            calibration=int(self.calibration),
            classwise=int(self.classwise),
        )

    @property
    def is_small(self) -> bool:
        """Whether Triton's interpreter has time for it."""
        return self.shape[0] * self.shape[1] * math.prod(self.size) <= 5000

    def draw(self) -> tuple[Tensor, Tensor, Tensor | None]:
        """(logits, labels, mask)"""
        generator = torch.Generator().manual_seed(0)
        labels = _labels(self, generator)
        mask = None
        if self.masked:
            mask = torch.rand(labels.shape, generator=generator) >= self.masked
        if self.full_size is None:
            logits = _logits(self, generator)
            for _ in range(100):
                bad = _near_an_edge(self, logits)
                logits = torch.where(bad.unsqueeze(1), _logits(self, generator), logits)
                if not bad.any():
                    break
            else:
                raise ValueError(f"{self}: expected values that keep away from edges")
        else:
            logits = _untied(self, generator)
            away = ~_near_an_edge(self, logits)
            mask = away if mask is None else mask & away
        return _laid(logits, self.layout), _laid(labels, self.label_layout), mask


def _labels(case: TallyCase, generator: torch.Generator) -> Tensor:
    n, c, size = case.shape[0], case.shape[1], case.size
    c = min(c, 2 if case.label_dtype == torch.bool else torch.iinfo(case.label_dtype).max + 1)
    if case.drawn == "one":
        labels = torch.full((n, *size), c - 1)
    elif case.drawn == "random":
        labels = torch.randint(c, (n, *size), generator=generator)
    else:
        labels = torch.randint(c, (n, *(-(-length // 4) for length in size)), generator=generator)
        for dim, length in enumerate(size, 1):
            labels = labels.repeat_interleave(4, dim).narrow(dim, 0, length)
    if case.ignore_index is not None and case.ignored:
        ignored = torch.rand(labels.shape, generator=generator) < case.ignored
        labels = labels.masked_fill(ignored, case.ignore_index)
    return labels.to(case.label_dtype)


def _logits(case: TallyCase, generator: torch.Generator) -> Tensor:
    logits = torch.randn(case.shape, generator=generator, dtype=torch.float64) * 2
    if case.values == "saturated":
        logits *= 100
    elif case.values == "ties":
        logits = (logits / 2).round()
    elif case.values != "normal":
        chosen = torch.rand(case.shape, generator=generator) < 0.5 / case.shape[1]
        if case.values == "-inf":
            chosen = torch.rand(case.shape, generator=generator) < 0.6
        logits = logits.masked_fill(chosen, float(case.values))
    return logits.to(case.dtype)


def _untied(case: TallyCase, generator: torch.Generator) -> Tensor:
    """Logits whose largest ones are never about equal at full size, where rounding in the
    interpolation would choose one."""
    for _ in range(500):
        logits = _logits(case, generator)
        full = interpolated(logits.double(), case.size, case.align_corners)
        largest = full.topk(2, dim=1).values
        if ((largest[:, 0] - largest[:, 1]) > 2 * REACH).all():
            return logits
    raise ValueError(f"{case}: expected logits without ties")


def _near_an_edge(case: TallyCase, logits: Tensor) -> Tensor:
    full = logits.double()
    if case.full_size is not None:
        full = interpolated(full, case.size, case.align_corners)
    place = torch.softmax(full, 1).nan_to_num(0.0) * case.bins
    edge = place.round()
    inside = (edge > 0) & (edge < case.bins)
    return (inside & ((place - edge).abs() < REACH * case.bins)).any(1)


def _laid(tensor: Tensor, layout: str) -> Tensor:
    if layout == "channels_last":
        return tensor.movedim(1, -1).contiguous().movedim(-1, 1)
    if layout == "reversed":
        order = tuple(reversed(range(tensor.dim())))
        return tensor.permute(order).contiguous().permute(order)
    if layout == "stepped":
        # A tensor of nothing has no steps.
        larger = tensor.new_zeros(*tensor.shape[:-1], 2 * tensor.shape[-1])
        larger[..., ::2] = tensor
        return larger[..., ::2]
    return tensor


# ---- the cases -----------------------------------------------------------------------------------


def _of(**options: object) -> str:
    return ", ".join(
        f"{name} {str(value).removeprefix('torch.')}" for name, value in options.items()
    )


def _each(option: str, values: tuple, more: str = "", **others: object) -> list[TallyCase]:
    """The name of a case says its value, and `more` what else is not as it is."""
    return [
        TallyCase(_of(**{option: value}) + more, **{option: value} | others) for value in values
    ]


CASES = [
    TallyCase("as it is"),
    *_each(
        "shape",
        (
            *((7, 4), (1, 2), (513, 3)),  # a pixel an image
            *((2, 4, 1), (2, 4, 7), (1, 4, 513), (3, 2, 130)),
            *((1, 2, 1, 1), (2, 5, 1, 7), (2, 5, 7, 1), (1, 3, 1, 513), (1, 3, 513, 1)),
            *((1, 3, 64, 64), (2, 4, 33, 65), (1, 7, 70, 129)),
            *((1, 4, 1, 1, 1), (2, 4, 3, 5, 7), (1, 3, 9, 8, 17)),
        ),
        masked=0.1,
    ),
    *[
        TallyCase(f"{classes} classes", (2, classes, *size), masked=0.1)
        for classes in (2, 3, 8, 16, 19, 21, 32, 45, 64, 100, 128, 150, 171, 256, 257, 300)
        for size in ((7, 11),)
    ],
    TallyCase("19 classes, larger", (2, 19, 65, 67)),
    TallyCase("150 classes, larger", (1, 150, 33, 37)),
    TallyCase("300 classes, a volume", (1, 300, 3, 4, 5), dtype=torch.bfloat16),
    *[
        TallyCase(_of(dtype=dtype, layout=layout), dtype=dtype, layout=layout, masked=0.1)
        for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64)
        for layout in ("contiguous", "channels_last", "stepped", "reversed")
    ],
    *_each("layout", ("channels_last", "reversed"), " of a volume", shape=(2, 3, 4, 5, 6)),
    *[
        TallyCase(f"channels_last, {c} classes", (2, c, 9, 11), layout="channels_last", dtype=dtype)
        for c, dtype in ((2, torch.float16), (19, torch.bfloat16), (150, torch.float32))
    ],
    *_each("label_dtype", INTEGERS, ignore_index=100),
    *_each("label_dtype", (torch.uint8, torch.int32), ", stepped", ignore_index=100,
           label_layout="stepped"),
    TallyCase("labels of 8 bits, 300 classes", (1, 300, 5, 6), label_dtype=torch.uint8, ignored=0),
    *_each("ignore_index", (None, 0, 4, 255, -1)),
    TallyCase("all ignored", ignored=1.0),
    TallyCase("all masked", masked=1.0),
    TallyCase("many masked", masked=0.9),
    TallyCase("ignored and masked", ignored=0.3, masked=0.3),
    *_each("drawn", ("random", "one")),
    TallyCase("one label, nothing ignored", drawn="one", ignored=0.0),
    *_each("bins", (1, 2, 15, 20, 100), ignored=0.0),
    TallyCase("100 bins of 150 classes", (1, 150, 7, 9), bins=100),
    *_each("boundary_size", (None, 1, 5, 7, 15, 31, 99), ignored=0.01),
    TallyCase("a wide window of a volume", (1, 3, 5, 6, 7), boundary_size=5, ignored=0.0),
    TallyCase("a wide window of a sequence", (2, 3, 40), boundary_size=9, ignored=0.02),
    TallyCase("a window wider than any", boundary_size=2**40 + 1, ignored=0.0),
    TallyCase("a larger window and image", (1, 4, 66, 130), boundary_size=17, ignored=0.001),
    *_each("calibration", (False,)),
    *_each("classwise", (False,)),
    TallyCase("a confusion matrix alone", calibration=False, classwise=False, boundary_size=None),
    TallyCase("confidence 1", values="saturated"),
    TallyCase("confidence 1 of half types", values="saturated", dtype=torch.float16, bins=15),
    TallyCase("ties", values="ties", bins=7),
    TallyCase("ties of half types", values="ties", bins=7, dtype=torch.bfloat16),
    TallyCase("ties of many classes", (1, 150, 7, 9), values="ties", bins=7),
    TallyCase("ties, channels_last", values="ties", bins=7, layout="channels_last"),
    *_each("values", ("nan", "inf", "-inf"), bins=7),
    *_each("values", ("nan", "inf", "-inf"), " of half types", bins=7, dtype=torch.float16,
           shape=(1, 40, 5, 6)),
    TallyCase("no images", (0, 5, 4, 6)),
    TallyCase("no pixels", (2, 5, 0, 6)),
    TallyCase("no images without spatial dimensions", (0, 5)),
]  # fmt: skip

UPSAMPLED = [
    TallyCase(_of(shape=shape, to=size, align=align), shape, size, align, **more)
    for shape, size, align, more in [
        ((2, 5, 6, 8), (24, 32), False, {}),
        ((2, 5, 6, 8), (24, 32), True, {"masked": 0.1}),
        ((1, 19, 4, 5), (32, 40), False, {"dtype": torch.float16}),
        ((1, 19, 4, 5), (13, 21), True, {"dtype": torch.bfloat16, "layout": "channels_last"}),
        ((1, 3, 9, 11), (10, 11), False, {"boundary_size": 5}),
        ((1, 3, 9, 11), (9, 11), False, {"layout": "reversed"}),
        ((1, 4, 1, 7), (20, 21), True, {"label_dtype": torch.uint8, "ignore_index": 100}),
        ((1, 150, 3, 4), (12, 16), False, {}),
        ((1, 300, 2, 2), (5, 7), False, {"dtype": torch.float16}),
        ((2, 4, 9), (33,), False, {}),
        ((1, 4, 3, 4, 5), (6, 7, 20), True, {"boundary_size": None}),
        ((1, 3, 2, 3), (5, 513), False, {"dtype": torch.float64, "drawn": "random"}),
        ((0, 3, 2, 3), (4, 6), False, {}),
    ]
]

_BY_NAME = {case.name: case for case in CASES}
assert len(_BY_NAME) == len(CASES)

#: Several kinds, for what is not compared number by number.
SELECTED = [
    *(
        _BY_NAME[name]
        for name in (
            *("as it is", "shape (7, 4)", "19 classes", "300 classes", "no images"),
            *("dtype bfloat16, layout channels_last", "label_dtype uint8", "boundary_size 5"),
            *("ignored and masked", "a confusion matrix alone"),
        )
    ),
    *UPSAMPLED[:3],
]


# ---- the judge -----------------------------------------------------------------------------------


def tallied(case: TallyCase, backend: str, device: str) -> Tally:
    return Tally(*TALLIES[backend](*on(device, *case.draw()), case.ints))


def on(device: str, *tensors: Tensor | None) -> list[Tensor | None]:
    return [None if tensor is None else tensor.to(device) for tensor in tensors]


def assert_tally(case: TallyCase, backend: str, device: str) -> None:
    logits, labels, mask = case.draw()
    expected = Tally(*reference_tally.tally(logits.double(), labels, mask, case.ints))
    assert_same(tallied(case, backend, device), expected)


def assert_same(found: Tally, expected: Tally) -> None:
    probability = BIN_COLUMNS.index("probability")
    for name, actual, right in zip(Tally._fields, found, expected, strict=True):
        assert actual.dtype == torch.int64, name
        actual, right = actual.cpu(), right.cpu()  # noqa: PLW2901
        if name in ("calibration", "classwise"):
            counts = right[..., BIN_COLUMNS.index("pixels")]
            error = (actual - right)[..., probability].abs()
            # Each is rounded to an integer, too.
            assert (error <= counts + TOLERANCE * right[..., probability]).all(), name
            assert (counts < PROBABILITY_UNIT * 2**62).all()
            actual, right = actual[..., :probability], right[..., :probability]  # noqa: PLW2901
        torch.testing.assert_close(
            actual, right, rtol=0, atol=0, msg=lambda text, name=name: f"{name}: {text}"
        )


def assert_wrong_labels_are_left_out(label: int, backend: str, device: str) -> None:
    """As if they were ignored. (A window sees that they are not.) Masked ones are no fault."""
    case = TallyCase("", boundary_size=None, masked=0.1)
    logits, labels, mask = case.draw()
    places = torch.zeros_like(mask)
    places[0, 2, 3] = places[1, 4, 5] = places[1, 4, 6] = True
    mask |= places
    mask[1, 4, 6] = False

    def counted(label: int) -> Tally:
        tensors = on(device, logits, labels.masked_fill(places, label), mask)
        return Tally(*TALLIES[backend](*tensors, case.ints))

    found = counted(label)
    assert found.wrong.item() == 2
    for actual, right in zip(found[:-1], counted(case.ignore_index)[:-1], strict=True):
        assert torch.equal(actual, right)


def computes(backend: str, case: TallyCase) -> bool:
    return case.full_size is None or BY_NAME[backend].upsamples or backend == "reference"
