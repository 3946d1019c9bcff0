"""Logits of lower resolution than their target, which the loss interpolates."""

from __future__ import annotations

import torch

from ...checks import UPSAMPLINGS
from .case import BLS, LS, NONE, SIGMOID, WEIGHTS, LossCase
from .dtypes import FLOAT_DTYPES, name_of


def upsampled(
    name: str,
    why: str,
    shape: tuple[int, ...],
    full_size: tuple[int, ...],
    align_corners: bool = False,
    **more: object,
) -> LossCase:
    """A case with the mode that its number of spatial dimensions asks for."""
    options = {"upsample": UPSAMPLINGS[len(full_size) - 1], **more.pop("options", {})}
    if align_corners:
        name, options = f"{name}, align_corners", {**options, "align_corners": True}
    given = {"interpreted": False, **more, "options": options}
    return LossCase(f"upsample, {name}", why, shape, full_size=full_size, **given)


#: Four times as large, and not a multiple.
_LOW, _FULL = (2, 5, 5, 6), (20, 24)
_UNEVEN = (17, 23)

_SIZES = [
    upsampled(name, why, shape, full_size, align_corners, **more)
    for name, why, shape, full_size, more in [
        ("ratio 4", "most heads give a quarter of the labels' size", _LOW, _FULL,
         {"checked": True, "quick": True, "loss": "cross-entropy"}),
        ("ratio 8", "the others give an eighth", (1, 5, 3, 4), (24, 32), {}),
        ("no integer ratio", "the number of pixels between two corners varies", _LOW, _UNEVEN,
         {"checked": True}),
        ("513 from 129", "crops of 513 and heads of 129: 3.98", (1, 3, 129, 2), (513, 5), {}),
        ("769 from 97", "crops of 769 and heads of 97: 7.93", (1, 3, 2, 97), (5, 769), {}),
        ("ratio 1", "nothing is to be interpolated", _LOW, _LOW[2:], {}),
        ("ratio 1 of rows", "one dimension alone is interpolated", _LOW, (5, 24), {}),
        ("a little larger", "some pixels have corners of their own", _LOW, (6, 7), {}),
        ("1 x 1", "every pixel has the same corner", (2, 5, 1, 1), (9, 13), {}),
        ("1 row", "a dimension has one corner", (2, 5, 1, 6), (7, 24), {}),
        ("ratio 64", "there are many pixels between two corners", (1, 3, 2, 3), (128, 192), {}),
        ("several tiles", "sums go on from tile to tile", (1, 7, 19, 23), (76, 92),
         {"checked": True}),
        ("19 classes", "Cityscapes has as many", (1, 19, 9, 11), (33, 44), {}),
        ("150 classes", "ADE20K has as many", (1, 150, 4, 5), (16, 20), {"checked": True}),
        ("1-D", "sequences have one spatial dimension", (2, 5, 11), (41,), {"checked": True}),
        ("1-D, ratio 4", "sequences have one spatial dimension", (2, 5, 18), (72,), {}),
        ("3-D", "volumes have three spatial dimensions", (1, 4, 3, 2, 4), (5, 6, 9),
         {"checked": True, "quick": True}),
        ("3-D, ratio 2", "volumes have three spatial dimensions", (1, 4, 3, 4, 5), (6, 8, 10), {}),
        ("few pixels", "an interpreter takes long for each", (1, 3, 2, 3), (5, 8),
         {"loss": "cross-entropy", "checked": True, "interpreted": True}),
        ("few voxels", "an interpreter takes long for each", (1, 2, 2, 1, 2), (3, 2, 3),
         {"interpreted": True}),
        ("0 images", "a batch may be empty", (0, 5, 4, 4), (16, 16), {}),
        ("0 pixels", "a crop may be empty", (2, 5, 0, 4), (0, 16), {}),
    ]
    for align_corners in (False, True)
]  # fmt: skip

_INPUTS = [
    *[
        upsampled(f"{name_of(dtype)} {layout}", "logits are read as they lie, in their own dtype",
                  _LOW, _FULL, dtype=dtype, layout=layout,
                  checked=layout == "contiguous" or dtype == torch.float16)
        for dtype in FLOAT_DTYPES
        for layout in ("contiguous", "channels_last", "cropped", "transposed", "one image")
        if (dtype, layout) != (torch.float32, "contiguous")
    ],
    *[
        upsampled(name, why, _LOW, size, **more)
        for name, why, size, more in [
            ("smoothing", "every label is smoothed", _FULL, {"options": LS}),
            ("boundary", "windows are of labels at full size", _FULL,
             {"options": BLS, "drawn": "blocks", "ignored": 0.02, "checked": True, "quick": True}),
            ("boundary, uneven", "windows are of labels at full size", _UNEVEN,
             {"options": BLS, "drawn": "blocks", "masked": 0.1, "dtype": torch.float16,
              "layout": "channels_last"}),
            ("ignored", "pixels are taken out at full size", _FULL, {"ignored": 0.3}),
            ("masked, ignored", "mask and labels have the full size", _UNEVEN,
             {"masked": 0.3, "ignored": 0.2, "mask_layout": "stepped", "checked": True}),
            ("all ignored", "nothing counts: loss and gradient are 0", _FULL, {"ignored": 1.0}),
            ("labels uint8 stepped", "labels are read as they lie", _FULL,
             {"target_dtype": torch.uint8, "target_layout": "stepped"}),
            ("soft", "probabilities have the full size", _FULL,
             {"target": "soft", "checked": True}),
            ("soft float16 channels_last", "probabilities lie as they do", _UNEVEN,
             {"target": "soft", "target_dtype": torch.float16, "target_layout": "channels_last",
              "masked": 0.2}),
            ("sigmoid, labels", "labels stand for one class against the rest", _FULL,
             {"options": SIGMOID}),
            ("sigmoid, bits", "classes are independent", _UNEVEN,
             {"target": "bits", "ignored": 0.2, "options": {**SIGMOID, **LS}, "checked": True}),
            ("none, labels", "probabilities are interpolated as they are", _FULL,
             {"options": NONE, "checked": True}),
            ("none, soft", "probabilities against probabilities", _UNEVEN,
             {"target": "soft", "options": NONE}),
            ("active both", "extrema are of interpolated probabilities", _FULL,
             {"target": "soft", "options": {"active_classes": "both", "active_threshold": 1.2,
                                            "aggregation": {"image": 0.5, "class": 0.5}}}),
            ("spread", "corners are up to 80 apart", _FULL,
             {"values": "spread", "loss": "cross-entropy", "checked": True}),
            ("spread, uneven", "corners are up to 80 apart", _UNEVEN, {"values": "spread"}),
            ("saturated", "corners are 200 apart, and probabilities 0 or 1", _FULL,
             {"values": "saturated"}),
            ("saturated, ratio 64", "powers of a step underflow between two corners", (320, 48),
             {"values": "saturated", "loss": "cross-entropy"}),
            ("saturated, float16", "corners are 200 apart", _UNEVEN,
             {"values": "saturated", "dtype": torch.float16}),
            ("far from 0", "logits are near 1000: in float32 interpolation itself rounds them",
             _FULL, {"values": "far", "dtype": torch.float64}),
            ("-inf", "a class is ruled out wherever such a corner has a weight", _FULL,
             {"values": "-inf inside"}),
            ("-inf, soft", "a class is ruled out where the target is not 0", _FULL,
             {"values": "-inf inside", "target": "soft"}),
        ]
    ],
    upsampled("binary", "there is one class", (2, 1, 5, 6), _FULL, options=SIGMOID),
    upsampled("binary, none, soft", "there is one probability", (2, 1, 5, 6), _UNEVEN, True,
              options=NONE, target="soft"),
    upsampled("3-D, boundary", "volumes have windows too", (1, 4, 3, 2, 4), (6, 7, 9),
              options=BLS, drawn="blocks", dtype=torch.bfloat16, layout="channels_last"),
    upsampled("few pixels, soft", "probabilities have the full size", (1, 3, 2, 2), (3, 5),
              target="soft", dtype=torch.float16, layout="channels_last", masked=0.2,
              interpreted=True),
    upsampled("few pixels, bits", "classes are independent", (1, 3, 2, 2), (3, 4), target="bits",
              ignored=0.2, options=SIGMOID, interpreted=True),
    upsampled("few pixels, two patches", "nodes at their seams get their share once",
              (1, 2, 9, 17), (10, 18), True, interpreted=True),
    upsampled("few pixels, chunks", "more classes than a tile of a GPU holds", (1, 300, 1, 2),
              (2, 3), interpreted=True),
    upsampled("large", "there are more tiles than threads", (2, 19, 33, 41), (132, 164),
              options=BLS, drawn="blocks", ignored=0.02, checked=True),
]  # fmt: skip

#: Inputs of every overlap loss.
UPSAMPLED = [*_SIZES, *_INPUTS]


def _kd(name: str, why: str, teacher_size: tuple[int, ...] | None, **more: object) -> LossCase:
    given = {"shape": _LOW, "full_size": _FULL, **more}
    return upsampled(f"distillation, {name}", why, teacher_size=teacher_size, loss="distillation",
                     **given)  # fmt: skip


UPSAMPLED_OBJECTIVES = [
    upsampled("cross-entropy, weights", "a label has its weight at full size", _LOW, _FULL,
              loss="cross-entropy", weights=WEIGHTS, ignored=0.1,
              options={**BLS, "variant": 2}, drawn="blocks", checked=True),
    upsampled("cross-entropy, soft", "a target mass is at full size", _LOW, _UNEVEN, True,
              loss="cross-entropy", weights=WEIGHTS, target="soft", masked=0.2,
              options={"norm": 2}),
    upsampled("cross-entropy, log", "the formula is another", (2, 4, 3, 2, 4), (5, 6, 9),
              loss="cross-entropy",
              options={"log_loss": True, "smooth": 0.1, "aggregation": "image"}),
    _kd("a teacher like the student", "both are interpolated", None, checked=True, quick=True),
    _kd("few pixels", "an interpreter takes long for each", (3, 2), shape=(1, 3, 2, 2),
        full_size=(4, 5), ignored=0.1, options=BLS, drawn="blocks", checked=True,
        interpreted=True),
    _kd("a larger teacher", "both have sizes of their own", (10, 8), ignored=0.1,
        teacher_dtype=torch.float16, checked=True),
    _kd("a smaller teacher", "both have sizes of their own", (3, 2), layout="channels_last",
        teacher_layout="channels_last", options={"temperature": 2.0, "align_corners": True}),
    _kd("a teacher at full size", "one of the two is interpolated", _FULL, masked=0.2),
    _kd("a student at full size", "one of the two is interpolated", (5, 6), shape=(2, 5, 17, 23),
        full_size=_UNEVEN),
    _kd("temperatures", "logits are interpolated before they are divided", (4, 7),
        full_size=_UNEVEN, checked=True,
        options={"temperature": 2.0, "student_temperature": 3.0, "distillation": "kl"}),
    _kd("boundary, weights", "labels are smoothed at full size", (10, 12), drawn="blocks",
        weights=WEIGHTS, ignored=0.05, options={**BLS, "norm": 1}),
    _kd("sigmoid", "classes are independent", (10, 12), options=SIGMOID, ignored=0.1),
    _kd("unlabeled, a larger teacher", "the student is interpolated to its size", (17, 23),
        full_size=(17, 23), target="none", checked=True),
    _kd("unlabeled, a smaller teacher", "the teacher is interpolated to the student's size", (2, 3),
        full_size=(5, 6), target="none", dtype=torch.float64),
    _kd("unlabeled, crosswise", "each dimension has the larger of both sizes", (3, 23),
        full_size=(5, 23), target="none", masked=0.2),
    _kd("1-D", "sequences have one spatial dimension", (7,), shape=(2, 5, 11), full_size=(41,)),
    _kd("3-D", "volumes have three spatial dimensions", (2, 5, 3), shape=(1, 4, 3, 2, 4),
        full_size=(5, 6, 9)),
    _kd("0 images", "a batch may be empty", (3, 3), shape=(0, 5, 4, 4), full_size=(16, 16)),
]  # fmt: skip
