"""Cases of whole steps: repeated, on other numbers of threads, compiled, measured, and watched on
a GPU."""

from __future__ import annotations

import torch

from .case import BLS, LS, SIGMOID, WEIGHTS, LossCase


def _step(name: str, why: str, **more: object) -> LossCase:
    given = {"checked": True, **more}
    if "boundary_size" in given.get("options", {}):
        given = {"drawn": "blocks", **given}
    return LossCase(name, why, **given)


_LARGE = {"shape": (1, 7, 151, 163), "interpreted": False}

#: Every way through the kernels, at a size that has several tiles.
STEPS = [
    _step("step, labels", "the fast way, of an image with more tiles than there are threads",
          ignored=0.1, quick=True, **_LARGE),
    _step("step, labels, channels_last", "the fast way, transposed", layout="channels_last",
          ignored=0.1, **_LARGE),
    _step("step, boundary", "labels have windows", loss="cross-entropy", options=BLS,
          layout="channels_last", **_LARGE),
    _step("step, soft", "two dense inputs, and images that do not divide among two threads",
          shape=(3, 5, 71, 67), target="soft", dtype=torch.float16, target_dtype=torch.float16,
          interpreted=False),
    _step("step, soft float32", "two dense inputs that need no conversion", shape=(3, 5, 71, 67),
          target="soft", checked=False, interpreted=False),
    _step("step, teacher", "there are three inputs", loss="distillation", options=BLS,
          teacher_dtype=torch.bfloat16, quick=True, **_LARGE),
    _step("step, teacher, weights", "three inputs, weights and a divergence", loss="distillation",
          ignored=0.1, weights=WEIGHTS, options={"distillation": "kl"}, **_LARGE),
    _step("step, all columns", "every sum is asked for", loss="statistics", shape=(1, 19, 43, 59),
          target="soft", dtype=torch.float64, target_dtype=torch.float64, interpreted=False),
    _step("step, many images", "images are shared out among threads", shape=(90, 3, 257),
          interpreted=False),
    _step("step, labels, small", "few enough pixels for an interpreter", shape=(1, 7, 21, 33),
          ignored=0.1),
    _step("step, upsample", "cells of low resolution are shared out among threads",
          shape=(1, 7, 38, 41), full_size=(151, 163), ignored=0.1, interpreted=False,
          options={"upsample": "bilinear"}),
    _step("step, upsample, teacher", "two inputs are interpolated", loss="distillation",
          shape=(1, 7, 38, 41), full_size=(152, 164), teacher_size=(19, 50), interpreted=False,
          options={**BLS, "upsample": "bilinear", "align_corners": True}, quick=True),
    _step("step, teacher, small", "few enough pixels for an interpreter", loss="distillation",
          shape=(1, 5, 5, 4), options=BLS, quick=True),
]  # fmt: skip

COMPILED = [
    _step("compiled, cross-entropy, boundary", "labels come with every kind of option",
          loss="cross-entropy", options={**BLS, "aggregation": "image"}, weights=WEIGHTS,
          quick=True, interpreted=False),
    _step("compiled, JML, soft, masked", "probabilities come with a mask", target="soft",
          masked=0.2, layout="channels_last", dtype=torch.float16, target_dtype=torch.float16),
    _step("compiled, distillation", "labels come with a teacher", loss="distillation", ignored=0.1,
          options={"temperature": 2.0}),
    _step("compiled, upsample", "labels have another size than logits", loss="cross-entropy",
          full_size=(13, 28), options={**BLS, "upsample": "bilinear"}, interpreted=False),
    _step("compiled, multi-label", "classes are independent", target="bits", options=SIGMOID,
          interpreted=False),
    _step("compiled, JDT", "the loss of the paper's authors", loss="JDT", interpreted=False),
]  # fmt: skip

MEMORY = [
    _step(f"memory, {name}", why, **{"shape": (2, 19, 192, 256), **more})
    for name, why, more in [
        ("labels", "the fast way", {"quick": True}),
        ("boundary", "labels have windows", {"options": {**LS, "boundary_size": 5}}),
        ("soft", "there are two dense inputs", {"target": "soft", "masked": 0.1}),
        ("float16 channels_last", "no copy in float32 or in another layout",
         {"dtype": torch.float16, "layout": "channels_last", "target": "soft",
          "target_dtype": torch.float16, "target_layout": "contiguous", "quick": True}),
        ("cropped", "no copy that is contiguous",
         {"layout": "cropped", "target_layout": "cropped", "target_dtype": torch.int32}),
        ("multi-label", "integers of every class are not copied",
         {"target": "bits", "target_dtype": torch.uint8, "options": SIGMOID}),
        ("cross-entropy", "weights are not spread over pixels",
         {"loss": "cross-entropy", "weights": WEIGHTS}),
        ("distillation", "the teacher's softmax is never written",
         {"loss": "distillation", "teacher_dtype": torch.float16, "options": BLS, "quick": True}),
        ("all columns", "every sum is asked for",
         {"target": "soft", "options": {"aggregation": "image", "active_classes": "both"}}),
        ("150 classes", "ADE20K has as many classes", {"shape": (1, 150, 96, 128)}),
    ]
]  # fmt: skip

#: Each takes 10 MiB or more at full size.
UPSAMPLED_MEMORY = [
    _step(f"memory, upsample, {name}", why, **{"shape": (2, 19, 64, 64), "full_size": (256, 256),
          "options": {"upsample": "bilinear"}, **more})
    for name, why, more in [
        ("labels", "the fast way", {"quick": True}),
        ("boundary", "labels have windows", {"options": {"upsample": "bilinear", **BLS}}),
        ("float16 channels_last", "no copy in float32 or in another layout",
         {"dtype": torch.float16, "layout": "channels_last",
          "options": {"upsample": "bilinear", "align_corners": True}}),
        ("soft", "probabilities have the full size", {"target": "soft", "masked": 0.1}),
        ("multi-label", "integers of every class are not copied",
         {"target": "bits", "target_dtype": torch.uint8,
          "options": {"upsample": "bilinear", **SIGMOID}}),
        ("distillation", "neither of the two is ever at full size",
         {"loss": "distillation", "teacher_size": (32, 80), "teacher_dtype": torch.float16}),
        ("150 classes", "ADE20K has as many classes",
         {"shape": (1, 150, 24, 32), "full_size": (96, 128)}),
        ("3-D", "volumes have three spatial dimensions",
         {"shape": (1, 5, 12, 16, 20), "full_size": (48, 64, 80),
          "options": {"upsample": "trilinear"}}),
    ]
]  # fmt: skip

#: What only a GPU shows: it takes seconds there, and is not run elsewhere.
ON_GPU = [
    _step(f"on a GPU, {name}", why, **{"shape": (2, 19, 128, 160), "quick": True, **more})
    for name, why, more in [
        ("labels", "the fast way", {"ignored": 0.02}),
        ("boundary", "labels have windows", {"options": BLS, "ignored": 0.02}),
        ("cross-entropy", "labels have windows and logarithms",
         {"loss": "cross-entropy", "options": BLS, "ignored": 0.02}),
        ("distillation", "there are three inputs",
         {"loss": "distillation", "options": {"temperature": 2.0, **BLS}, "ignored": 0.02}),
        ("soft", "there are two dense inputs",
         {"target": "soft", "layout": "channels_last", "target_layout": "channels_last",
          "dtype": torch.float16, "target_dtype": torch.float16}),
        ("multi-label", "classes are independent",
         {"target": "bits", "target_dtype": torch.uint8, "options": SIGMOID}),
        ("upsample", "logits have a quarter of the labels' size",
         {"shape": (2, 19, 32, 40), "full_size": (128, 160), "ignored": 0.02,
          "options": {"upsample": "bilinear"}}),
        ("aggregations", "it takes every column and most of the formula",
         {"target": "soft", "options": {"aggregation": {"image": 0.5, "class": 0.5}, "gamma": 1.5,
                                        "active_classes": "both"}}),
    ]
]  # fmt: skip
