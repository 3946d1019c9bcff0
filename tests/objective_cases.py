"""The inputs of the objectives, eq. 14 to 17: cases with a teacher and more options, each with the
reason why it is there."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from cases import FINITE_CASES, FLOAT_DTYPES, LAYOUTS, OVERLAPS, Case
from inputs import build, near_tie
from torch import Tensor, nn

import jml_kernels as jml
from jml_kernels import reference


@dataclass(frozen=True, eq=False)
class ObjectiveCase(Case):
    """One input of an objective.

    Attributes:
        overlap: of `cases.OVERLAPS`.
        teacher: None for cross-entropy alone; "normal"; "far", logits near 1000; "-inf", some
            classes ruled out; "nan where not counted", where mask or labels take pixels out.
        teacher_dtype: None: the student's.
        teacher_layout: of `LAYOUTS`.
        unlabeled: labels=None.
        weights: which of "class_weights" and "ce_class_weights" are given.
        objective: options that only an objective has.
    """

    overlap: str = "metric1"
    teacher: str | None = None
    teacher_dtype: torch.dtype | None = None
    teacher_layout: str = "contiguous"
    unlabeled: bool = False
    weights: tuple[str, ...] = ()
    objective: Mapping[str, object] = field(default_factory=dict)


def class_weights(case: ObjectiveCase, name: str) -> Tensor | None:
    """Not all different from each other's, one of them 0; float64, or None."""
    if name not in case.weights:
        return None
    weights = 0.5 + torch.arange(case.shape[1]).double() % 4 / 2
    if name == "class_weights":
        weights = weights.flip(0)
    return torch.cat([weights[:-1], weights.new_zeros(1)]) if len(weights) > 1 else weights


@functools.cache
def build_teacher(case: ObjectiveCase, device: str = "cpu") -> Tensor:
    """The teacher's logits, always the same ones; no near-tie with the student, see `build`."""
    logits, labels, mask = build(case)
    activation = case.options.get("activation", "softmax")
    x = reference.probabilities(logits.double(), activation)
    for seed in range(100):
        generator = torch.Generator().manual_seed(1000 + seed)
        teacher = 2 * torch.randn(case.shape, generator=generator, dtype=torch.float64)
        dropped = torch.rand(case.shape, generator=generator) < 0.3
        if case.teacher == "far":
            teacher = teacher + 1000
        elif case.teacher == "-inf":
            dropped[:, 0] = False  # class 0 keeps every pixel a softmax
            teacher = teacher.masked_fill(dropped, -math.inf)
        elif case.teacher == "nan where not counted":
            counted = torch.ones_like(labels, dtype=torch.bool) if mask is None else mask
            if not case.unlabeled:
                counted = counted & (labels != case.options.get("ignore_index", -100))
            teacher = teacher.masked_fill(~counted.unsqueeze(1), math.nan)
        teacher = LAYOUTS[case.teacher_layout](teacher.to(case.teacher_dtype or case.dtype))
        scaled = teacher.double() / case.objective.get("temperature", 1.0)
        if not near_tie(x, reference.probabilities(scaled, activation), activation):
            return LAYOUTS[case.teacher_layout](teacher.to(device))
    raise AssertionError(f"no seed leaves {case.name!r} without a near-tie")


def arguments(case: ObjectiveCase, device: str = "cpu") -> tuple[Tensor | None, ...]:
    """What the module of a case is called with."""
    logits, labels, mask = build(case, device)
    if case.teacher is None:
        return logits, labels, mask
    return logits, None if case.unlabeled else labels, build_teacher(case, device), mask


def module(case: ObjectiveCase, **changed) -> nn.Module:
    family, number = case.overlap[:-1], int(case.overlap[-1])
    return (jml.JaccardCrossEntropyLoss if case.teacher is None else jml.JaccardDistillationLoss)(
        **{"variant" if family == "metric" else "norm": number},
        **{name: class_weights(case, name) for name in case.weights},
        **{**case.options, **case.objective, **changed},
    )


# ---- cross-entropy and an overlap, eq. 14 --------------------------------------------------------


def _of(case: Case, **more) -> ObjectiveCase:
    fields = {f.name: getattr(case, f.name) for f in dataclasses.fields(Case)}
    return ObjectiveCase(**fields, **more)


_SIGMOID = {"activation": "sigmoid"}
_NONE = {"activation": "none"}
_LS = {"label_smoothing": 0.1}
_BLS = {"label_smoothing": 0.2, "boundary_size": 3}
_TILES = (1, 11, 43, 59)
_WEIGHTS = ("class_weights", "ce_class_weights")

MODES = ("all", "present", "label", "prob", "both")

#: What changes a loss beyond its target, each with its reason.
LOSS_OPTIONS = {
    "image": {"aggregation": "image"},
    "class": {"aggregation": "class"},
    "mixture": {"aggregation": {"dataset": 0.2, "image": 0.5, "class": 0.3}},
    "dice": {"alpha": 0.5, "beta": 0.5},
    "tversky": {"alpha": 0.3, "beta": 0.7, "gamma": 1.5},
    "smooth": {"smooth": 0.5},
    "log": {"log_loss": True, "smooth": 0.1},
    "threshold": {"active_classes": "both", "active_threshold": 1.2},
}

#: Every case of an overlap loss, the overlaps in turn. Two are left out: PyTorch's binary
#: cross-entropy of an infinite logit is NaN.
FAMILY_CASES = [
    _of(case, overlap=list(OVERLAPS)[i % len(OVERLAPS)])
    for i, case in enumerate(FINITE_CASES)
    if case.values != "+-inf"
]

CROSS_ENTROPY_CASES = [
    *[
        ObjectiveCase(f"ce_weight {weight:g}", "at its ends only one of the two is left",
                      objective={"ce_weight": weight})
        for weight in (0.0, 0.6, 1.0)
    ],
    *[
        ObjectiveCase(f"{overlap}, soft", "any overlap beside the cross-entropy", target="soft",
                      overlap=overlap)
        for overlap in OVERLAPS
    ],
    *[
        ObjectiveCase(f"active {mode}", "cross-entropy knows no active classes",
                      target="soft", options={"active_classes": mode})
        for mode in MODES
    ],
    *[
        ObjectiveCase(f"loss {name}", "options of the overlap", ignored=0.1,
                      options={**_LS, **options})
        for name, options in LOSS_OPTIONS.items()
    ],
    *[
        ObjectiveCase(f"weights, {name}", why, weights=weights, **more)
        for name, why, weights, more in [
            ("labels", "PyTorch's mean over the labels' weights", _WEIGHTS[1:], {}),
            ("both", "each weighs its own", _WEIGHTS, {"ignored": 0.1}),
            ("of the overlap", "cross-entropy has none", _WEIGHTS[:1], {}),
            ("smoothed", "as F.cross_entropy: every class's weight, the label's in the mean",
             _WEIGHTS[1:], {"options": _LS, "ignored": 0.2}),
            ("boundary", "only some pixels are smoothed", _WEIGHTS[1:],
             {"options": _BLS, "drawn": "blocks", "ignored": 0.02, "masked": 0.1}),
            ("soft", "the mean is over pixels", _WEIGHTS[1:], {"target": "soft", "masked": 0.2}),
            ("tiles", "weights of many pixels", _WEIGHTS[1:],
             {"shape": _TILES, "options": _LS, "layout": "channels_last", "ignored": 0.1}),
            ("soft, tiles", "the same of probabilities", _WEIGHTS[1:],
             {"shape": _TILES, "target": "soft"}),
            ("float64", "in float64", _WEIGHTS, {"dtype": torch.float64, "options": _LS}),
            ("halves", "in float16", _WEIGHTS, {"dtype": torch.float16, "options": _LS}),
            ("uint8", "the weight of a label in another dtype", _WEIGHTS[1:],
             {"target_dtype": torch.uint8, "target_layout": "stepped"}),
            ("sigmoid, labels", "the mean is over elements", _WEIGHTS[1:], {"options": _SIGMOID}),
            ("sigmoid, bits", "those that count", _WEIGHTS[1:],
             {"target": "bits", "ignored": 0.2, "options": {**_SIGMOID, **_LS}}),
            ("sigmoid, soft", "and of probabilities", _WEIGHTS[1:],
             {"target": "soft", "masked": 0.2, "options": _SIGMOID}),
            ("binary", "one class with a weight", _WEIGHTS[1:],
             {"shape": (2, 1, 6, 7), "options": _SIGMOID}),
            ("none, labels", "of probabilities", _WEIGHTS[1:],
             {"values": "probabilities", "options": {**_NONE, **_LS}}),
            ("0-D", "classification", _WEIGHTS[1:], {"shape": (7, 5), "options": _LS}),
            ("bad labels, masked", "a masked pixel's label has no weight", _WEIGHTS[1:],
             {"masked": 0.2, "values": "bad labels under the mask"}),
        ]
    ],
]  # fmt: skip

# ---- distillation, eq. 15 to 17 ------------------------------------------------------------------


def _kd(name: str, why: str, *shape: tuple[int, ...], **more) -> ObjectiveCase:
    return ObjectiveCase(name, why, *shape, **{"teacher": "normal", **more})


DISTILLATION_CASES = [
    *[
        _kd(name, why, shape, ignored=0.1)
        for name, why, shape in [
            ("1 class", "both softmaxes are 1", (2, 1, 5, 7)),
            ("2 classes", "the smallest softmax", (2, 2, 5, 7)),
            ("19 classes", "Cityscapes", (1, 19, 17, 16)),
            ("150 classes, tiles", "smaller tiles, since two are held", (1, 150, 23, 25)),
            ("1000 classes", "the most that is promised", (1, 1000, 3, 5)),
            ("1000 classes, tiles", "more than one of the smallest tiles", (1, 1000, 131)),
            ("0-D", "classification", (7, 5)),
            ("1-D", "sequences", (2, 5, 41)),
            ("3-D", "volumes", (2, 4, 3, 5, 4)),
            ("1 pixel", "nothing to vectorise", (1, 5, 1, 1)),
            ("0 images", "an empty batch", (0, 5, 4, 4)),
            ("0 pixels", "an empty crop", (2, 5, 0, 4)),
            ("primes", "no size divides a tile or a vector", (3, 7, 13, 11)),
            ("several tiles", "sums go on from tile to tile", (2, 5, 43, 59)),
            ("several tiles, 3-D", "a tile ends inside a plane", (1, 3, 7, 19, 23)),
            ("many images", "images are shared out among threads", (37, 3, 5)),
        ]
    ],
    *[
        _kd(f"pixels {n}", "one less, exactly and one more than tiles and vectors", (1, 3, n))
        for n in (15, 16, 17, 255, 256, 257, 511, 512, 513, 1024)
    ],
    *[
        _kd(f"teacher {str(teacher)[6:]} of {str(dtype)[6:]}", "a teacher has its own dtype",
            dtype=dtype, teacher_dtype=teacher, ignored=0.1)
        for dtype in FLOAT_DTYPES
        for teacher in FLOAT_DTYPES
    ],
    *[
        _kd(f"teacher {str(dtype)[6:]}, tiles", "conversion of whole rows", _TILES,
            dtype=torch.float32, teacher_dtype=dtype)
        for dtype in FLOAT_DTYPES
    ],
    *[
        _kd(f"student {str(dtype)[6:]} channels_last, tiles", "the same transposed", _TILES,
            dtype=dtype, layout="channels_last", teacher_layout="channels_last")
        for dtype in FLOAT_DTYPES
    ],
    *[
        _kd(f"teacher {layout}", "a teacher is read as it lies", teacher_layout=layout)
        for layout in LAYOUTS if layout != "contiguous"
    ],
    *[
        _kd(f"student {layout}", "and a student beside it", layout=layout)
        for layout in LAYOUTS if layout != "contiguous"
    ],
    *[
        _kd(f"{layout} and {teacher}, tiles", "each in its own layout", _TILES,
            layout=layout, teacher_layout=teacher, ignored=0.1)
        for layout, teacher in [
            ("contiguous", "channels_last"),
            ("channels_last", "contiguous"),
            ("cropped", "stepped"),
            ("transposed", "cropped channels_last"),
        ]
    ],
    _kd("labels uint8, reversed", "three inputs in three layouts", layout="channels_last",
        teacher_layout="stepped", target_dtype=torch.uint8, target_layout="reversed"),
    _kd("labels int32, mask stepped", "and a mask in a fourth", target_dtype=torch.int32,
        masked=0.3, mask_layout="stepped"),
    *[
        _kd(f"{overlap}", "any overlap, of both terms", overlap=overlap, ignored=0.1)
        for overlap in OVERLAPS
    ],
    *[
        _kd(f"active {labels} and {teacher}", "classes are chosen term by term",
            options={"active_classes": labels},
            objective={"teacher_active_classes": teacher, "temperature": 0.5}, shape=(2, 19, 5, 6))
        for labels in MODES for teacher in (*MODES, None)
    ],
    *[
        _kd(f"loss {name}", "options of both overlaps", ignored=0.1, options=options)
        for name, options in LOSS_OPTIONS.items()
    ],
    *[
        _kd(f"weights {', '.join(f'{value:g}' for value in values)}",
            "each of lambda, mu and nu at its ends takes terms out",
            objective=dict(zip(("ce_weight", "ce_label_weight", "jaccard_label_weight"), values,
                               strict=True)))
        for values in [
            (0, 0.5, 0.5), (1, 0.5, 0.5), (0.25, 0, 0.5), (0.25, 1, 0.5), (0.25, 0.5, 0),
            (0.25, 0.5, 1), (0.25, 0, 0), (0.25, 1, 1), (0.6, 0.3, 0.8), (1, 0, 1), (0, 1, 0),
            (0.5, 1, 0), (0.5, 0, 1),
        ]
    ],
    *[
        _kd(f"temperatures {teacher:g} and {student:g}, {divergence}",
            "the student's only changes the cross-entropy, by its square too",
            objective={"temperature": teacher, "student_temperature": student,
                       "distillation": divergence}, **more)
        for divergence in ("ce", "kl")
        for teacher, student, more in [
            (4.0, 1.0, {}), (1.0, 4.0, {}), (3.0, 3.0, {"dtype": torch.float16}), (0.5, 0.7, {}),
            (2.0, 2.0, {"shape": _TILES, "ignored": 0.1}),
            (2.0, 3.0, {"options": _SIGMOID, "ignored": 0.1}),
        ]
    ],
    _kd("kl, masked", "the entropy of pixels that count", masked=0.3,
        objective={"distillation": "kl"}),
    _kd("smoothing", "of the labels, not of the teacher", options=_LS, ignored=0.1),
    _kd("boundary", "smoothing where labels meet", options=_BLS, drawn="blocks"),
    _kd("boundary, ignored and masked", "windows with pixels that do not count", options=_BLS,
        drawn="blocks", ignored=0.05, masked=0.2),
    _kd("boundary, tiles", "windows reach over the tile's edge", (1, 4, 43, 59), options=_BLS,
        drawn="blocks", ignored=0.01),
    _kd("boundary, tiles, channels_last", "the same transposed", (1, 4, 43, 59), options=_BLS,
        drawn="blocks", layout="channels_last", teacher_layout="channels_last"),
    _kd("boundary, 3-D", "windows of volumes", (2, 4, 5, 6, 7), options=_BLS, drawn="blocks"),
    _kd("mask and ignored", "either takes a pixel out of both terms", masked=0.3, ignored=0.3),
    _kd("ignored 255", "the usual encoding", ignored=0.3, target_dtype=torch.uint8,
        options={"ignore_index": 255}),
    _kd("all ignored", "nothing counts: 0/0", ignored=1.0),
    _kd("mask of nothing", "0/0", masked=1.0),
    _kd("bad labels, masked", "a masked pixel may hold any label", masked=0.2,
        values="bad labels under the mask"),
    _kd("unlabeled", "the teacher alone", unlabeled=True),
    _kd("unlabeled, masked", "a mask takes out its pixels", unlabeled=True, masked=0.3),
    _kd("unlabeled, tiles", "sums go on from tile to tile", _TILES, unlabeled=True,
        teacher_dtype=torch.bfloat16),
    _kd("unlabeled, kl", "the divergence alone", unlabeled=True, weights=_WEIGHTS,
        objective={"ce_weight": 0.5, "distillation": "kl", "student_temperature": 2.0}),
    _kd("unlabeled, 0 pixels", "nothing counts", (2, 5, 0, 4), unlabeled=True),
    _kd("unlabeled, mask of nothing", "nothing counts", unlabeled=True, masked=1.0),
    _kd("class weights", "both terms of the overlap, one of the cross-entropy", weights=_WEIGHTS,
        ignored=0.1, options=_LS),
    _kd("ce_class_weights", "the teacher's cross-entropy has none", weights=_WEIGHTS[1:]),
    _kd("ce_class_weights, tiles", "the same in many tiles", _TILES, weights=_WEIGHTS[1:]),
    _kd("sigmoid, labels", "one-vs-rest", options=_SIGMOID, ignored=0.1),
    _kd("sigmoid, unlabeled", "several classes at once", options=_SIGMOID, unlabeled=True),
    _kd("sigmoid, weights", "the mean is over elements", options=_SIGMOID, weights=_WEIGHTS),
    _kd("sigmoid, tiles", "in many tiles", _TILES, options={**_SIGMOID, **_LS}, masked=0.1),
    _kd("binary", "one logit", (2, 1, 6, 7), options={**_SIGMOID, **_LS}, ignored=0.1),
    _kd("binary, labels with a channel", "labels as the logits", (2, 1, 6, 7), target="labels1",
        options=_SIGMOID),
    _kd("binary, kl, 0-D", "one logit an image", (7, 1), options=_SIGMOID,
        objective={"distillation": "kl"}),
    _kd("teacher -inf", "classes that a teacher rules out: finite", teacher="-inf"),
    _kd("teacher -inf, kl", "0 log 0 = 0", teacher="-inf", objective={"distillation": "kl"}),
    _kd("teacher -inf, tiles", "the same in whole vectors", _TILES, teacher="-inf"),
    _kd("teacher -inf, sigmoid", "a probability of 0", teacher="-inf", options=_SIGMOID,
        objective={"distillation": "kl"}),
    _kd("teacher far from 0", "exp overflows unless the maximum is taken off", teacher="far"),
    _kd("both far from 0", "of the student too", teacher="far", values="far", dtype=torch.float64),
    _kd("spread", "probabilities over 30 decades", (2, 19, 13, 11), values="spread"),
    _kd("nan teacher, ignored", "a pixel that counts nowhere may hold anything", _TILES,
        teacher="nan where not counted", ignored=0.2),
    _kd("nan teacher, masked", "the same by the mask", teacher="nan where not counted",
        masked=0.2, ignored=0.1),
    _kd("nan teacher, unlabeled", "the same of a teacher alone", teacher="nan where not counted",
        masked=0.2, unlabeled=True, objective={"distillation": "kl"}),
    _kd("nan teacher, sigmoid", "of independent classes", teacher="nan where not counted",
        masked=0.2, ignored=0.1, options=_SIGMOID),
    _kd("nan student", "of the student", values="nan where ignored", ignored=0.2),
    _kd("nan student, channels_last", "transposed", _TILES, values="nan where ignored", masked=0.2,
        layout="channels_last", teacher_layout="channels_last"),
]  # fmt: skip

# ---- for gradcheck: float64 and small ------------------------------------------------------------

_SMALL = {"shape": (2, 3, 3, 2), "dtype": torch.float64}

GRADIENT_CASES = [
    *[
        ObjectiveCase(name, why, **{**_SMALL, **more})
        for name, why, more in [
            ("labels", "hard labels", {}),
            ("soft", "probabilities", {"target": "soft"}),
            ("smoothed, weights", "weights of all classes", {"options": _LS, "weights": _WEIGHTS}),
            ("soft, weights", "and of probabilities", {"target": "soft", "weights": _WEIGHTS}),
            ("boundary", "and where labels meet", {"options": _BLS, "weights": _WEIGHTS[1:]}),
            ("ignored", "pixels taken out", {"ignored": 0.3, "masked": 0.2}),
            ("log, image", "another formula", {"options": {"log_loss": True, "smooth": 0.1,
                                                           "aggregation": "image"}}),
            ("sigmoid, bits", "independent classes", {"target": "bits", "ignored": 0.2,
                                                      "options": _SIGMOID}),
            ("binary", "one class", {"shape": (2, 1, 3, 2), "options": _SIGMOID}),
            ("none", "probabilities", {"values": "probabilities", "options": _NONE}),
            ("none, binary", "one probability", {"shape": (2, 1, 3, 2), "values": "probabilities",
                                                 "options": _NONE}),
            ("all ignored", "gradient 0", {"ignored": 1.0}),
        ]
    ],
    *[
        _kd(f"teacher, {name}", why, **{**_SMALL, **more})
        for name, why, more in [
            ("labels", "four terms", {}),
            ("channels_last", "transposed", {"layout": "channels_last",
                                             "teacher_layout": "channels_last"}),
            ("unlabeled", "two terms", {"unlabeled": True}),
            ("temperatures", "a scale and its square",
             {"objective": {"temperature": 2.0, "student_temperature": 3.0}}),
            ("kl", "less the entropy", {"objective": {"distillation": "kl", "temperature": 2.0}}),
            ("weights", "of the terms", {"weights": _WEIGHTS, "objective": {
                "ce_weight": 0.4, "ce_label_weight": 0.2, "jaccard_label_weight": 0.7}}),
            ("boundary, ignored", "labels smoothed", {"options": _BLS, "ignored": 0.1,
                                                      "masked": 0.1}),
            ("soft2, class", "another formula", {"overlap": "soft2",
                                                 "options": {"aggregation": "class"}}),
            ("soft1, gamma", "another power", {"overlap": "soft1", "options": {"gamma": 2.0}}),
            ("metric2", "the other variant", {"overlap": "metric2"}),
            ("sigmoid", "independent classes", {"options": _SIGMOID, "ignored": 0.1}),
            ("binary", "one class", {"shape": (2, 1, 3, 2), "options": _SIGMOID}),
            ("-inf", "a class ruled out", {"teacher": "-inf"}),
        ]
    ],
]  # fmt: skip
