"""Logits and targets at the edge of what numbers can say."""

from __future__ import annotations

import torch

from .case import BINARY, BLS, LS, NONE, SIGMOID, LossCase
from .upsampling import upsampled

_SOME = (1, 5, 23, 29)

EXTREME = [
    LossCase("saturated", "x is 0 or 1, exp(-200) is nothing", values="saturated"),
    LossCase("saturated, soft", "x is 0 or 1 against soft targets", values="saturated",
             target="soft"),
    LossCase("saturated, smoothed", "x is 0 or 1 against smoothed labels", values="saturated",
             options=LS),
    LossCase("saturated, sigmoid", "exp(100) must not become inf / inf", values="saturated",
             target="bits", options=SIGMOID),
    LossCase("saturated, float64", "x is 0 or 1 in float64",
             dtype=torch.float64, values="saturated"),
    LossCase("saturated, float16", "x is 0 or 1 in float16",
             dtype=torch.float16, values="saturated"),
    LossCase("far from 0", "logits near 1000: exp overflows unless the maximum is taken off",
             values="far", loss="cross-entropy", checked=True),
    LossCase("far below 0", "logits are near -1000", values="far below"),
    LossCase("spread", "logits across +-40: probabilities over 30 decades", (2, 19, 13, 11),
             values="spread", loss="cross-entropy", checked=True),
    LossCase("spread, float64", "probabilities span 30 decades in float64", (2, 19, 13, 11),
             dtype=torch.float64, values="spread"),
    LossCase("-inf", "a class ruled out by its logit: x = 0, gradient 0", values="-inf"),
    LossCase("-inf, soft", "a class is ruled out where the target is not 0", values="-inf",
             target="soft"),
    LossCase("-inf, float64", "a class is ruled out in float64",
             dtype=torch.float64, values="-inf"),
    LossCase("-inf, float16", "a class is ruled out in float16", dtype=torch.float16,
             values="-inf"),
    LossCase("+-inf, sigmoid", "independent classes saturate to 0 and 1", values="+-inf",
             target="bits", options=SIGMOID),
]  # fmt: skip

_NAN, _INF = "nan where not counted", "+inf where not counted"
NOT_COUNTED = [
    LossCase("nan, ignored", "a pixel that counts nowhere may hold anything", _SOME, values=_NAN,
             ignored=0.2),
    LossCase("+inf, ignored", "a pixel that counts nowhere may hold anything", _SOME, values=_INF,
             ignored=0.2),
    LossCase("nan, masked", "a masked pixel may hold anything", _SOME, values=_NAN, masked=0.2),
    LossCase("nan, masked, soft", "a masked pixel may hold anything, against a soft target", _SOME,
             values=_NAN, target="soft", masked=0.2),
    LossCase("nan, masked, channels_last", "a masked pixel may hold anything, transposed", _SOME,
             layout="channels_last", values=_NAN, masked=0.2),
    LossCase("nan, masked, sigmoid", "a masked pixel may hold anything, of independent classes",
             values=_NAN, target="bits", masked=0.2, options=SIGMOID),
    LossCase("nan, ignored, sigmoid", "an ignored element may hold anything", values=_NAN,
             target="bits", ignored=0.2, options=SIGMOID),
    LossCase("nan, ignored, none", "a probability that counts nowhere may be anything", values=_NAN,
             ignored=0.2, options=NONE),
    LossCase("nan target, masked", "the target of a masked pixel may hold anything", target="soft",
             masked=0.2, values="nan target where masked"),
    LossCase("bad labels, masked", "a label under the mask may be out of range", masked=0.2,
             values="bad labels under the mask"),
    LossCase("bad bits, masked", "a masked pixel may hold anything, of independent classes",
             target="bits", masked=0.2, values="bad labels under the mask", options=SIGMOID),
]  # fmt: skip

_CHECKED = {
    ("nan", "labels"),
    ("nan", "soft"),
    ("nan", "channels_last"),
    ("nan", "bfloat16"),
    ("+inf", "labels"),
    ("all -inf", "labels"),
}
#: The loss of each is NaN. Where a probability is expected NaN is bad input (bad_input.py).
NOT_FINITE = [
    *[
        LossCase(f"{value} logit, {how}", "one is enough to make the loss NaN, without a crash",
                 (2, 5, 23, 29), values=value, finite=False, checked=(value, how) in _CHECKED,
                 quick=value == "nan" and how in ("labels", "soft"), **more)
        for value in ("nan", "+inf", "all -inf")
        for how, more in {
            "labels": {},
            "soft": {"target": "soft"},
            "channels_last": {"layout": "channels_last"},
            "boundary": {"drawn": "blocks", "options": BLS},
            "bfloat16": {"dtype": torch.bfloat16},
            "float64": {"dtype": torch.float64},
        }.items()
    ],
    LossCase("nan logit, cross-entropy", "one is enough, beside a cross-entropy", (2, 5, 23, 29),
             values="nan", loss="cross-entropy", finite=False, checked=True, interpreted=False),
    LossCase("nan logit, teacher", "one is enough, in the student's logits", (2, 5, 23, 29),
             values="nan", loss="distillation", finite=False, checked=True, interpreted=False),
    LossCase("nan logit, many pixels", "one is enough, in the last of several tiles",
             (2, 5, 43, 59), values="nan", finite=False, checked=True, interpreted=False),
    LossCase("nan logit, sigmoid", "one is enough, of independent classes", values="nan",
             target="bits", options=SIGMOID, finite=False, checked=True),
    upsampled("nan logit", "one is enough, in a corner of many pixels", (2, 5, 6, 7), (24, 28),
              values="nan", finite=False, checked=True),
    upsampled("+inf logit", "one is enough, in a corner of many pixels", (2, 5, 6, 7), (17, 23),
              values="+inf", finite=False, dtype=torch.float16),
    upsampled("nan logit, teacher", "one is enough, in the student's logits", (2, 5, 6, 7),
              (17, 23), values="nan", loss="distillation", finite=False, teacher_size=(10, 12)),
    LossCase("nan logit, binary", "one is enough, of one class", BINARY, values="nan",
             options=SIGMOID, finite=False),
]  # fmt: skip

VALUES = [*EXTREME, *NOT_COUNTED]
