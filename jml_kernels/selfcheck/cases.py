"""What is checked: lists of inputs, each with the reason why it is there.

`quick` marks those of `jml-kernels check --quick`. Triton's interpreter takes a fifth of a second
for a step, however small: cases that repeat for it what others show, or that are large, have
`interpreted=False`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import torch

from .results import Subject


@dataclass(frozen=True, eq=False)
class Case:
    """One input.

    Attributes:
        loss: a name of `losses`.
        shape: of the logits, (N, C, *spatial).
        layout, target_layout: of `inputs.LAYOUTS`; the second of a teacher too.
        scale, shift: of the logits, which are normal.
        target: "labels" (N, *spatial); "soft" (N, C, *spatial); "bits", integers 0 and 1
            (N, C, *spatial); "none", of a distillation.
        integers, floats: dtypes of labels and bits, and of a soft target or a teacher (None: that
            of the logits).
        ignored: share of the integers that is ignore_index.
        masked: share of the pixels that the mask takes out; None: no mask.
        weights: which of "class_weights" and "ce_class_weights" are given.
        options: of the loss.
    """

    name: str
    why: str
    loss: str = "JML1"
    shape: tuple[int, ...] = (1, 5, 6, 7)
    dtype: torch.dtype = torch.float32
    layout: str = "contiguous"
    scale: float = 2.0
    shift: float = 0.0
    target: str = "labels"
    integers: torch.dtype = torch.int64
    floats: torch.dtype | None = None
    target_layout: str = "contiguous"
    ignored: float = 0.0
    masked: float | None = None
    weights: tuple[str, ...] = ()
    options: Mapping[str, object] = field(default_factory=dict)
    quick: bool = False
    interpreted: bool = True

    @property
    def activation(self) -> str:
        return self.options.get("activation", "softmax")

    @property
    def ignore_index(self) -> int:
        return self.options.get("ignore_index", -100)

    @property
    def has_teacher(self) -> bool:
        return self.loss == "distillation"

    @property
    def label_shape(self) -> tuple[int, ...]:
        return (self.shape[0], *self.shape[2:])

    @property
    def elements(self) -> int:
        return math.prod(self.shape)

    @property
    def label_count(self) -> int:
        return 2 if self.shape[1] == 1 and self.activation != "softmax" else self.shape[1]


def chosen(cases: Iterable[Case], subject: Subject) -> list[Case]:
    """The cases that a backend is checked on."""
    return [
        case
        for case in cases
        if (case.quick or not subject.quick) and (case.interpreted or not subject.is_interpreted)
    ]


_LS = {"label_smoothing": 0.1}
_BLS = {"label_smoothing": 0.2, "boundary_size": 3}
_SIGMOID = {"activation": "sigmoid"}
_NONE = {"activation": "none"}
_TILES = (1, 11, 43, 59)
_BINARY = (1, 1, 6, 7)
_WEIGHTS = ("class_weights", "ce_class_weights")

FLOAT_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
INTEGER_DTYPES = (
    torch.bool,
    torch.uint8,
    torch.int8,
    torch.int16,
    torch.int32,
    torch.int64,
    torch.uint16,
    torch.uint32,
    torch.uint64,
)
FAMILY = (
    "JML1",
    "JML2",
    "soft Jaccard L1",
    "soft Jaccard L2",
    "Dice semimetric 1",
    "Dice semimetric 2",
    "soft Dice L1",
    "soft Dice L2",
    "Tversky",
    "cross-entropy",
    "distillation",
    "JDT",
    "statistics",
)
#: Those that are no other one with other options.
_DISTINCT = ("JML1", "JML2", "soft Jaccard L1", "soft Jaccard L2", "cross-entropy", "distillation")


def _named(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


# ---- parity with the reference in float64 --------------------------------------------------------

LOSSES = [
    *[
        Case(f"{loss}, labels", "every loss", loss, ignored=0.1 if loss != "JDT" else 0,
             quick=loss in ("JML1", "JDT"), interpreted=loss in ("JML1", "JDT", "statistics"))
        for loss in FAMILY
    ],
    *[
        Case(f"{loss}, soft", "against probabilities its terms differ", loss, target="soft",
             masked=0.2, quick=loss in (*_DISTINCT[:-1], "statistics"))
        for loss in FAMILY if loss != "distillation"
    ],
    *[
        Case(f"{loss}, boundary", "against smoothed labels", loss, options=_BLS,
             quick=loss in ("JML1", "cross-entropy", "distillation", "statistics"),
             interpreted=loss in (*_DISTINCT, "statistics"))
        for loss in FAMILY if loss != "JDT"
    ],
    *[
        Case(f"{loss}, multi-label", "of independent classes", loss, target="bits",
             options=_SIGMOID, ignored=0.1, interpreted=False)
        for loss in FAMILY if loss not in ("JDT", "distillation")
    ],
    *[
        Case(f"{loss}, none", "of probabilities", loss, target="soft", options=_NONE,
             interpreted=False)
        for loss in FAMILY if loss not in ("JDT", "distillation")
    ],
]  # fmt: skip

_LAYOUTS = ("contiguous", "channels_last", "cropped", "stepped", "transposed", "expanded")
_QUICK_LAYOUTS = {
    ("float16", "channels_last", "labels"),
    ("bfloat16", "contiguous", "soft"),
    ("float32", "cropped", "soft"),
    ("float32", "transposed", "boundary"),
    ("float64", "expanded", "labels"),
    ("float64", "channels_last", "soft"),
}
_KINDS = {
    "labels": {},
    "soft": {"target": "soft"},
    "boundary": {"options": _BLS},
    "multi-label": {"target": "bits", "options": _SIGMOID},
    "teacher": {"loss": "distillation"},
}
DTYPES_AND_LAYOUTS = [
    Case(
        f"{_named(dtype)} {layout}, {kind}",
        "every dtype in every layout",
        shape=(2, 5, 9, 11),
        dtype=dtype,
        layout=layout,
        target_layout=layout,
        quick=(_named(dtype), layout, kind) in _QUICK_LAYOUTS,
        interpreted=(dtype == torch.float32 and kind == "soft")
        or (layout == "channels_last" and kind == "labels")
        or (_named(dtype), layout, kind) in _QUICK_LAYOUTS,
        **more,
    )
    for dtype in FLOAT_DTYPES
    for layout in _LAYOUTS
    for kind, more in _KINDS.items()
]

TARGETS = [
    *[
        Case(f"labels {_named(dtype)}", "every integer dtype", integers=dtype,
             shape=(1, 2 if dtype == torch.bool else 5, 6, 7),
             quick=dtype in (torch.bool, torch.uint8, torch.uint64))
        for dtype in INTEGER_DTYPES
    ],
    Case("labels uint8, 200 classes", "above 127 they are not negative", shape=(1, 200, 5, 7),
         integers=torch.uint8, interpreted=False),
    *[
        Case(f"labels {layout}", "their strides are not the logits'", shape=(2, 5, 6, 7),
             target_layout=layout, interpreted=False)
        for layout in _LAYOUTS[1:] if layout != "expanded"
    ],
    *[
        Case(f"soft {_named(floats)} in {_named(dtype)}", "a target has its own dtype",
             dtype=dtype, floats=floats, target="soft", interpreted=dtype == torch.float32)
        for dtype in FLOAT_DTYPES for floats in FLOAT_DTYPES if floats != dtype
    ],
    Case("soft contiguous, channels_last", "and its own layout", shape=(2, 5, 9, 11),
         layout="channels_last", target="soft"),
    Case("mask", "takes pixels out", masked=0.3),
    Case("ignored", "ignore_index takes pixels out", ignored=0.3),
    Case("mask and ignored", "either takes a pixel out", masked=0.3, ignored=0.3, quick=True,
         shape=(2, 5, 6, 7), layout="channels_last"),
    Case("ignored 255", "the usual encoding of data sets", integers=torch.uint8, ignored=0.3,
         options={"ignore_index": 255}),
    Case("ignored 0", "background left out", options={"ignore_index": 0}),
    Case("all ignored", "nothing counts: loss and gradient are 0", ignored=1.0, quick=True),
    Case("all masked", "nothing counts", masked=1.0),
    Case("all masked, soft", "nothing counts", target="soft", masked=1.0),
    Case("smoothing", "every pixel is smoothed", options=_LS, ignored=0.1),
    Case("smoothing 1", "nothing of the label is left", options={"label_smoothing": 1.0}),
    Case("soft, smoothing", "probabilities are not smoothed", target="soft", options=_LS),
    Case("boundary 5", "larger windows", options={**_LS, "boundary_size": 5}, shape=(1, 4, 9, 11)),
    Case("boundary 41", "windows above the image", options={**_LS, "boundary_size": 41},
         interpreted=False),
    Case("boundary, 1-D", "windows of sequences", options=_BLS, shape=(2, 4, 37)),
    Case("boundary, 3-D", "windows of volumes", options=_BLS, shape=(1, 4, 5, 6, 7)),
    Case("boundary, tiles", "windows reach over a tile's edge", options=_BLS, shape=_TILES,
         ignored=0.01),
    Case("boundary, ignored", "next to an ignored pixel none is smoothed", options=_BLS,
         shape=(1, 4, 9, 11), ignored=0.05, masked=0.1, integers=torch.int16),
    Case("multi-label", "classes are independent", target="bits", integers=torch.uint8,
         options=_SIGMOID, quick=True),
    Case("multi-label, ignored", "element by element", target="bits", options=_SIGMOID, ignored=0.2,
         masked=0.1),
    Case("multi-label, smoothing", "as two classes each", target="bits",
         options={**_SIGMOID, **_LS}),
    Case("multi-label, cross-entropy", "the binary one", "cross-entropy", target="bits",
         options=_SIGMOID, ignored=0.2, weights=_WEIGHTS),
    Case("sigmoid, labels", "one against the rest", options=_SIGMOID),
    Case("sigmoid, soft", "a probability for each class", target="soft", options=_SIGMOID),
    Case("sigmoid, boundary", "smoothed labels of independent classes",
         options={**_SIGMOID, **_BLS}),
    Case("binary", "one class has labels 0 and 1", shape=_BINARY, options=_SIGMOID, quick=True),
    Case("binary, smoothing", "smoothed as two classes", shape=_BINARY,
         options={**_SIGMOID, **_LS}),
    Case("binary, soft", "the chance of 1", shape=_BINARY, target="soft", options=_SIGMOID),
    Case("none, labels", "probabilities as they are", options=_NONE),
    Case("none, soft", "the same against probabilities", target="soft", options=_NONE),
    Case("confident", "probabilities over 30 decades", "cross-entropy", scale=20.0),
    Case("far from 0", "exp overflows unless the maximum is taken off", "cross-entropy",
         shift=1000.0),
]  # fmt: skip

_SHAPES = [
    ("0-D", "classification", (7, 5)),
    ("1-D", "sequences", (2, 5, 41)),
    ("3-D", "volumes", (1, 4, 3, 5, 4)),
    ("1 class", "a softmax that is 1: the gradient is 0", (1, 1, 5, 7)),
    ("2 classes", "the smallest softmax", (1, 2, 5, 7)),
    ("19 classes", "Cityscapes", (1, 19, 9, 16)),
    ("40 classes", "no power of two", (1, 40, 5, 7)),
    ("150 classes", "ADE20K: small tiles, and several", (1, 150, 13, 15)),
    ("1000 classes", "classes in chunks", (1, 1000, 3, 5)),
    ("1 pixel", "nothing to vectorise", (1, 5, 1, 1)),
    ("0 images", "an empty batch", (0, 5, 4, 4)),
    ("0 pixels", "an empty crop", (2, 5, 0, 4)),
    ("1023 pixels", "one less than a tile", (1, 3, 1023)),
    ("1024 pixels", "exactly a tile", (1, 3, 1024)),
    ("1025 pixels", "one more than a tile", (1, 3, 1025)),
    ("tiles", "no tile is whole at the end", _TILES),
    ("many images", "more than there are threads", (37, 3, 5)),
    ("many tiles", "tiles are shared out among threads", (1, 7, 151, 163)),
    ("2.6 million", "an image of usual size", (2, 19, 256, 272)),
]
_QUICK_SHAPES = {"3-D", "1 class", "40 classes", "0 images", "1025 pixels"}
_LARGE_SHAPES = {"many images", "many tiles", "2.6 million", "1023 pixels", "1024 pixels"}
SHAPES = [
    Case(
        f"{name}, {target}",
        why,
        "cross-entropy" if target == "labels" else "JML1",
        shape=shape,
        target=target,
        quick=name in _QUICK_SHAPES and target == ("soft" if name == "3-D" else "labels"),
        interpreted=name not in _LARGE_SHAPES
        and (target == "labels" or name in ("3-D", "tiles", "150 classes")),
    )
    for name, why, shape in _SHAPES
    for target in ("labels", "soft")
]

OPTIONS = [
    *[
        Case(", ".join(f"{name} {value}" for name, value in options.items()), "an option of losses",
             shape=(3, 5, 6, 7), ignored=0.1, options={**_LS, **options}, interpreted=interpreted,
             quick=quick)
        for options, interpreted, quick in [
            ({"alpha": 0.3, "beta": 0.7}, False, False),
            ({"alpha": 0.0, "beta": 1.0}, False, False),
            ({"gamma": 2.0}, False, False),
            ({"gamma": 0.5}, True, False),
            ({"smooth": 1.0}, False, False),
            ({"log_loss": True, "smooth": 0.1}, True, False),
            ({"aggregation": "image"}, False, False),
            ({"aggregation": "class"}, False, False),
            ({"aggregation": {"dataset": 0.2, "image": 0.5, "class": 0.3}, "gamma": 1.5}, True,
             True),
            ({"aggregation": {"dataset": 2.0, "image": 0.0}}, False, False),
            ({"active_threshold": 0.5}, False, False),
        ]
    ],
    *[
        Case(f"active {mode}, {target}", "each asks for other columns", shape=(2, 19, 5, 6),
             target=target, options={"active_classes": mode, **options},
             interpreted=target == "soft", quick=(mode, target) == ("both", "soft"))
        for mode in ("all", "present", "label", "prob", "both")
        for target, options in (("labels", _LS), ("soft", {}), ("bits", _SIGMOID))
    ],
    Case("class_weights", "multiply the losses of classes", weights=_WEIGHTS[:1]),
    Case("weights, labels", "each weighs its own", "cross-entropy", weights=_WEIGHTS, ignored=0.1,
         quick=True, options=_LS),
    Case("weights, boundary", "only some pixels are smoothed", "cross-entropy", weights=_WEIGHTS,
         options=_BLS),
    Case("weights, soft", "the mean is over pixels", "cross-entropy", weights=_WEIGHTS,
         target="soft"),
    Case("weights, JDT", "the weights of classes as numbers", "JDT", weights=_WEIGHTS[:1],
         interpreted=False),
    *[
        Case(f"ce_weight {weight:g}", "at its ends one of two terms is left", "cross-entropy",
             options={"ce_weight": weight}, interpreted=False)
        for weight in (0, 0.6, 1)
    ],
    Case("cross-entropy, L2", "another overlap beside it", "cross-entropy", options={"norm": 2}),
    Case("JDT, options", "all of them at once", "JDT", shape=(3, 5, 6, 7), target="soft",
         options={"mIoUD": 0.5, "mIoUI": 0.3, "mIoUC": 0.2, "gamma": 1.5, "log_loss": True,
                  "norm": 2}, interpreted=False),
    Case("JDT, ignored", "an index that it is told", "JDT", ignored=0.2,
         options={"ignore_index": 255}, interpreted=False),
    *[
        Case(f"inplace_backward, {layout}", "the gradient lies over the logits",
             shape=(2, 5, 9, 11), layout=layout, target="soft",
             options={"inplace_backward": True}, quick=layout == "channels_last")
        for layout in ("contiguous", "channels_last", "cropped")
    ],
]  # fmt: skip

DISTILLATION = [
    *[
        Case(f"teacher {_named(floats)} of {_named(dtype)}", "a teacher has its own dtype",
             "distillation", dtype=dtype, floats=floats, ignored=0.1,
             interpreted=dtype == torch.float32,
             quick=(dtype, floats) == (torch.float32, torch.float16))
        for dtype in FLOAT_DTYPES for floats in FLOAT_DTYPES
    ],
    *[
        Case(f"teacher {layout}", "is read as it lies", "distillation", shape=(2, 5, 6, 7),
             layout="channels_last", target_layout=layout, interpreted=layout == "stepped")
        for layout in _LAYOUTS
    ],
    Case("teacher, tiles", "sums go on from tile to tile", "distillation", shape=_TILES,
         options=_BLS),
    Case("teacher, 150 classes", "two tiles are held at a time", "distillation",
         shape=(1, 150, 13, 15), interpreted=False),
    Case("teacher, 0-D", "classification", "distillation", shape=(7, 5)),
    Case("teacher, 0 images", "an empty batch", "distillation", shape=(0, 5, 4, 4),
         interpreted=False),
    *[
        Case(f"temperatures {teacher:g} and {student:g}, {how}", "the student's squared",
             "distillation", options={"temperature": teacher, "student_temperature": student,
                                      "distillation": how}, interpreted=how == "kl")
        for teacher, student, how in [(4, 1, "ce"), (1, 4, "ce"), (2, 3, "kl"), (0.5, 0.7, "kl")]
    ],
    Case("no labels", "the teacher alone", "distillation", target="none", quick=True, masked=0.2,
         options={"distillation": "kl", "temperature": 2.0}),
    Case("shares", "of every term", "distillation", weights=_WEIGHTS, interpreted=False,
         options={"ce_weight": 0.6, "ce_label_weight": 0.3, "jaccard_label_weight": 0.8}),
    Case("labels alone", "the teacher has no share", "distillation", interpreted=False,
         options={"ce_label_weight": 1.0, "jaccard_label_weight": 1.0}),
    Case("teacher, active", "classes are chosen term by term", "distillation",
         shape=(1, 19, 5, 6),
         options={"active_classes": "present", "teacher_active_classes": "prob"}),
    Case("teacher, sigmoid", "independent classes", "distillation", options=_SIGMOID, ignored=0.1),
    Case("teacher, binary", "one class", "distillation", shape=_BINARY, interpreted=False,
         options={**_SIGMOID, **_LS}),
]  # fmt: skip

PARITY = [*LOSSES, *DTYPES_AND_LAYOUTS, *TARGETS, *SHAPES, *OPTIONS, *DISTILLATION]

# ---- gradients: float64 and small, for finite differences ----------------------------------------

_SMALL = Case("", "", shape=(2, 3, 3, 2), dtype=torch.float64, interpreted=False)
_TINY = replace(_SMALL, shape=(1, 3, 2), interpreted=True)


def _small(name: str, why: str, *loss: str, **more) -> Case:
    given = {"loss": loss[0]} if loss else {}
    return replace(_SMALL, name=name, why=why, **given, **more)


GRADIENTS = [
    *[
        _small(f"{loss}, {target}", "every loss", loss, target=target,
               quick=target == "soft" or loss == "distillation")
        for loss in (*FAMILY[:-1], "sums") for target in ("labels", "soft")
        if not (loss == "distillation" and target == "soft")
    ],
    *[
        _small(name, why, *more.pop("loss", ()), **more)
        for name, why, more in [
            ("all columns, boundary", "each sum by itself, of labels",
             {"loss": ["sums"], "options": _BLS, "quick": True}),
            ("all columns, soft", "and of probabilities",
             {"loss": ["sums"], "target": "soft", "masked": 0.2}),
            ("channels_last", "the gradient has the logits' strides", {"layout": "channels_last"}),
            ("cropped", "and no others",
             {"layout": "cropped", "target": "soft"}),
            ("0-D", "classification", {"shape": (4, 3)}),
            ("3-D", "volumes", {"shape": (1, 3, 2, 3, 2), "options": _BLS}),
            ("smoothing", "smoothed labels", {"options": _LS}),
            ("boundary", "smoothed where labels meet", {"options": _BLS}),
            ("mask", "pixels taken out", {"masked": 0.3}),
            ("mask, ignored", "by both",
             {"masked": 0.2, "ignored": 0.2, "quick": True}),
            ("all ignored", "the gradient is 0", {"ignored": 1.0}),
            ("multi-label", "independent classes",
             {"target": "bits", "ignored": 0.2, "options": _SIGMOID,
              "quick": True}),
            ("sigmoid, soft", "a probability for each class",
             {"target": "soft", "options": _SIGMOID}),
            ("binary", "one class",
             {"shape": (2, 1, 3, 2), "options": _SIGMOID}),
            ("none, labels", "probabilities", {"options": _NONE}),
            ("none, soft", "the same against probabilities", {"target": "soft", "options": _NONE}),
            ("alpha 0, beta 1", "false positives cost nothing",
             {"options": {"alpha": 0.0, "beta": 1.0}}),
            ("gamma 0.5", "a power", {"options": {"gamma": 0.5}}),
            ("log_loss", "a logarithm",
             {"options": {"log_loss": True, "smooth": 0.5}}),
            ("smooth", "in numerator and denominator",
             {"options": {"smooth": 1.0}}),
            ("aggregations", "their sum",
             {"options": {"aggregation": {"dataset": 0.2, "image": 0.5, "class": 0.3}}}),
            *[
                (f"active {mode}", "which classes count",
                 {"options": {"active_classes": mode}, "target": "soft"})
                for mode in ("all", "present", "prob", "both")
            ],
            ("reduction none", "losses of classes",
             {"options": {"reduction": "none", "aggregation": "image"}}),
            ("class_weights", "one of them 0",
             {"weights": _WEIGHTS[:1]}),
            ("cross-entropy, weights", "weights of labels",
             {"loss": ["cross-entropy"], "options": _LS,
              "weights": _WEIGHTS, "quick": True}),
            ("cross-entropy, soft, weights", "and of probabilities",
             {"loss": ["cross-entropy"], "target": "soft", "weights": _WEIGHTS}),
            ("cross-entropy, multi-label", "the binary one",
             {"loss": ["cross-entropy"], "target": "bits", "options": _SIGMOID}),
            ("cross-entropy, none", "the logarithm of a probability",
             {"loss": ["cross-entropy"], "options": _NONE}),
            ("distillation, temperatures", "a scale and its square",
             {"loss": ["distillation"], "options": {"temperature": 2.0, "student_temperature": 3.0,
                                                    "distillation": "kl"}}),
            ("distillation, no labels", "the teacher alone",
             {"loss": ["distillation"], "target": "none"}),
            ("distillation, boundary", "smoothed labels and a mask",
             {"loss": ["distillation"], "options": _BLS, "masked": 0.1, "weights": _WEIGHTS}),
            ("distillation, sigmoid", "independent classes",
             {"loss": ["distillation"], "options": _SIGMOID}),
            ("JDT, options", "all of them at once",
             {"loss": ["JDT"], "target": "soft",
              "options": {"mIoUD": 0.5, "mIoUI": 0.3, "mIoUC": 0.2, "gamma": 1.5, "norm": 2}}),
        ]
    ],
    # Two evaluations for each element: what an interpreter can do.
    *[
        replace(_TINY, name=f"2 pixels, {name}", why=why, **more)
        for name, why, more in [
            ("sums, boundary", "each sum by itself, of labels",
             {"loss": "sums", "options": _BLS}),
            ("sums, soft", "and of probabilities",
             {"loss": "sums", "target": "soft", "layout": "channels_last"}),
            ("JML1, soft", "the formula's gradient", {"target": "soft", "quick": True}),
            ("JML1, smoothing", "against smoothed labels", {"options": _LS, "quick": True}),
            ("soft Jaccard L2, labels", "squares", {"loss": "soft Jaccard L2"}),
            ("aggregations", "of images and classes",
             {"shape": (2, 3, 2), "options": {"aggregation": {"image": 0.5, "class": 0.3}}}),
            ("cross-entropy, weights", "weights of labels",
             {"loss": "cross-entropy", "options": _LS, "weights": _WEIGHTS}),
            ("multi-label", "independent classes", {"target": "bits", "options": _SIGMOID}),
            ("distillation", "a scale and its square",
             {"loss": "distillation", "options": {"temperature": 2.0, "student_temperature": 3.0}}),
        ]
    ],
]  # fmt: skip

# ---- steps: repeated, compiled, watched ----------------------------------------------------------

#: Every way through the kernels, at a size that has several tiles.
STEPS = [
    Case("labels", "the fast way", shape=(2, 7, 51, 63), ignored=0.1, quick=True,
         interpreted=False),
    Case("boundary", "labels with windows", "cross-entropy", shape=(1, 7, 151, 163), options=_BLS,
         layout="channels_last", interpreted=False),
    Case("soft", "two dense inputs", shape=(3, 5, 71, 67), target="soft", dtype=torch.float16,
         interpreted=False),
    Case("teacher", "three inputs", "distillation", shape=(1, 7, 151, 163), options=_BLS,
         floats=torch.bfloat16, quick=True, interpreted=False),
    Case("all columns", "every sum", "statistics", shape=(1, 19, 43, 59), target="soft",
         dtype=torch.float64, interpreted=False),
    Case("many images", "images are shared out among threads", shape=(90, 3, 257),
         interpreted=False),
    Case("labels, small", "the same for an interpreter", shape=(1, 7, 21, 33), ignored=0.1),
    Case("teacher, small", "the same for an interpreter", "distillation", shape=(1, 5, 7, 5),
         options=_BLS, quick=True),
]  # fmt: skip

COMPILED = [
    Case("cross-entropy, boundary", "labels, with every kind of option", "cross-entropy",
         shape=(2, 5, 6, 7), options={**_BLS, "aggregation": "image"}, weights=_WEIGHTS,
         quick=True, interpreted=False),
    Case("JML, soft, masked", "probabilities and a mask", target="soft", masked=0.2,
         layout="channels_last", shape=(2, 5, 6, 7), dtype=torch.float16),
    Case("distillation", "labels and a teacher", "distillation", ignored=0.1,
         options={"temperature": 2.0}),
    Case("multi-label", "independent classes", target="bits", options=_SIGMOID, interpreted=False),
    Case("JDT", "the loss of the paper's authors", "JDT", interpreted=False),
]  # fmt: skip

_PLAIN = Case("", "", shape=(2, 19, 192, 256))
MEMORY = [
    replace(_PLAIN, name=name, why=why, **more)
    for name, why, more in [
        ("labels", "the fast way", {"quick": True}),
        ("boundary", "windows", {"options": {**_LS, "boundary_size": 5}}),
        ("soft", "two dense inputs", {"target": "soft", "masked": 0.1}),
        ("float16 channels_last", "no copy in float32 or in another layout",
         {"dtype": torch.float16, "layout": "channels_last", "target": "soft", "quick": True}),
        ("cropped", "no copy that is contiguous",
         {"layout": "cropped", "target_layout": "cropped", "integers": torch.int32}),
        ("multi-label", "bits", {"target": "bits", "integers": torch.uint8, "options": _SIGMOID}),
        ("cross-entropy", "weights", {"loss": "cross-entropy", "weights": _WEIGHTS}),
        ("distillation", "the teacher's softmax is never written",
         {"loss": "distillation", "floats": torch.float16, "options": _BLS, "quick": True}),
        ("all columns", "every sum",
         {"target": "soft", "options": {"aggregation": "image", "active_classes": "both"}}),
        ("150 classes", "ADE20K", {"shape": (1, 150, 96, 128)}),
    ]
]  # fmt: skip

#: What only a GPU shows: it takes seconds there, and is not run elsewhere.
ON_GPU = [
    replace(_PLAIN, shape=(2, 19, 128, 160), name=name, why=why, quick=True, **more)
    for name, why, more in [
        ("labels", "the fast way", {"ignored": 0.02}),
        ("boundary", "windows", {"loss": "cross-entropy", "options": _BLS, "ignored": 0.02}),
        ("distillation", "three inputs",
         {"loss": "distillation", "options": {"temperature": 2.0, **_BLS}}),
        ("soft", "two dense inputs", {"target": "soft", "layout": "channels_last",
                                      "dtype": torch.float16}),
        ("multi-label", "independent classes",
         {"target": "bits", "integers": torch.uint8, "options": _SIGMOID}),
        ("aggregations", "every column, and most of the formula",
         {"target": "soft", "options": {"aggregation": {"image": 0.5, "class": 0.5}, "gamma": 1.5,
                                        "active_classes": "both"}}),
    ]
]  # fmt: skip
