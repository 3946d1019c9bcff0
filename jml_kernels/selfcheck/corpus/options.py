"""Options of the formula: what the losses make of the same statistics."""

from __future__ import annotations

from .case import LS, SIGMOID, WEIGHTS, LossCase

MODES = ("all", "present", "label", "prob", "both")

#: What changes a loss beyond its target. Cross-entropy and distillation have these options too.
LOSS_OPTIONS = {
    "image": {"aggregation": "image"},
    "class": {"aggregation": "class"},
    "mixture": {"aggregation": {"dataset": 0.2, "image": 0.5, "class": 0.3}, "gamma": 1.5},
    "a part without weight": {"aggregation": {"dataset": 2.0, "image": 0.0}},
    "dice": {"alpha": 0.5, "beta": 0.5},
    "tversky": {"alpha": 0.3, "beta": 0.7, "gamma": 1.5},
    "alpha 0": {"alpha": 0.0, "beta": 1.0},
    "gamma 2": {"gamma": 2.0},
    "gamma 0.5": {"gamma": 0.5},
    "smooth": {"smooth": 0.5},
    "log": {"log_loss": True, "smooth": 0.1},
    "threshold": {"active_threshold": 0.5},
    "threshold of both": {"active_classes": "both", "active_threshold": 1.2},
}

FORMULA = [
    LossCase(f"loss {name}", "an option of the formula", (3, 5, 6, 7), ignored=0.1,
             options={**LS, **options}, checked=True, quick=name == "mixture",
             interpreted=name in ("mixture", "gamma 0.5", "log"))
    for name, options in LOSS_OPTIONS.items()
] + [
    LossCase(f"loss {name}, many images", "threads share out images beside classes", (37, 5, 3, 4),
             ignored=0.1, options={**LS, **LOSS_OPTIONS[name]}, interpreted=False)
    for name in ("image", "mixture")
]  # fmt: skip

ACTIVE = [
    *[
        LossCase(f"active {mode}, {name}", "each mode asks for other columns beside the overlap",
                 (2, 5, 23, 29), target=target, options={**options, "active_classes": mode},
                 checked=True, interpreted=mode != "label")
        for mode in MODES
        for name, target, options in [
            ("labels", "labels", {}),
            ("smoothed", "labels", LS),
            ("soft", "soft", {}),
            ("bits", "bits", SIGMOID),
        ]
    ],
    *[
        LossCase(f"active {mode}, few pixels", "some of many classes are not active",
                 (2, 19, 5, 6), target="soft", options={"active_classes": mode}, checked=True,
                 quick=mode == "both")
        for mode in MODES
    ],
]  # fmt: skip

OPTIONS = [*FORMULA, *ACTIVE]

#: Inputs of one loss each, which no list of inputs for every overlap has.
OTHER_OPTIONS = [
    LossCase("class_weights", "weights multiply the losses of classes", weights=WEIGHTS[:1],
             checked=True),
    *[
        LossCase(f"inplace_backward, {layout}", "the gradient lies over the logits",
                 (2, 5, 9, 11), layout=layout, target="soft", options={"inplace_backward": True},
                 checked=True, quick=layout == "channels_last",
                 interpreted=layout == "contiguous")
        for layout in ("contiguous", "channels_last", "cropped")
    ],
    LossCase("JDT, weights", "it takes weights of classes", loss="JDT", weights=WEIGHTS[:1],
             checked=True, interpreted=False),
    LossCase("JDT, options", "it has all of its options at once", (3, 5, 6, 7), loss="JDT",
             target="soft",
             options={"mIoUD": 0.5, "mIoUI": 0.3, "mIoUC": 0.2, "gamma": 1.5, "log_loss": True,
                      "norm": 2}, checked=True, interpreted=False),
    LossCase("JDT, ignored", "it is told what to ignore", loss="JDT", ignored=0.2,
             options={"ignore_index": 255}, checked=True, interpreted=False),
]  # fmt: skip
