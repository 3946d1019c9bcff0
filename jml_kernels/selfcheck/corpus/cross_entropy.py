"""Cross-entropy and an overlap loss, eq. 14."""

from __future__ import annotations

import torch

from .case import BINARY, BLS, LS, NONE, SIGMOID, TILES, WEIGHTS, LossCase
from .options import LOSS_OPTIONS, MODES

#: The options that choose the overlap of an objective.
OVERLAP_OPTIONS = {
    "metric1": {"variant": 1},
    "metric2": {"variant": 2},
    "soft1": {"norm": 1},
    "soft2": {"norm": 2},
}


def _ce(name: str, why: str, *shape: tuple[int, ...], **more: object) -> LossCase:
    return LossCase(f"cross-entropy, {name}", why, *shape, **more, loss="cross-entropy")


CROSS_ENTROPY = [
    *[
        _ce(f"ce_weight {weight:g}", "at its ends only one of the two is left",
            options={"ce_weight": weight}, checked=True)
        for weight in (0.0, 0.6, 1.0)
    ],
    *[
        _ce(f"{overlap}, soft", "any overlap beside the cross-entropy", target="soft",
            options=options, checked=overlap == "soft2")
        for overlap, options in OVERLAP_OPTIONS.items()
    ],
    *[
        _ce(f"active {mode}", "cross-entropy knows no active classes", target="soft",
            options={"active_classes": mode})
        for mode in MODES
    ],
    *[
        _ce(f"loss {name}", "options change the overlap alone", ignored=0.1,
            options={**LS, **options})
        for name, options in LOSS_OPTIONS.items()
    ],
    *[
        _ce(f"weights, {name}", why, weights=weights, **more)
        for name, why, weights, more in [
            ("labels", "PyTorch's mean over the labels' weights", WEIGHTS[1:], {}),
            ("both", "each weighs its own", WEIGHTS,
             {"ignored": 0.1, "options": LS, "checked": True, "quick": True}),
            ("of the overlap", "cross-entropy has none", WEIGHTS[:1], {}),
            ("smoothed", "as F.cross_entropy: every class's weight, the label's in the mean",
             WEIGHTS[1:], {"options": LS, "ignored": 0.2}),
            ("boundary", "only some pixels are smoothed", WEIGHTS,
             {"options": BLS, "drawn": "blocks", "ignored": 0.02, "masked": 0.1, "checked": True}),
            ("soft", "the mean is over pixels", WEIGHTS,
             {"target": "soft", "masked": 0.2, "checked": True}),
            ("tiles", "weights add up over tiles", WEIGHTS[1:],
             {"shape": TILES, "options": LS, "layout": "channels_last", "ignored": 0.1}),
            ("soft, tiles", "weights of probabilities add up over tiles", WEIGHTS[1:],
             {"shape": TILES, "target": "soft"}),
            ("float64", "weights in float64", WEIGHTS, {"dtype": torch.float64, "options": LS}),
            ("halves", "weights beside float16", WEIGHTS, {"dtype": torch.float16, "options": LS}),
            ("uint8", "labels of every dtype have a weight", WEIGHTS[1:],
             {"target_dtype": torch.uint8, "target_layout": "stepped"}),
            ("sigmoid, labels", "the mean is over elements", WEIGHTS[1:], {"options": SIGMOID}),
            ("sigmoid, bits", "the mean is over elements that count", WEIGHTS,
             {"target": "bits", "ignored": 0.2, "options": {**SIGMOID, **LS}, "checked": True}),
            ("sigmoid, soft", "the mean is over elements, also of probabilities", WEIGHTS[1:],
             {"target": "soft", "masked": 0.2, "options": SIGMOID}),
            ("binary", "one class may have a weight", WEIGHTS[1:],
             {"shape": BINARY, "options": SIGMOID}),
            ("none, labels", "probabilities have weights too", WEIGHTS[1:],
             {"options": {**NONE, **LS}}),
            ("0-D", "classification has weights too", WEIGHTS[1:],
             {"shape": (7, 5), "options": LS}),
            ("bad labels, masked", "a masked pixel's label has no weight", WEIGHTS[1:],
             {"masked": 0.2, "values": "bad labels under the mask"}),
        ]
    ],
]  # fmt: skip
