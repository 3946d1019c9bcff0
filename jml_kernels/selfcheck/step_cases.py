"""Inputs of whole steps: repeated, compiled, measured, watched on a GPU."""

from __future__ import annotations

from dataclasses import replace

import torch

from .cases import BLS, LS, SIGMOID, WEIGHTS, Case

#: Every way through the kernels, at a size that has several tiles.
STEPS = [
    Case("labels", "the fast way", shape=(2, 7, 51, 63), ignored=0.1, quick=True,
         interpreted=False),
    Case("boundary", "labels with windows", "cross-entropy", shape=(1, 7, 151, 163), options=BLS,
         layout="channels_last", interpreted=False),
    Case("soft", "two dense inputs", shape=(3, 5, 71, 67), target="soft", dtype=torch.float16,
         interpreted=False),
    Case("teacher", "three inputs", "distillation", shape=(1, 7, 151, 163), options=BLS,
         floats=torch.bfloat16, quick=True, interpreted=False),
    Case("all columns", "every sum", "statistics", shape=(1, 19, 43, 59), target="soft",
         dtype=torch.float64, interpreted=False),
    Case("many images", "images are shared out among threads", shape=(90, 3, 257),
         interpreted=False),
    Case("labels, small", "the same for an interpreter", shape=(1, 7, 21, 33), ignored=0.1),
    Case("teacher, small", "the same for an interpreter", "distillation", shape=(1, 5, 5, 4),
         options=BLS, quick=True),
]  # fmt: skip

COMPILED = [
    Case("cross-entropy, boundary", "labels, with every kind of option", "cross-entropy",
         shape=(2, 5, 6, 7), options={**BLS, "aggregation": "image"}, weights=WEIGHTS,
         quick=True, interpreted=False),
    Case("JML, soft, masked", "probabilities and a mask", target="soft", masked=0.2,
         layout="channels_last", shape=(2, 5, 6, 7), dtype=torch.float16),
    Case("distillation", "labels and a teacher", "distillation", ignored=0.1,
         options={"temperature": 2.0}),
    Case("multi-label", "independent classes", target="bits", options=SIGMOID, interpreted=False),
    Case("JDT", "the loss of the paper's authors", "JDT", interpreted=False),
]  # fmt: skip

_PLAIN = Case("", "", shape=(2, 19, 192, 256))
MEMORY = [
    replace(_PLAIN, name=name, why=why, **more)
    for name, why, more in [
        ("labels", "the fast way", {"quick": True}),
        ("boundary", "windows", {"options": {**LS, "boundary_size": 5}}),
        ("soft", "two dense inputs", {"target": "soft", "masked": 0.1}),
        ("float16 channels_last", "no copy in float32 or in another layout",
         {"dtype": torch.float16, "layout": "channels_last", "target": "soft", "quick": True}),
        ("cropped", "no copy that is contiguous",
         {"layout": "cropped", "target_layout": "cropped", "integers": torch.int32}),
        ("multi-label", "bits", {"target": "bits", "integers": torch.uint8, "options": SIGMOID}),
        ("cross-entropy", "weights", {"loss": "cross-entropy", "weights": WEIGHTS}),
        ("distillation", "the teacher's softmax is never written",
         {"loss": "distillation", "floats": torch.float16, "options": BLS, "quick": True}),
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
        ("boundary", "windows", {"loss": "cross-entropy", "options": BLS, "ignored": 0.02}),
        ("distillation", "three inputs",
         {"loss": "distillation", "options": {"temperature": 2.0, **BLS}}),
        ("soft", "two dense inputs", {"target": "soft", "layout": "channels_last",
                                      "dtype": torch.float16}),
        ("multi-label", "independent classes",
         {"target": "bits", "integers": torch.uint8, "options": SIGMOID}),
        ("aggregations", "every column, and most of the formula",
         {"target": "soft", "options": {"aggregation": {"image": 0.5, "class": 0.5}, "gamma": 1.5,
                                        "active_classes": "both"}}),
    ]
]  # fmt: skip
