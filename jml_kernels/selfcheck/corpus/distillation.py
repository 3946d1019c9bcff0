"""Distillation, eq. 15 to 17: a teacher's logits beside the labels, or alone."""

from __future__ import annotations

import torch

from .case import BINARY, BLS, LS, SIGMOID, TILES, WEIGHTS, LossCase
from .cross_entropy import OVERLAP_OPTIONS
from .dtypes import FLOAT_DTYPES, name_of
from .layouts import LAYOUTS
from .options import LOSS_OPTIONS, MODES

_NAN = "nan where not counted"
#: Cases of many tiles take the interpreter long, and are read as those of other losses.
_MANY_TILES = {"shape": TILES, "interpreted": False}


def _kd(name: str, why: str, *shape: tuple[int, ...], **more: object) -> LossCase:
    return LossCase(f"distillation, {name}", why, *shape, **more, loss="distillation")


_SHAPES = [
    *[
        _kd(name, why, shape, ignored=0.1, checked=checked, interpreted=interpreted)
        for name, why, shape, checked, interpreted in [
            ("2 classes", "these are the smallest softmaxes", (2, 2, 5, 7), False, True),
            ("19 classes", "Cityscapes has as many classes", (1, 19, 17, 16), False, True),
            ("150 classes, tiles", "tiles are smaller, since two are held", (1, 150, 23, 25), True,
             False),
            ("1000 classes", "this is the most that is promised", (1, 1000, 3, 5), False, True),
            ("1000 classes, tiles", "classes take more than one of the smallest tiles",
             (1, 1000, 131), False, False),
            ("0-D", "classification is distilled too", (7, 5), True, True),
            ("1-D", "sequences have one spatial dimension", (2, 5, 41), False, True),
            ("3-D", "volumes have three spatial dimensions", (2, 4, 3, 5, 4), False, True),
            ("1 pixel", "there is nothing to vectorise", (1, 5, 1, 1), False, True),
            ("0 images", "a batch may be empty", (0, 5, 4, 4), True, True),
            ("0 pixels", "a crop may be empty", (2, 5, 0, 4), False, True),
            ("primes", "no size divides a tile or a vector", (3, 7, 13, 11), False, True),
            ("several tiles", "sums go on from tile to tile", (2, 5, 43, 59), False, True),
            ("several tiles, 3-D", "a tile ends inside a plane", (1, 3, 7, 19, 23), False, False),
            ("many images", "images are shared out among threads", (37, 3, 5), False, False),
        ]
    ],
    *[
        _kd(f"pixels {n}", "one less, exactly and one more than tiles and vectors", (1, 3, n),
            interpreted=n < 255 or n == 257)
        for n in (15, 16, 17, 255, 256, 257, 511, 512, 513, 1024)
    ],
]  # fmt: skip

_DTYPES = [
    *[
        _kd(f"teacher {name_of(teacher)} of {name_of(dtype)}", "a teacher has its own dtype",
            dtype=dtype, teacher_dtype=teacher, ignored=0.1, checked=True,
            quick=(dtype, teacher) == (torch.float32, torch.float16),
            interpreted=torch.float32 in (dtype, teacher))
        for dtype in FLOAT_DTYPES for teacher in FLOAT_DTYPES
    ],
    *[
        _kd(f"teacher {name_of(dtype)}, tiles", "whole rows of the teacher are converted",
            teacher_dtype=dtype, **_MANY_TILES)
        for dtype in FLOAT_DTYPES
    ],
    *[
        _kd(f"student {name_of(dtype)} channels_last, tiles", "rows are converted and transposed",
            dtype=dtype, layout="channels_last", teacher_layout="channels_last", **_MANY_TILES)
        for dtype in FLOAT_DTYPES
    ],
]  # fmt: skip

_STRIDES = [
    *[
        _kd(f"teacher {layout}", "a teacher is read as it lies", teacher_layout=layout,
            checked=layout in ("channels_last", "cropped", "stepped", "transposed", "one image"))
        for layout in LAYOUTS if layout != "contiguous"
    ],
    *[
        _kd(f"student {layout}", "a student is read as it lies, beside a teacher", layout=layout,
            checked=layout == "channels_last")
        for layout in LAYOUTS if layout != "contiguous"
    ],
    *[
        _kd(f"{layout} and {teacher}, tiles", "student and teacher have layouts of their own",
            layout=layout, teacher_layout=teacher, ignored=0.1, **_MANY_TILES)
        for layout, teacher in [
            ("contiguous", "channels_last"),
            ("channels_last", "contiguous"),
            ("cropped", "stepped"),
            ("transposed", "cropped channels_last"),
        ]
    ],
    _kd("labels uint8, reversed", "three inputs have three layouts", layout="channels_last",
        teacher_layout="stepped", target_dtype=torch.uint8, target_layout="reversed"),
    _kd("labels int32, mask stepped", "the mask has a layout of its own", target_dtype=torch.int32,
        masked=0.3, mask_layout="stepped"),
]  # fmt: skip

_OPTIONS = [
    *[
        _kd(overlap, "any overlap, of both terms", options=options, ignored=0.1)
        for overlap, options in OVERLAP_OPTIONS.items()
    ],
    *[
        _kd(f"active {labels} and {teacher}", "classes are chosen term by term", (2, 19, 5, 6),
            options={"active_classes": labels, "teacher_active_classes": teacher,
                     "temperature": 0.5},
            checked=(labels, teacher) == ("present", "prob"),
            interpreted=teacher in ("all", None))
        for labels in MODES for teacher in (*MODES, None)
    ],
    *[
        _kd(f"loss {name}", "options change both overlaps", ignored=0.1, options=options,
            interpreted=False)
        for name, options in LOSS_OPTIONS.items()
    ],
    *[
        _kd(f"weights {', '.join(f'{value:g}' for value in values)}",
            "each of lambda, mu and nu at its ends takes terms out",
            options=dict(zip(("ce_weight", "ce_label_weight", "jaccard_label_weight"), values,
                             strict=True)),
            checked=values in ((0.6, 0.3, 0.8), (0.25, 1, 1)))
        for values in [
            (0, 0.5, 0.5), (1, 0.5, 0.5), (0.25, 0, 0.5), (0.25, 1, 0.5), (0.25, 0.5, 0),
            (0.25, 0.5, 1), (0.25, 0, 0), (0.25, 1, 1), (0.6, 0.3, 0.8), (1, 0, 1), (0, 1, 0),
            (0.5, 1, 0), (0.5, 0, 1),
        ]
    ],
    *[
        _kd(f"temperatures {teacher:g} and {student:g}, {divergence}",
            "the student's only changes the cross-entropy, by its square too",
            **{**more, "options": {**more.get("options", {}), "temperature": teacher,
                                   "student_temperature": student, "distillation": divergence}})
        for divergence in ("ce", "kl")
        for teacher, student, more in [
            (4.0, 1.0, {"checked": divergence == "ce"}),
            (1.0, 4.0, {"checked": divergence == "ce"}),
            (3.0, 3.0, {"dtype": torch.float16}),
            (0.5, 0.7, {"checked": divergence == "kl"}),
            (2.0, 2.0, {"shape": TILES, "ignored": 0.1}),
            (2.0, 3.0, {"options": SIGMOID, "ignored": 0.1, "checked": divergence == "kl"}),
        ]
    ],
    _kd("class weights", "both overlaps have weights, and one of two cross-entropies",
        weights=WEIGHTS, ignored=0.1, options=LS),
    _kd("ce_class_weights", "the teacher's cross-entropy has none", weights=WEIGHTS[1:]),
    _kd("ce_class_weights, tiles", "the teacher's cross-entropy has none, in many tiles", TILES,
        weights=WEIGHTS[1:]),
]  # fmt: skip

_TARGETS = [
    _kd("kl, masked", "the entropy is that of pixels that count", masked=0.3,
        options={"distillation": "kl"}),
    _kd("smoothing", "labels are smoothed, and the teacher is not", options=LS, ignored=0.1),
    _kd("boundary", "labels are smoothed where they meet", options=BLS, drawn="blocks",
        checked=True, quick=True),
    _kd("boundary, ignored and masked", "windows hold pixels that do not count", options=BLS,
        drawn="blocks", ignored=0.05, masked=0.2),
    _kd("boundary, tiles", "windows reach over the tile's edge", (1, 4, 43, 59), options=BLS,
        drawn="blocks", ignored=0.01, checked=True, interpreted=False),
    _kd("boundary, tiles, channels_last", "windows lie as labels do, and logits transposed",
        (1, 4, 43, 59), options=BLS, drawn="blocks", layout="channels_last",
        teacher_layout="channels_last", interpreted=False),
    _kd("boundary, 3-D", "volumes have windows too", (2, 4, 5, 6, 7), options=BLS, drawn="blocks"),
    _kd("mask and ignored", "either takes a pixel out of both terms", masked=0.3, ignored=0.3),
    _kd("ignored 255", "the usual encoding of data sets", ignored=0.3, target_dtype=torch.uint8,
        options={"ignore_index": 255}),
    _kd("all ignored", "nothing counts: 0/0", ignored=1.0),
    _kd("mask of nothing", "nothing counts: 0/0", masked=1.0),
    _kd("bad labels, masked", "a masked pixel may hold any label", masked=0.2,
        values="bad labels under the mask"),
    _kd("unlabeled", "the teacher is alone", target="none"),
    _kd("unlabeled, masked", "a mask takes out its pixels", target="none", masked=0.3),
    _kd("unlabeled, tiles", "sums go on from tile to tile", target="none",
        teacher_dtype=torch.bfloat16, **_MANY_TILES),
    _kd("unlabeled, kl", "the divergence is alone", target="none", masked=0.2, weights=WEIGHTS,
        options={"ce_weight": 0.5, "distillation": "kl", "temperature": 2.0,
                 "student_temperature": 2.0}, checked=True, quick=True),
    _kd("unlabeled, 0 pixels", "nothing counts", (2, 5, 0, 4), target="none"),
    _kd("unlabeled, mask of nothing", "nothing counts", target="none", masked=1.0),
]  # fmt: skip

_ACTIVATIONS = [
    _kd("sigmoid, labels", "labels stand for one class against the rest", options=SIGMOID,
        ignored=0.1, checked=True),
    _kd("sigmoid, unlabeled", "several classes may be present at once", options=SIGMOID,
        target="none"),
    _kd("sigmoid, weights", "the mean is over elements", options=SIGMOID, weights=WEIGHTS),
    _kd("sigmoid, tiles", "independent classes in many tiles", options={**SIGMOID, **LS},
        masked=0.1, **_MANY_TILES),
    _kd("binary", "there is one logit for each pixel", BINARY, options={**SIGMOID, **LS},
        ignored=0.1, checked=True),
    _kd("binary, labels with a channel", "labels have a channel, as the logits", BINARY,
        target="labels with a channel", options=SIGMOID),
    _kd("binary, kl, 0-D", "an image has one logit", (7, 1),
        options={**SIGMOID, "distillation": "kl"}),
]  # fmt: skip

_VALUES = [
    _kd("teacher -inf", "classes that a teacher rules out: finite", teacher="-inf"),
    _kd("teacher -inf, kl", "0 log 0 = 0", teacher="-inf", options={"distillation": "kl"}),
    _kd("teacher -inf, tiles", "whole vectors have classes that a teacher rules out", TILES,
        teacher="-inf"),
    _kd("teacher -inf, sigmoid", "a teacher's probability is 0", teacher="-inf",
        options={**SIGMOID, "distillation": "kl"}),
    _kd("teacher far from 0", "exp overflows unless the maximum is taken off", teacher="far"),
    _kd("both far from 0", "exp overflows unless both maxima are taken off", teacher="far",
        values="far", dtype=torch.float64),
    _kd("spread", "probabilities span 30 decades", (2, 19, 13, 11), values="spread"),
    _kd("nan teacher, ignored", "a pixel that counts nowhere may hold anything", TILES,
        teacher=_NAN, ignored=0.2),
    _kd("nan teacher, masked", "a masked pixel of the teacher may hold anything", teacher=_NAN,
        masked=0.2, ignored=0.1),
    _kd("nan teacher, unlabeled", "a masked pixel of a teacher alone may hold anything",
        teacher=_NAN, masked=0.2, target="none", options={"distillation": "kl"}),
    _kd("nan teacher, sigmoid", "a masked pixel of independent classes may hold anything",
        teacher=_NAN, masked=0.2, ignored=0.1, options=SIGMOID),
    _kd("nan student", "an ignored pixel of the student may hold anything", values=_NAN,
        ignored=0.2),
    _kd("nan student, channels_last", "a masked pixel of the student may hold anything, transposed",
        TILES, values=_NAN, masked=0.2, layout="channels_last", teacher_layout="channels_last"),
]  # fmt: skip

DISTILLATION = [
    *_SHAPES, *_DTYPES, *_STRIDES, *_OPTIONS, *_TARGETS, *_ACTIVATIONS, *_VALUES,
]  # fmt: skip
