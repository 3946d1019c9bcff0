"""Cases for finite differences: in float64 and small, and what changes a gradient one thing at a
time."""

from __future__ import annotations

import torch

from .case import BLS, LS, NONE, SIGMOID, WEIGHTS, LossCase
from .losses import FAMILY
from .options import MODES
from .upsampling import upsampled


def _small(name: str, why: str, **more: object) -> LossCase:
    given = {"shape": (2, 3, 3, 2), "dtype": torch.float64, "interpreted": False, **more}
    return LossCase(name, why, **given)


def _small_upsampled(name: str, why: str, *sizes: object, **more: object) -> LossCase:
    return upsampled(name, why, *sizes, dtype=torch.float64, **more)


# ---- inputs of every overlap ---------------------------------------------------------------------

_TARGETS = [
    _small("labels", "each kind of target"),
    _small("labels, channels_last", "each kind of target in both memory formats",
           layout="channels_last", checked=True),
    _small("soft", "each kind of target", target="soft", loss="sums", checked=True),
    _small("soft, channels_last", "each kind of target in both memory formats", target="soft",
           layout="channels_last"),
    _small("bits", "each kind of target", target="bits", options=SIGMOID),
    _small("bits, channels_last", "each kind of target in both memory formats", target="bits",
           layout="channels_last", options=SIGMOID),
    *[
        _small(f"layout {layout}", "the gradient has the layout's strides", layout=layout)
        for layout in ("stepped", "transposed", "classes first", "reversed", "one image",
                       "one pixel")
    ],
    _small("layout cropped", "the gradient has the layout's strides", layout="cropped",
           checked=True),
    *[
        _small(f"{len(shape) - 2}-D", "spatial dimensions", shape=shape, checked=len(shape) != 3)
        for shape in [(4, 3), (2, 3, 5), (1, 3, 2, 3, 2)]
    ],
    _small("3-D, boundary", "volumes have windows too", shape=(1, 3, 2, 3, 2), options=BLS,
           checked=True),
    _small("mask", "pixels are taken out", masked=0.3, checked=True),
    _small("mask, ignored", "mask and ignore_index both take pixels out", masked=0.2, ignored=0.2,
           checked=True, quick=True),
    _small("bits, ignored", "single elements are taken out", target="bits", ignored=0.2,
           options=SIGMOID, checked=True, quick=True),
    _small("all ignored", "the gradient is 0", ignored=1.0, checked=True),
    _small("a class absent", "no gradient through an inactive class but by the softmax",
           drawn="no class 1"),
    _small("sigmoid, labels", "labels stand for one class against the rest", options=SIGMOID),
    _small("sigmoid, soft", "each class has a probability of its own", target="soft",
           options=SIGMOID, checked=True),
    _small("binary", "there is one class", shape=(2, 1, 3, 2), options=SIGMOID, checked=True),
    _small("none, labels", "there is no activation", options=NONE, checked=True),
    _small("none, soft", "there is no activation", target="soft", options=NONE, checked=True),
]  # fmt: skip

_OPTIONS = [
    _small("smoothing", "every label is smoothed", options=LS, checked=True),
    _small("boundary", "labels are smoothed where they meet", options=BLS, loss="sums",
           checked=True, quick=True),
    *[
        _small(name, "an option of the formula", options=options, checked=checked)
        for name, options, checked in [
            ("tversky", {"alpha": 0.3, "beta": 0.7}, False),
            ("alpha 0, beta 1", {"alpha": 0.0, "beta": 1.0}, True),
            ("gamma 2", {"gamma": 2.0}, False),
            ("gamma 0.5", {"gamma": 0.5}, True),
            ("smooth", {"smooth": 1.0}, True),
            ("log", {"log_loss": True}, False),
            ("log, smooth", {"log_loss": True, "smooth": 0.5, "alpha": 0.5, "beta": 0.5}, True),
            ("image", {"aggregation": "image"}, False),
            ("class", {"aggregation": "class"}, False),
            ("mixture", {"aggregation": {"dataset": 0.2, "image": 0.5, "class": 0.3}}, True),
            ("none reduced", {"reduction": "none"}, False),
            ("none reduced, image", {"reduction": "none", "aggregation": "image"}, True),
            ("ignored 0", {"ignore_index": 0}, False),
        ]
    ],
    *[
        _small(f"active {mode}, {target}", "the mode says which classes count", target=target,
               options={"active_classes": mode}, checked=target == "soft")
        for mode in MODES if mode != "label"
        for target in ("labels", "soft")
    ],
    _small("active both, threshold", "some classes miss the threshold",
           options={"active_classes": "both", "active_threshold": 1.2}),
]  # fmt: skip

_UPSAMPLED = [
    _small_upsampled("small", "a logit has a share of many pixels", (2, 3, 2, 2), (3, 5),
                     checked=True, quick=True),
    _small_upsampled("small", "a logit has a share of many pixels", (1, 3, 2, 3), (5, 6), True,
                     layout="channels_last", options=BLS, drawn="blocks", checked=True),
    _small_upsampled("1 x 1", "a logit has the whole of all pixels", (2, 3, 1, 1), (2, 3)),
    _small_upsampled("ratio 1", "a logit has a pixel of its own", (2, 3, 3, 2), (3, 2)),
    _small_upsampled("1-D, soft", "probabilities have the full size", (2, 3, 3), (7,),
                     target="soft", checked=True),
    _small_upsampled("1-D, masked", "pixels are taken out at full size", (2, 3, 3), (7,), True,
                     masked=0.3, ignored=0.2),
    _small_upsampled("3-D, sigmoid", "classes are independent", (1, 2, 2, 1, 2), (3, 2, 3),
                     options=SIGMOID, checked=True),
    _small_upsampled("none, soft", "probabilities are interpolated", (1, 3, 2, 2), (3, 4),
                     target="soft", options=NONE, layout="transposed"),
]  # fmt: skip

GRADIENT_INPUTS = [*_TARGETS, *_OPTIONS, *_UPSAMPLED]

# ---- objectives ----------------------------------------------------------------------------------

_CE = [
    _small(f"cross-entropy, {name}", why, loss="cross-entropy", **more)
    for name, why, more in [
        ("labels", "labels are hard", {}),
        ("soft", "targets are probabilities", {"target": "soft"}),
        ("smoothed, weights", "smoothed labels have the weights of all classes",
         {"options": LS, "weights": WEIGHTS, "checked": True, "quick": True}),
        ("soft, weights", "probabilities have weights too",
         {"target": "soft", "weights": WEIGHTS, "checked": True}),
        ("boundary", "weights where labels meet", {"options": BLS, "weights": WEIGHTS[1:]}),
        ("ignored", "pixels are taken out", {"ignored": 0.3, "masked": 0.2}),
        ("log, image", "the formula is another",
         {"options": {"log_loss": True, "smooth": 0.1, "aggregation": "image"}}),
        ("sigmoid, bits", "classes are independent",
         {"target": "bits", "ignored": 0.2, "options": SIGMOID, "checked": True}),
        ("binary", "there is one class", {"shape": (2, 1, 3, 2), "options": SIGMOID}),
        ("none", "logits are probabilities", {"options": NONE, "checked": True}),
        ("none, binary", "there is one probability", {"shape": (2, 1, 3, 2), "options": NONE}),
        ("all ignored", "the gradient is 0", {"ignored": 1.0}),
    ]
]  # fmt: skip

_KD = [
    _small(f"distillation, {name}", why, loss="distillation", **more)
    for name, why, more in [
        ("labels", "there are four terms", {"checked": True, "quick": True}),
        ("channels_last", "student and teacher are transposed",
         {"layout": "channels_last", "teacher_layout": "channels_last"}),
        ("unlabeled", "there are two terms", {"target": "none", "checked": True}),
        ("temperatures", "temperatures are a scale and its square",
         {"options": {"temperature": 2.0, "student_temperature": 3.0}}),
        ("temperatures, kl", "a divergence is less the entropy",
         {"options": {"distillation": "kl", "temperature": 2.0, "student_temperature": 3.0},
          "checked": True}),
        ("weights", "each term has a weight",
         {"weights": WEIGHTS, "options": {"ce_weight": 0.4, "ce_label_weight": 0.2,
                                          "jaccard_label_weight": 0.7}}),
        ("boundary, ignored", "labels are smoothed",
         {"options": BLS, "ignored": 0.1, "masked": 0.1, "weights": WEIGHTS, "checked": True}),
        ("soft2, class", "the formula is another",
         {"options": {"norm": 2, "aggregation": "class"}}),
        ("soft1, gamma", "the power is another", {"options": {"norm": 1, "gamma": 2.0}}),
        ("metric2", "the variant is the other one", {"options": {"variant": 2}}),
        ("sigmoid", "classes are independent",
         {"options": SIGMOID, "ignored": 0.1, "checked": True}),
        ("binary", "there is one class", {"shape": (2, 1, 3, 2), "options": SIGMOID}),
        ("-inf", "a class is ruled out", {"teacher": "-inf"}),
    ]
] + [
    _small_upsampled(f"distillation, {name}", why, shape, full_size, loss="distillation", **more)
    for name, why, shape, full_size, more in [
        ("labels", "student and teacher have sizes of their own", (1, 3, 2, 2), (4, 5),
         {"teacher_size": (3, 2), "checked": True,
          "options": {"temperature": 2.0, "student_temperature": 3.0}}),
        ("unlabeled", "the full size is the teacher's", (1, 3, 2, 2), (3, 4),
         {"teacher_size": (3, 4), "target": "none"}),
    ]
]  # fmt: skip

GRADIENT_OBJECTIVES = [*_CE, *_KD]

# ---- every loss, and what an interpreter can do --------------------------------------------------

GRADIENT_FAMILY = [
    *[
        _small(f"{loss}, {target}", "every loss", loss=loss, target=target, checked=True,
               quick=target == "soft")
        for loss in (*FAMILY, "sums") if loss not in ("statistics", "cross-entropy", "distillation")
        for target in ("labels", "soft")
    ],
    _small("sums, masked", "each sum is differentiated by itself", loss="sums", target="soft",
           masked=0.2, checked=True),
    _small("class_weights", "one of the weights is 0", weights=WEIGHTS[:1], checked=True),
    _small("JDT, options", "it has all of its options at once", loss="JDT", target="soft",
           checked=True,
           options={"mIoUD": 0.5, "mIoUI": 0.3, "mIoUC": 0.2, "gamma": 1.5, "norm": 2}),
]  # fmt: skip

#: Two evaluations for each of few elements; some are left to `make test-slow` all the same.
GRADIENTS_OF_2_PIXELS = [
    _small(f"2 pixels, {name}", why, **{"shape": (1, 3, 2), "checked": True, **more},
           interpreted=True)
    for name, why, more in [
        ("sums, boundary", "each sum is differentiated by itself, of labels",
         {"loss": "sums", "options": BLS}),
        ("sums, soft", "each sum is differentiated by itself, of probabilities",
         {"loss": "sums", "target": "soft", "layout": "channels_last"}),
        ("JML1, soft", "the formula's gradient", {"target": "soft", "quick": True}),
        ("JML1, smoothing", "labels are smoothed", {"options": LS, "slow": True}),
        ("soft Jaccard L2, labels", "the sums are of squares", {"loss": "soft Jaccard L2"}),
        ("aggregations", "means are over images and classes",
         {"shape": (2, 3, 2), "options": {"aggregation": {"image": 0.5, "class": 0.3}},
          "slow": True}),
        ("cross-entropy, weights", "labels have weights",
         {"loss": "cross-entropy", "options": LS, "weights": WEIGHTS, "slow": True}),
        ("multi-label", "classes are independent", {"target": "bits", "options": SIGMOID}),
        ("distillation", "temperatures are a scale and its square",
         {"loss": "distillation", "options": {"temperature": 2.0, "student_temperature": 3.0}}),
        ("distillation, sigmoid", "a teacher's classes are independent",
         {"loss": "distillation", "options": SIGMOID, "ignored": 0.1, "slow": True}),
        ("distillation, binary", "there is one class",
         {"loss": "distillation", "shape": (2, 1, 3), "options": SIGMOID, "slow": True}),
        ("distillation, -inf", "a class is ruled out",
         {"loss": "distillation", "teacher": "-inf", "slow": True}),
    ]
]  # fmt: skip

GRADIENTS = [
    *GRADIENT_INPUTS, *GRADIENT_OBJECTIVES, *GRADIENT_FAMILY, *GRADIENTS_OF_2_PIXELS,
]  # fmt: skip
