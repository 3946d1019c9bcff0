"""The inputs that every backend is tested on: one list, each case with the reason why it is there.

`CASES` feeds parity with the float64 oracle (values, gradients, columns), the bit-for-bit tests
and opcheck; `GRADIENT_CASES` are small and float64, for gradcheck. inputs.py makes the tensors.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from jml_kernels import functional
from jml_kernels.accuracy import GRADIENT_TOLERANCE, LOSS_TOLERANCE  # noqa: F401, for the judges
from jml_kernels.checks import LOGITS_DTYPES as FLOAT_DTYPES
from jml_kernels.selfcheck.layouts import surrounded
from jml_kernels.selfcheck.parity_cases import INTEGER_DTYPES

# ---- tolerances: section 5 of the design ---------------------------------------------------------

#: A statistic per pixel that it sums: one rounding of a probability in float32 or float64.
COLUMN_TOLERANCE = {
    torch.float64: 1e-14,
    torch.float32: 3e-7,
    torch.float16: 3e-7,
    torch.bfloat16: 3e-7,
}

# ---- the losses ----------------------------------------------------------------------------------

#: Every overlap as a function of (logits, target, mask, **options).
OVERLAPS: dict[str, Callable[..., Tensor]] = {
    "metric1": functional.jaccard_metric_loss,
    "metric2": lambda *a, **k: functional.jaccard_metric_loss(*a, variant=2, **k),
    "soft1": functional.soft_jaccard_loss,
    "soft2": lambda *a, **k: functional.soft_jaccard_loss(*a, norm=2, **k),
}

# ---- layouts: the same values, other strides -----------------------------------------------------

LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "contiguous": lambda t: t.contiguous(),
    "channels_last": lambda t: t.movedim(1, -1).contiguous().movedim(-1, 1),
    # Rows neither start at the storage's beginning nor end where the next one starts.
    "cropped": lambda t: surrounded(t, 1, 1),
    # No dimension has stride 1.
    "stepped": lambda t: surrounded(t, 2, 0),
    "cropped channels_last": lambda t: surrounded(t.movedim(1, -1), 1, 1).movedim(-1, 1),
    # Stride 0: one image for the whole batch; one pixel for the whole image.
    "one image": lambda t: t[:1].expand_as(t),
    "one pixel": lambda t: t[(..., *[slice(1)] * (t.dim() - 2))].expand_as(t),
    "one class": lambda t: t[:, :1].expand_as(t),
    # Dense, but in an order that is neither of the two memory formats.
    "transposed": lambda t: t.transpose(-1, -2).contiguous().transpose(-1, -2),
    "classes first": lambda t: t.transpose(0, 1).contiguous().transpose(0, 1),
    "reversed": lambda t: (
        t.permute(*range(t.dim())[::-1]).contiguous().permute(*range(t.dim())[::-1])
    ),
}

# ---- cases ---------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Case:
    """One input.

    Attributes:
        shape: of the logits, (N, C, *spatial).
        layout, target_layout: of `LAYOUTS`.
        values: of the logits, see `inputs.py`.
        target: "labels" (N, *spatial); "soft" (N, C, *spatial); "bits", integers 0 and 1
            (N, C, *spatial); for one class also "labels1", (N, 1, *spatial) integers, and
            "soft0", (N, *spatial) floats.
        drawn: how labels are drawn: "uniform" per pixel; "blocks", constant on 3 x 3 pixels, so
            that not every pixel is at a boundary; "blocks in one half" of the rows, the other
            constant; "constant"; "no class 1".
        ignored: share of the integer targets that is ignore_index.
        masked: share of the pixels that the mask takes out; None: no mask.
        mask_layout: of `LAYOUTS`.
        options: those of `functional.LossOptions`.
        finite: whether the loss is a number.
    """

    name: str
    why: str
    shape: tuple[int, ...] = (2, 5, 6, 7)
    dtype: torch.dtype = torch.float32
    layout: str = "contiguous"
    values: str = "normal"
    target: str = "labels"
    target_dtype: torch.dtype | None = None
    target_layout: str = "contiguous"
    drawn: str = "uniform"
    ignored: float = 0.0
    masked: float | None = None
    mask_layout: str = "contiguous"
    options: Mapping[str, object] = field(default_factory=dict)
    finite: bool = True

    @property
    def target_options(self) -> dict[str, object]:
        """The options that `class_statistics` takes too."""
        names = functional.TargetOptions.__dataclass_fields__
        return {name: value for name, value in self.options.items() if name in names}

    @property
    def pixels(self) -> int:
        return math.prod(self.shape) // self.shape[1]

    @property
    def num_labels(self) -> int:
        one_class = self.shape[1] == 1 and self.options.get("activation", "softmax") != "softmax"
        return 2 if one_class or self.target == "bits" else self.shape[1]


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _bls(size: int, epsilon: float = 0.1) -> dict[str, object]:
    return {"label_smoothing": epsilon, "boundary_size": size}


_SIGMOID = {"activation": "sigmoid"}
_NONE = {"activation": "none"}

SHAPES = [
    Case("1 class", "softmax of one class is 1 whatever the logit", (2, 1, 5, 7)),
    Case("2 classes", "the smallest softmax", (2, 2, 5, 7)),
    Case("3 classes", "fewer classes than a vector has lanes", (2, 3, 5, 7)),
    Case("19 classes", "Cityscapes", (1, 19, 17, 16)),
    Case("21 classes", "PASCAL VOC", (1, 21, 8, 8)),
    Case("150 classes", "ADE20K: tiles are smaller, and here are three", (1, 150, 23, 25)),
    Case("171 classes", "COCO-Stuff: odd, and tiles smaller still", (1, 171, 17, 19)),
    Case("1000 classes", "the most that is promised", (1, 1000, 3, 5)),
    Case(
        "1000 classes, tiles", "1000 classes in more than one of the smallest tiles", (1, 1000, 131)
    ),
    Case("0-D", "classification: no spatial dimension", (7, 5)),
    Case("1-D", "sequences", (2, 5, 41)),
    Case("3-D", "volumes", (2, 4, 3, 5, 4)),
    Case("1 pixel", "nothing to vectorise", (1, 5, 1, 1)),
    Case("1 pixel, 0-D", "the smallest input", (1, 3)),
    Case("1 pixel an image", "many images, no run of pixels", (9, 4, 1)),
    Case("0 images", "the last batch of a filtered data set", (0, 5, 4, 4)),
    Case("0 images, 0-D", "nothing to reduce", (0, 3)),
    Case("0 pixels", "an empty crop", (2, 5, 0, 4)),
    Case("primes", "no size divides a tile or a vector", (3, 7, 13, 11)),
    Case("a row", "height 1", (2, 5, 1, 37)),
    Case("a column", "width 1", (2, 5, 37, 1)),
    *[
        Case(f"{n} pixels", "one less, exactly and one more than tiles and vectors", (1, 3, n))
        for n in (15, 16, 17, 63, 64, 65, 255, 256, 257, 511, 512, 513, 1023, 1024, 1025)
    ],
    Case("1120 pixels", "the last tile is shorter, and whole vectors", (2, 5, 1120)),
    Case("several tiles", "sums go on from tile to tile", (2, 5, 43, 59)),
    Case("several tiles, 3-D", "a tile ends inside a plane", (1, 3, 7, 19, 23)),
    Case("several tiles, 19", "the same with many classes", (1, 19, 43, 59)),
    Case("many images", "images are shared out among threads", (37, 3, 5)),
    Case("many tiles", "so many images that several tiles make one piece of work", (90, 2, 1025)),
]

LOGITS_DTYPES = [
    *[Case(_name(dtype), "every dtype of logits", dtype=dtype) for dtype in FLOAT_DTYPES],
    *[
        Case(
            f"{_name(dtype)} channels_last, tiles",
            "conversion of a tile's rows in both layouts",
            (1, 11, 43, 59),
            dtype=dtype,
            layout="channels_last",
        )
        for dtype in FLOAT_DTYPES
    ],
    *[
        Case(
            f"{_name(dtype)} soft, tiles",
            "conversion of two inputs",
            (1, 11, 43, 59),
            dtype=dtype,
            target="soft",
            target_dtype=dtype,
        )
        for dtype in FLOAT_DTYPES
    ],
]

LOGITS_LAYOUTS = [
    *[
        Case(f"layout {layout}", "read as it lies", layout=layout)
        for layout in LAYOUTS
        if layout != "contiguous"
    ],
    Case("channels_last 1-D", "NLC", (2, 5, 41), layout="channels_last"),
    Case("channels_last 3-D", "NDHWC", (2, 5, 3, 4, 5), layout="channels_last"),
    Case(
        "channels_last 1 class", "both memory formats at once", (2, 1, 6, 7), layout="channels_last"
    ),
    Case(
        "channels_last 2",
        "a pixel is shorter than a vector",
        (2, 2, 43, 59),
        layout="channels_last",
    ),
    Case("channels_last 16", "a pixel is one vector", (1, 16, 9, 31), layout="channels_last"),
    Case(
        "channels_last 19, tiles",
        "transposed tile by tile",
        (2, 19, 43, 59),
        layout="channels_last",
    ),
    Case("channels_last 150", "wide pixels", (1, 150, 9, 16), layout="channels_last"),
    Case("cropped, tiles", "rows of a crop end inside a tile", (1, 5, 43, 59), layout="cropped"),
    Case("cropped 3-D, tiles", "and planes", (1, 3, 7, 19, 23), layout="cropped"),
    Case("stepped, tiles", "no stride is 1", (1, 5, 43, 59), layout="stepped"),
    Case(
        "cropped channels_last, tiles",
        "neither dense nor class by class",
        (1, 5, 43, 59),
        layout="cropped channels_last",
    ),
    Case(
        "transposed, tiles",
        "pixels in another order than labels",
        (1, 5, 43, 59),
        layout="transposed",
    ),
    Case("reversed 3-D", "the batch is the fastest dimension", (2, 3, 5, 4, 3), layout="reversed"),
    Case("stepped 0-D", "strides without spatial dimensions", (7, 5), layout="stepped"),
    Case("reversed 0-D", "classes by images", (7, 5), layout="reversed"),
]

LABELS = [
    *[
        Case(
            f"labels {_name(dtype)}{' stepped' if layout != 'contiguous' else ''}",
            "every integer dtype, read as it lies",
            (2, 2 if dtype == torch.bool else 5, 6, 7),
            target_dtype=dtype,
            target_layout=layout,
        )
        for dtype in INTEGER_DTYPES
        for layout in ("contiguous", "stepped")
    ],
    *[
        Case(f"labels {layout}", "labels' strides are not the logits'", target_layout=layout)
        for layout in ("cropped", "one image", "transposed", "reversed")
    ],
    Case("labels 1 row", "stride 0 along rows", (2, 5, 6, 7), target_layout="one pixel"),
    Case(
        "labels transposed, channels_last",
        "two unusual layouts that differ",
        (1, 5, 43, 29),
        layout="channels_last",
        target_layout="transposed",
    ),
    Case("uint8, 200 classes", "labels above 127 are not negative", (1, 200, 5, 7),
         target_dtype=torch.uint8),
    Case("a class absent", "no pixel of class 1 in the batch", drawn="no class 1"),
    Case("one class only", "all classes but one are absent", drawn="constant"),
    Case("ignored", "ignore_index takes pixels out", ignored=0.3),
    Case("all ignored", "nothing counts: 0/0", ignored=1.0),
    Case(
        "ignored 255 uint8",
        "the usual encoding of data sets",
        target_dtype=torch.uint8,
        ignored=0.3,
        options={"ignore_index": 255},
    ),
    Case("ignored 255 int64", "the same after .long()", ignored=0.3, options={"ignore_index": 255}),
    Case(
        "ignored -1 int8",
        "a negative label in the smallest dtype",
        target_dtype=torch.int8,
        ignored=0.3,
        options={"ignore_index": -1},
    ),
    Case("ignored 0", "background left out: ignore_index is a valid class",
         options={"ignore_index": 0}),
    Case("ignored False", "the same of bool labels", (2, 2, 6, 7), target_dtype=torch.bool,
         options={"ignore_index": 0}),
    Case("mask", "pixels taken out whatever their label", masked=0.3),
    Case("mask and ignored", "either takes a pixel out", masked=0.3, ignored=0.3),
    Case("mask of nothing", "every pixel masked: 0/0", masked=1.0),
    Case("mask of everything", "a mask that takes nothing out", masked=0.0),
    Case("mask stepped", "the mask's own strides", masked=0.3, mask_layout="stepped"),
    Case("mask of one image", "one mask for the whole batch, stride 0", masked=0.3,
         mask_layout="one image"),
    Case(
        "mask, tiles",
        "mask and ignore_index beyond the first tile",
        (1, 5, 43, 59),
        masked=0.5,
        ignored=0.1,
        layout="channels_last",
    ),
]  # fmt: skip

SOFT = [
    *[
        Case(
            f"soft {_name(target_dtype)} in {_name(dtype)}",
            "the target has its own dtype",
            dtype=dtype,
            target="soft",
            target_dtype=target_dtype,
        )
        for dtype in FLOAT_DTYPES
        for target_dtype in FLOAT_DTYPES
    ],
    *[
        Case(f"soft {layout}", "the target has its own layout", target="soft", target_layout=layout)
        for layout in LAYOUTS
        if layout != "contiguous"
    ],
    Case(
        "soft contiguous, channels_last",
        "a teacher in the other memory format",
        (1, 19, 43, 59),
        layout="channels_last",
        target="soft",
    ),
    Case(
        "soft channels_last, channels_last",
        "both transposed",
        (1, 19, 43, 59),
        layout="channels_last",
        target="soft",
        target_layout="channels_last",
    ),
    Case("soft masked", "only a mask can take out pixels of a soft target", target="soft",
         masked=0.3),
    Case("soft, tiles", "sums go on from tile to tile", (2, 5, 43, 59), target="soft", masked=0.1),
    Case("soft 3-D", "volumes", (2, 4, 3, 5, 4), target="soft"),
    Case("soft 0-D", "classification with soft labels", (7, 5), target="soft"),
    Case("soft 1 class", "x = 1 everywhere", (2, 1, 6, 7), target="soft"),
    Case("soft 1000", "the most classes", (1, 1000, 3, 5), target="soft"),
    Case("soft 0 pixels", "an empty crop", (2, 5, 0, 4), target="soft"),
    Case("soft mask of nothing", "0/0", target="soft", masked=1.0),
    Case("soft with smoothing", "probabilities are not smoothed", target="soft",
         options={"label_smoothing": 0.3}),
    Case("one-hot floats", "hard labels by the soft road", target="soft", values="onehot target"),
]  # fmt: skip

SMOOTHED = [
    *[
        Case(f"smoothing {epsilon:g}", why, options={"label_smoothing": epsilon})
        for epsilon, why in [
            (0.1, "y takes two values, neither 0 nor 1"),
            (1.0, "the uniform distribution"),
        ]
    ],
    Case("smoothing, ignored", "ignored pixels have no target", ignored=0.3,
         options={"label_smoothing": 0.1}),
    Case("smoothing, masked", "nor have masked ones", masked=0.3, options={"label_smoothing": 0.1}),
    Case("smoothing 19", "e / C", (1, 19, 43, 59), options={"label_smoothing": 0.1}),
    Case("smoothing 1 class", "y = 1 - e + e / 1", (2, 1, 6, 7), options={"label_smoothing": 0.5}),
    Case("smoothing 0-D", "no window", (7, 5), options={"label_smoothing": 0.1}),
    Case("smoothing halves", "in float16", dtype=torch.float16, options={"label_smoothing": 0.1}),
    *[
        Case(f"boundary {size}, {len(shape) - 2}-D", "window sizes and dimensions", shape,
             drawn="blocks", options=_bls(size))
        for shape in [(2, 4, 29), (2, 4, 11, 13), (2, 4, 7, 8, 9)]
        for size in (1, 3, 5, 7)
    ],
    Case("boundary 0-D", "a pixel without neighbours", (7, 5), options=_bls(3)),
    Case("boundary without smoothing", "nothing to smooth", drawn="blocks", options=_bls(3, 0.0)),
    Case("boundary, full smoothing", "the label itself is lost", drawn="blocks",
         options=_bls(3, 1.0)),
    Case("boundary, window above image", "k larger than every side", (2, 4, 3, 2), options=_bls(7)),
    Case("boundary, window above volume", "the same in 3-D", (2, 4, 2, 3, 2), options=_bls(7)),
    Case("boundary, 1 pixel", "a window with nothing else in it", (2, 4, 1, 1), options=_bls(3)),
    Case("boundary, uniform", "an image of one label has no boundary", drawn="constant",
         options=_bls(3)),
    Case("boundary, noise", "every pixel at a boundary", (1, 4, 16, 16), options=_bls(3)),
    Case("boundary, ignored", "an ignored pixel in the window", drawn="blocks", ignored=0.05,
         options=_bls(3)),
    Case("boundary, mostly ignored", "hardly a window without one", (1, 4, 16, 16), drawn="blocks",
         ignored=0.7, options=_bls(3)),
    Case(
        "boundary, ignored 255",
        "uint8 labels with ignore_index 255",
        target_dtype=torch.uint8,
        drawn="blocks",
        ignored=0.05,
        options={**_bls(5), "ignore_index": 255},
    ),
    Case("boundary, ignored 0", "a valid class ignored", drawn="blocks",
         options={**_bls(3), "ignore_index": 0}),
    Case("boundary, masked", "a masked pixel's label still makes a boundary", drawn="blocks",
         masked=0.3, options=_bls(3)),
    Case(
        "boundary, masked bad labels",
        "a masked pixel may hold any label, which then counts as ignored",
        drawn="blocks",
        masked=0.1,
        values="bad labels under the mask",
        options=_bls(3),
    ),
    Case("boundary in one half", "tiles with and without smoothed pixels", (1, 4, 43, 59),
         drawn="blocks in one half", options=_bls(3)),
    Case("boundary, tiles", "windows reach over the tile's edge", (1, 4, 43, 59), drawn="blocks",
         options=_bls(5)),
    Case("boundary, channels_last, tiles", "the same transposed", (1, 4, 43, 59),
         layout="channels_last", drawn="blocks", options=_bls(3)),
    Case("boundary, tiles, 3-D", "windows reach over planes and tiles", (1, 3, 7, 19, 23),
         drawn="blocks", ignored=0.01, options=_bls(3)),
    *[
        Case(f"boundary, labels {layout}", "windows follow the labels' strides", drawn="blocks",
             target_layout=layout, options=_bls(3))
        for layout in ("cropped", "stepped", "one image", "one pixel", "transposed")
    ],
    *[
        Case(f"boundary, {_name(dtype)}", "windows compare every dtype", (2, 2, 9, 10),
             target_dtype=dtype, drawn="blocks", options=_bls(3))
        for dtype in INTEGER_DTYPES
    ],
    Case("boundary, binary", "two labels, one class", (2, 1, 9, 10), drawn="blocks",
         options={**_bls(3), **_SIGMOID}),
]  # fmt: skip

ACTIVATIONS = [
    Case("multi-label, labels", "one-vs-rest", options=_SIGMOID),
    Case("multi-label, soft", "a probability per class", target="soft", options=_SIGMOID),
    *[
        Case(f"multi-label, bits {_name(dtype)}", "0 and 1 per class in any integer dtype",
             target="bits", target_dtype=dtype, options=_SIGMOID)
        for dtype in INTEGER_DTYPES
    ],
    Case("multi-label, ignored", "element by element", target="bits", ignored=0.3,
         options=_SIGMOID),
    Case("multi-label, ignored 255", "in uint8", target="bits", target_dtype=torch.uint8,
         ignored=0.3, options={**_SIGMOID, "ignore_index": 255}),
    Case("multi-label, ignored 0", "negatives ignored", target="bits",
         options={**_SIGMOID, "ignore_index": 0}),
    Case("multi-label, all ignored", "0/0", target="bits", ignored=1.0, options=_SIGMOID),
    Case("multi-label, masked", "whole pixels and elements", target="bits", ignored=0.2, masked=0.3,
         options=_SIGMOID),
    Case("multi-label, smoothed", "two classes each: y = (1 - e) l + e / 2", target="bits",
         ignored=0.1, options={**_SIGMOID, "label_smoothing": 0.2}),
    Case("multi-label, bits stepped", "strides of a dense integer target", target="bits",
         target_layout="stepped", options=_SIGMOID),
    Case("multi-label, bits channels_last", "transposed integers", (1, 5, 43, 59),
         layout="channels_last", target="bits", target_layout="channels_last", ignored=0.1,
         options=_SIGMOID),
    Case("multi-label, transposed", "logits, bits and mask each in another order",
         (1, 5, 43, 29),
         layout="transposed", target="bits", target_layout="classes first", masked=0.2,
         mask_layout="stepped", ignored=0.1, options=_SIGMOID),
    Case("multi-label, one row for all", "a target expanded over classes", target="bits",
         target_layout="one class", options=_SIGMOID),
    Case("multi-label, 0-D", "tags of an image", (7, 5), target="bits", options=_SIGMOID),
    Case("multi-label, soft, 0-D", "a class is present above 1/2", (7, 5), target="soft",
         options=_SIGMOID),
    Case("multi-label, tiles", "in float16", (1, 5, 43, 59), dtype=torch.float16, target="bits",
         options=_SIGMOID),
    Case("binary, labels", "labels 0 and 1 without a channel", (2, 1, 6, 7), options=_SIGMOID),
    Case("binary, labels with a channel", "the same with one", (2, 1, 6, 7), target="labels1",
         options=_SIGMOID),
    Case("binary, bool", "a mask as target", (2, 1, 6, 7), target_dtype=torch.bool,
         options=_SIGMOID),
    Case("binary, bool with a channel", "a mask as target, strided", (2, 1, 6, 7), target="labels1",
         target_dtype=torch.bool, target_layout="stepped", options=_SIGMOID),
    Case("binary, soft", "probabilities with a channel", (2, 1, 6, 7), target="soft",
         options=_SIGMOID),
    Case("binary, soft without a channel", "and without", (2, 1, 6, 7), target="soft0",
         options=_SIGMOID),
    Case("binary, smoothed", "e / 2, since there are two labels", (2, 1, 6, 7), ignored=0.2,
         options={**_SIGMOID, "label_smoothing": 0.2}),
    Case("binary, 0-D", "one logit an image", (7, 1), options=_SIGMOID),
    Case("binary, soft, 0-D", "the same with one class", (7, 1), target="soft", options=_SIGMOID),
    Case("binary, channels_last, tiles", "both memory formats at once", (2, 1, 43, 59),
         layout="channels_last", options=_SIGMOID),
    Case("binary, ignored 0", "one of two labels ignored", (2, 1, 6, 7),
         options={**_SIGMOID, "ignore_index": 0}),
    Case("probabilities, labels", "x as it is", values="probabilities", options=_NONE),
    Case("probabilities, soft", "x and y as they are", values="probabilities", target="soft",
         options=_NONE),
    Case("probabilities, bits", "several classes at once", values="probabilities", target="bits",
         ignored=0.1, options=_NONE),
    Case("probabilities, bits mostly ignored", "pixels with no element left",
         values="probabilities", target="bits", ignored=0.7, options=_NONE),
    Case("multi-label, bits mostly ignored", "the same of independent classes",
         target="bits", ignored=0.7, options=_SIGMOID),
    Case("probabilities, binary", "one class", (2, 1, 6, 7), values="probabilities", options=_NONE),
    Case("probabilities, smoothed", "a smoothed target", values="probabilities", drawn="blocks",
         options={**_NONE, **_bls(3)}),
    Case("probabilities, halves", "in bfloat16", dtype=torch.bfloat16, values="probabilities",
         target="soft", options=_NONE),
    Case("probabilities, float64", "in float64", dtype=torch.float64, values="probabilities",
         target="soft", options=_NONE),
    Case("probabilities, channels_last, tiles", "transposed", (1, 5, 43, 59),
         layout="channels_last", values="probabilities", options=_NONE),
    Case("ties, soft", "x = y exactly: sub-gradient 0 of |x - y|", values="ties", target="soft",
         options=_NONE),
    Case("ties, labels", "x exactly 0 or 1 against labels: the same", values="ties", options=_NONE),
    Case("ties, binary", "the same with one class", (2, 1, 6, 7), values="ties", options=_NONE),
    Case("ties, bits", "the same with independent classes", values="ties", target="bits",
         options=_NONE),
    Case("ties, smoothed", "the same with a smoothed target", values="ties",
         options={**_NONE, "label_smoothing": 0.5}, shape=(2, 2, 6, 7)),
]  # fmt: skip

VALUES = [
    Case("saturated", "x is 0 or 1, exp(-200) is nothing", values="saturated"),
    Case("saturated, soft", "the same against soft targets", values="saturated", target="soft"),
    Case("saturated, smoothed", "the same against smoothed ones", values="saturated",
         options={"label_smoothing": 0.1}),
    Case("saturated, sigmoid", "exp(100) must not become inf / inf", values="saturated",
         target="bits", options=_SIGMOID),
    Case("saturated, float64", "in float64", dtype=torch.float64, values="saturated"),
    Case("saturated, float16", "in float16", dtype=torch.float16, values="saturated"),
    Case("far from 0", "logits near 1000: exp overflows unless the maximum is taken off",
         values="far"),
    Case("far below 0", "logits near -1000", values="far below"),
    Case("spread", "logits across +-40: probabilities over 30 decades", (2, 19, 13, 11),
         values="spread"),
    Case("spread, float64", "across 30 decades in float64", (2, 19, 13, 11), dtype=torch.float64,
         values="spread"),
    Case("-inf", "a class ruled out by its logit: x = 0, gradient 0", values="-inf"),
    Case("-inf, soft", "the same where the target is not 0", values="-inf", target="soft"),
    Case("-inf, float64", "in float64", dtype=torch.float64, values="-inf"),
    Case("-inf, float16", "in float16", dtype=torch.float16, values="-inf"),
    Case("+-inf, sigmoid", "independent classes saturate to 0 and 1", values="+-inf", target="bits",
         options=_SIGMOID),
    *[
        Case(f"{values}, ignored", "a pixel that counts nowhere may hold anything", (1, 5, 23, 29),
             values=f"{values} where ignored", ignored=0.2)
        for values in ("nan", "+inf")
    ],
    Case("nan, masked", "the same by the mask", (1, 5, 23, 29), values="nan where ignored",
         masked=0.2),
    Case("nan, masked, soft", "the same with a soft target", (1, 5, 23, 29),
         values="nan where ignored", target="soft", masked=0.2),
    Case("nan, masked, channels_last", "the same transposed", (1, 5, 23, 29),
         layout="channels_last", values="nan where ignored", masked=0.2),
    Case("nan, masked, sigmoid", "the same of independent classes", values="nan where ignored",
         target="bits", masked=0.2, options=_SIGMOID),
    Case("nan, ignored, sigmoid", "element by element", values="nan where ignored", target="bits",
         ignored=0.2, options=_SIGMOID),
    Case("nan, ignored, none", "probabilities", values="nan where ignored", ignored=0.2,
         options=_NONE),
    Case("nan target, masked", "the target of a masked pixel may hold anything", target="soft",
         masked=0.2, values="nan target where masked"),
    Case("bad labels, masked", "a label out of range under the mask", masked=0.2,
         values="bad labels under the mask"),
    Case("bad bits, masked", "the same of independent classes", target="bits", masked=0.2,
         values="bad labels under the mask", options=_SIGMOID),
    *[
        Case(f"{value} logit, {how}", "one is enough to make the loss NaN, without a crash",
             (2, 5, 23, 29), values=value, finite=False, **more)
        for value in ("nan", "+inf", "all -inf")
        for how, more in {
            "labels": {},
            "soft": {"target": "soft"},
            "channels_last": {"layout": "channels_last"},
            "boundary": {"drawn": "blocks", "options": _bls(3)},
            "bfloat16": {"dtype": torch.bfloat16},
            "float64": {"dtype": torch.float64},
        }.items()
    ],
    Case("nan logit, sigmoid", "independent classes", values="nan", target="bits", options=_SIGMOID,
         finite=False),
    Case("nan logit, none", "probabilities", values="nan", options=_NONE, finite=False),
    Case("nan logit, binary", "one class", (2, 1, 6, 7), values="nan", options=_SIGMOID,
         finite=False),
    Case("nan target", "a soft target with NaN", values="nan target", target="soft", finite=False),
]  # fmt: skip

ACTIVE = [
    Case(f"active {mode}, {name}", "each asks for other columns beside the overlap", (2, 5, 23, 29),
         target=target, options={**options, "active_classes": mode})
    for mode in ("all", "present", "prob", "both")
    for name, target, options in [
        ("labels", "labels", {}),
        ("smoothed", "labels", {"label_smoothing": 0.1}),
        ("soft", "soft", {}),
        ("bits", "bits", _SIGMOID),
    ]
]  # fmt: skip

CASES = [
    *SHAPES,
    *LOGITS_DTYPES,
    *LOGITS_LAYOUTS,
    *LABELS,
    *SOFT,
    *SMOOTHED,
    *ACTIVATIONS,
    *VALUES,
    *ACTIVE,
]
FINITE_CASES = [case for case in CASES if case.finite]
BY_NAME = {case.name: case for case in CASES}

_SMALL = {"shape": (2, 3, 3, 2), "dtype": torch.float64, "drawn": "uniform"}

#: float64 and small, for gradcheck: what changes the gradient, one thing at a time.
GRADIENT_CASES = [
    *[
        Case(f"{target}{', channels_last' if layout != 'contiguous' else ''}",
             "each kind of target", target=target, layout=layout, options=options, **_SMALL)
        for target, options in [("labels", {}), ("soft", {}), ("bits", _SIGMOID)]
        for layout in ("contiguous", "channels_last")
    ],
    *[
        Case(f"layout {layout}", "the gradient has the layout's strides", layout=layout, **_SMALL)
        for layout in ("cropped", "stepped", "transposed", "classes first", "reversed", "one image",
        "one pixel")
    ],
    *[
        Case(f"{len(shape) - 2}-D", "spatial dimensions", shape, torch.float64)
        for shape in [(4, 3), (2, 3, 5), (1, 3, 2, 3, 2)]
    ],
    *[
        Case(", ".join(f"{name} {value}" for name, value in options.items()), "an option",
             options=options, **_SMALL)
        for options in [
            {"label_smoothing": 0.1},
            {"label_smoothing": 0.2, "boundary_size": 3},
            {"alpha": 0.3, "beta": 0.7},
            {"alpha": 0.0, "beta": 1.0},
            {"gamma": 2.0},
            {"gamma": 0.5},
            {"smooth": 1.0},
            {"log_loss": True},
            {"log_loss": True, "smooth": 0.5, "alpha": 0.5, "beta": 0.5},
            {"aggregation": "image"},
            {"aggregation": "class"},
            {"aggregation": {"dataset": 0.2, "image": 0.5, "class": 0.3}},
            {"active_classes": "all"},
            {"active_classes": "present"},
            {"active_classes": "prob"},
            {"active_classes": "both", "active_threshold": 1.2},
            {"reduction": "none"},
            {"reduction": "none", "aggregation": "image"},
            {"ignore_index": 0},
        ]
    ],
    Case("mask", "pixels taken out", masked=0.3, **_SMALL),
    Case("mask, ignored", "by both", masked=0.2, ignored=0.2, **_SMALL),
    Case("bits, ignored", "elements taken out", target="bits", ignored=0.2, options=_SIGMOID,
         **_SMALL),
    Case("all ignored", "gradient 0", ignored=1.0, **_SMALL),
    Case("a class absent", "no gradient through an inactive class but by the softmax",
         drawn="no class 1", shape=(2, 3, 3, 2), dtype=torch.float64),
    Case("sigmoid, labels", "one-vs-rest", options=_SIGMOID, **_SMALL),
    Case("sigmoid, soft", "a probability per class", target="soft", options=_SIGMOID, **_SMALL),
    Case("binary", "one class", (2, 1, 3, 2), torch.float64, options=_SIGMOID),
    Case("none, labels", "no activation", values="probabilities", options=_NONE, **_SMALL),
    Case("none, soft", "no activation", values="probabilities", target="soft", options=_NONE,
         **_SMALL),
]  # fmt: skip
