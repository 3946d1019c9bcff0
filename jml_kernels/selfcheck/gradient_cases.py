"""Inputs for finite differences: float64 and small."""

from __future__ import annotations

from dataclasses import replace

import torch

from .cases import BLS, FAMILY, LS, NONE, SIGMOID, WEIGHTS, Case

_SMALL = Case("", "", shape=(2, 3, 3, 2), dtype=torch.float64, interpreted=False)
_TINY = replace(_SMALL, shape=(1, 3, 2), interpreted=True)


GRADIENTS = [
    *[
        replace(_SMALL, name=f"{loss}, {target}", why="every loss", loss=loss, target=target,
                quick=target == "soft" or loss == "distillation")
        for loss in (*FAMILY[:-1], "sums") for target in ("labels", "soft")
        if not (loss == "distillation" and target == "soft")
    ],
    *[
        replace(_SMALL, name=name, why=why, **more)
        for name, why, more in [
            ("all columns, boundary", "each sum by itself, of labels",
             {"loss": "sums", "options": BLS, "quick": True}),
            ("all columns, soft", "and of probabilities",
             {"loss": "sums", "target": "soft", "masked": 0.2}),
            ("channels_last", "the gradient has the logits' strides", {"layout": "channels_last"}),
            ("cropped", "and no others",
             {"layout": "cropped", "target": "soft"}),
            ("0-D", "classification", {"shape": (4, 3)}),
            ("3-D", "volumes", {"shape": (1, 3, 2, 3, 2), "options": BLS}),
            ("smoothing", "smoothed labels", {"options": LS}),
            ("boundary", "smoothed where labels meet", {"options": BLS}),
            ("mask", "pixels taken out", {"masked": 0.3}),
            ("mask, ignored", "by both",
             {"masked": 0.2, "ignored": 0.2, "quick": True}),
            ("all ignored", "the gradient is 0", {"ignored": 1.0}),
            ("multi-label", "independent classes",
             {"target": "bits", "ignored": 0.2, "options": SIGMOID,
              "quick": True}),
            ("sigmoid, soft", "a probability for each class",
             {"target": "soft", "options": SIGMOID}),
            ("binary", "one class",
             {"shape": (2, 1, 3, 2), "options": SIGMOID}),
            ("none, labels", "probabilities", {"options": NONE}),
            ("none, soft", "the same against probabilities", {"target": "soft", "options": NONE}),
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
             {"weights": WEIGHTS[:1]}),
            ("cross-entropy, weights", "weights of labels",
             {"loss": "cross-entropy", "options": LS,
              "weights": WEIGHTS, "quick": True}),
            ("cross-entropy, soft, weights", "and of probabilities",
             {"loss": "cross-entropy", "target": "soft", "weights": WEIGHTS}),
            ("cross-entropy, multi-label", "the binary one",
             {"loss": "cross-entropy", "target": "bits", "options": SIGMOID}),
            ("cross-entropy, none", "the logarithm of a probability",
             {"loss": "cross-entropy", "options": NONE}),
            ("distillation, temperatures", "a scale and its square",
             {"loss": "distillation", "options": {"temperature": 2.0, "student_temperature": 3.0,
                                                    "distillation": "kl"}}),
            ("distillation, no labels", "the teacher alone",
             {"loss": "distillation", "target": "none"}),
            ("distillation, boundary", "smoothed labels and a mask",
             {"loss": "distillation", "options": BLS, "masked": 0.1, "weights": WEIGHTS}),
            ("distillation, sigmoid", "independent classes",
             {"loss": "distillation", "options": SIGMOID}),
            ("JDT, options", "all of them at once",
             {"loss": "JDT", "target": "soft",
              "options": {"mIoUD": 0.5, "mIoUI": 0.3, "mIoUC": 0.2, "gamma": 1.5, "norm": 2}}),
        ]
    ],
    # Two evaluations for each element: what an interpreter can do.
    *[
        replace(_TINY, name=f"2 pixels, {name}", why=why, **more)
        for name, why, more in [
            ("sums, boundary", "each sum by itself, of labels",
             {"loss": "sums", "options": BLS}),
            ("sums, soft", "and of probabilities",
             {"loss": "sums", "target": "soft", "layout": "channels_last"}),
            ("JML1, soft", "the formula's gradient", {"target": "soft", "quick": True}),
            ("JML1, smoothing", "against smoothed labels", {"options": LS}),
            ("soft Jaccard L2, labels", "squares", {"loss": "soft Jaccard L2"}),
            ("aggregations", "of images and classes",
             {"shape": (2, 3, 2), "options": {"aggregation": {"image": 0.5, "class": 0.3}}}),
            ("cross-entropy, weights", "weights of labels",
             {"loss": "cross-entropy", "options": LS, "weights": WEIGHTS}),
            ("multi-label", "independent classes", {"target": "bits", "options": SIGMOID}),
            ("distillation", "a scale and its square",
             {"loss": "distillation", "options": {"temperature": 2.0, "student_temperature": 3.0}}),
        ]
    ],
]  # fmt: skip
