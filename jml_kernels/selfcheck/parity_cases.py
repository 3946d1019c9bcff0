"""Inputs on which a backend is compared with the reference in float64: one thing at a time."""

from __future__ import annotations

import torch

from ..checks import LOGITS_DTYPES
from .cases import BLS, FAMILY, LS, NONE, SIGMOID, WEIGHTS, Case

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
#: Those that are no other one with other options.
_DISTINCT = ("JML1", "JML2", "soft Jaccard L1", "soft Jaccard L2", "cross-entropy", "distillation")
TILES = (1, 11, 43, 59)
BINARY = (1, 1, 6, 7)


def named(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


LOSSES = [
    *[
        Case(f"{loss}, labels", "every loss", loss, ignored=0.1 if loss != "JDT" else 0,
             quick=loss in ("JML1", "JDT"), interpreted=loss in ("JML1", "statistics"))
        for loss in FAMILY
    ],
    *[
        Case(f"{loss}, soft", "against probabilities its terms differ", loss, target="soft",
             masked=0.2, quick=loss in (*_DISTINCT[:-1], "statistics"),
             interpreted=loss not in ("soft Jaccard L1", "cross-entropy", "JDT"))
        for loss in FAMILY if loss != "distillation"
    ],
    *[
        Case(f"{loss}, boundary", "against smoothed labels", loss, options=BLS,
             quick=loss in ("JML1", "cross-entropy", "distillation", "statistics"),
             interpreted=loss in (*_DISTINCT[:-2], "statistics"))
        for loss in FAMILY if loss != "JDT"
    ],
    *[
        Case(f"{loss}, multi-label", "of independent classes", loss, target="bits",
             options=SIGMOID, ignored=0.1, interpreted=False)
        for loss in FAMILY if loss not in ("JDT", "distillation")
    ],
    *[
        Case(f"{loss}, none", "of probabilities", loss, target="soft", options=NONE,
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
    ("bfloat16", "stepped", "multi-label"),
}
_KINDS = {
    "labels": {},
    "soft": {"target": "soft"},
    "boundary": {"options": BLS},
    "multi-label": {"target": "bits", "options": SIGMOID},
    "teacher": {"loss": "distillation"},
}
DTYPES_AND_LAYOUTS = [
    Case(
        f"{named(dtype)} {layout}, {kind}",
        "every dtype in every layout",
        shape=(2, 5, 9, 11),
        dtype=dtype,
        layout=layout,
        target_layout=layout,
        quick=(named(dtype), layout, kind) in _QUICK_LAYOUTS,
        interpreted=(dtype == torch.float32 and kind == "soft")
        or (layout == "channels_last" and kind == "labels")
        or (named(dtype), layout, kind) in _QUICK_LAYOUTS,
        **more,
    )
    for dtype in LOGITS_DTYPES
    for layout in _LAYOUTS
    for kind, more in _KINDS.items()
]

TARGETS = [
    *[
        Case(f"labels {named(dtype)}", "every integer dtype", integers=dtype,
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
        Case(f"soft {named(floats)} in {named(dtype)}", "a target has its own dtype",
             dtype=dtype, floats=floats, target="soft", interpreted=dtype == torch.float32)
        for dtype in LOGITS_DTYPES for floats in LOGITS_DTYPES if floats != dtype
    ],
    Case("soft contiguous, channels_last", "and its own layout", shape=(2, 5, 9, 11),
         layout="channels_last", target="soft"),
    Case("mask", "takes pixels out", masked=0.3),
    Case("ignored", "ignore_index takes pixels out", ignored=0.3),
    Case("mask and ignored", "either takes a pixel out", masked=0.3, ignored=0.3, quick=True,
         shape=(2, 5, 6, 7), layout="channels_last", interpreted=False),
    Case("ignored 255", "the usual encoding of data sets", integers=torch.uint8, ignored=0.3,
         options={"ignore_index": 255}),
    Case("ignored 0", "background left out", options={"ignore_index": 0}),
    Case("all ignored", "nothing counts: loss and gradient are 0", ignored=1.0, quick=True),
    Case("all masked", "nothing counts", masked=1.0),
    Case("all masked, soft", "nothing counts", target="soft", masked=1.0),
    Case("smoothing", "every pixel is smoothed", options=LS, ignored=0.1),
    Case("smoothing 1", "nothing of the label is left", options={"label_smoothing": 1.0}),
    Case("soft, smoothing", "probabilities are not smoothed", target="soft", options=LS),
    Case("boundary 5", "larger windows", options={**LS, "boundary_size": 5}, shape=(1, 4, 9, 11)),
    Case("boundary 41", "windows above the image", options={**LS, "boundary_size": 41},
         interpreted=False),
    Case("boundary, 1-D", "windows of sequences", options=BLS, shape=(2, 4, 37)),
    Case("boundary, 3-D", "windows of volumes", options=BLS, shape=(1, 4, 5, 6, 7)),
    Case("boundary, tiles", "windows reach over a tile's edge", options=BLS, shape=TILES,
         ignored=0.01),
    Case("boundary, ignored", "next to an ignored pixel none is smoothed", options=BLS,
         shape=(1, 4, 9, 11), ignored=0.05, masked=0.1, integers=torch.int16),
    Case("multi-label", "classes are independent", target="bits", integers=torch.uint8,
         options=SIGMOID, quick=True),
    Case("multi-label, ignored", "element by element", target="bits", options=SIGMOID, ignored=0.2,
         masked=0.1),
    Case("multi-label, smoothing", "as two classes each", target="bits",
         options={**SIGMOID, **LS}),
    Case("multi-label, cross-entropy", "the binary one", "cross-entropy", target="bits",
         options=SIGMOID, ignored=0.2, weights=WEIGHTS),
    Case("sigmoid, labels", "one against the rest", options=SIGMOID),
    Case("sigmoid, soft", "a probability for each class", target="soft", options=SIGMOID),
    Case("sigmoid, boundary", "smoothed labels of independent classes",
         options={**SIGMOID, **BLS}),
    Case("binary", "one class has labels 0 and 1", shape=BINARY, options=SIGMOID, quick=True,
         interpreted=False),
    Case("binary, smoothing", "smoothed as two classes", shape=BINARY,
         options={**SIGMOID, **LS}),
    Case("binary, soft", "the chance of 1", shape=BINARY, target="soft", options=SIGMOID),
    Case("none, labels", "probabilities as they are", options=NONE),
    Case("none, soft", "the same against probabilities", target="soft", options=NONE),
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
    ("tiles", "no tile is whole at the end", TILES),
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
             shape=(3, 5, 6, 7), ignored=0.1, options={**LS, **options}, interpreted=interpreted,
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
        for target, options in (("labels", LS), ("soft", {}), ("bits", SIGMOID))
    ],
    Case("class_weights", "multiply the losses of classes", weights=WEIGHTS[:1]),
    Case("weights, labels", "each weighs its own", "cross-entropy", weights=WEIGHTS, ignored=0.1,
         quick=True, options=LS),
    Case("weights, boundary", "only some pixels are smoothed", "cross-entropy", weights=WEIGHTS,
         options=BLS),
    Case("weights, soft", "the mean is over pixels", "cross-entropy", weights=WEIGHTS,
         target="soft"),
    Case("weights, JDT", "the weights of classes as numbers", "JDT", weights=WEIGHTS[:1],
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
             options={"inplace_backward": True}, quick=layout == "channels_last",
             interpreted=layout == "contiguous")
        for layout in ("contiguous", "channels_last", "cropped")
    ],
]  # fmt: skip

DISTILLATION = [
    *[
        Case(f"teacher {named(floats)} of {named(dtype)}", "a teacher has its own dtype",
             "distillation", dtype=dtype, floats=floats, ignored=0.1,
             interpreted=dtype == torch.float32,
             quick=(dtype, floats) == (torch.float32, torch.float16))
        for dtype in LOGITS_DTYPES for floats in LOGITS_DTYPES
    ],
    *[
        Case(f"teacher {layout}", "is read as it lies", "distillation", shape=(2, 5, 6, 7),
             layout="channels_last", target_layout=layout, interpreted=layout == "stepped")
        for layout in _LAYOUTS
    ],
    Case("teacher, tiles", "sums go on from tile to tile", "distillation", shape=TILES,
         options=BLS),
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
    Case("shares", "of every term", "distillation", weights=WEIGHTS, interpreted=False,
         options={"ce_weight": 0.6, "ce_label_weight": 0.3, "jaccard_label_weight": 0.8}),
    Case("labels alone", "the teacher has no share", "distillation", interpreted=False,
         options={"ce_label_weight": 1.0, "jaccard_label_weight": 1.0}),
    Case("teacher, active", "classes are chosen term by term", "distillation",
         shape=(1, 19, 5, 6),
         options={"active_classes": "present", "teacher_active_classes": "prob"}),
    Case("teacher, sigmoid", "independent classes", "distillation", options=SIGMOID, ignored=0.1),
    Case("teacher, binary", "one class", "distillation", shape=BINARY, interpreted=False,
         options={**SIGMOID, **LS}),
]  # fmt: skip

PARITY = [*LOSSES, *DTYPES_AND_LAYOUTS, *TARGETS, *SHAPES, *OPTIONS, *DISTILLATION]
