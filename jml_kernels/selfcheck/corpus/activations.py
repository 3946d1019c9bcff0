"""Independent classes (a sigmoid each), and probabilities that are given as they are."""

from __future__ import annotations

import torch

from .case import BINARY, BLS, NONE, SIGMOID, LossCase
from .dtypes import INTEGER_DTYPES, name_of

MULTI_LABEL = [
    LossCase("multi-label, labels", "labels stand for one class against the rest", options=SIGMOID,
             checked=True),
    LossCase("multi-label, soft", "each class has a probability of its own", target="soft",
             options=SIGMOID, checked=True),
    *[
        LossCase(f"multi-label, bits {name_of(dtype)}", "0 and 1 may have any integer dtype",
                 target="bits", target_dtype=dtype, options=SIGMOID, checked=dtype == torch.uint8,
                 quick=dtype == torch.uint8, interpreted=dtype in (torch.bool, torch.uint8))
        for dtype in INTEGER_DTYPES
    ],
    LossCase("multi-label, ignored", "elements are ignored one by one", target="bits", ignored=0.3,
             options=SIGMOID, checked=True),
    LossCase("multi-label, ignored 255", "the usual encoding of data sets, element by element",
             target="bits", target_dtype=torch.uint8, ignored=0.3,
             options={**SIGMOID, "ignore_index": 255}),
    LossCase("multi-label, ignored 0", "negatives are ignored", target="bits",
             options={**SIGMOID, "ignore_index": 0}),
    LossCase("multi-label, all ignored", "nothing counts: 0/0", target="bits", ignored=1.0,
             options=SIGMOID),
    LossCase("multi-label, masked", "whole pixels and single elements are taken out", target="bits",
             ignored=0.2, masked=0.3, options=SIGMOID, checked=True),
    LossCase("multi-label, smoothed", "each class is smoothed as two: y = (1 - e) l + e / 2",
             target="bits", ignored=0.1, options={**SIGMOID, "label_smoothing": 0.2}, checked=True),
    LossCase("multi-label, bits stepped", "integers of every class have strides of their own",
             target="bits", target_layout="stepped", options=SIGMOID),
    LossCase("multi-label, bits channels_last", "integers are transposed", (1, 5, 43, 59),
             layout="channels_last", target="bits", target_layout="channels_last", ignored=0.1,
             options=SIGMOID),
    LossCase("multi-label, transposed", "logits, bits and mask each lie in another order",
             (1, 5, 43, 29), layout="transposed", target="bits", target_layout="classes first",
             masked=0.2, mask_layout="stepped", ignored=0.1, options=SIGMOID),
    LossCase("multi-label, one row for all", "the target is expanded over classes", target="bits",
             target_layout="one class", options=SIGMOID),
    LossCase("multi-label, bits mostly ignored", "some pixels have no element left", target="bits",
             ignored=0.7, options=SIGMOID),
    LossCase("multi-label, 0-D", "classes may be tags of an image", (7, 5), target="bits",
             options=SIGMOID),
    LossCase("multi-label, soft, 0-D", "a class is present above 1/2", (7, 5), target="soft",
             options=SIGMOID),
    LossCase("multi-label, tiles", "independent classes in float16", (1, 5, 43, 59),
             dtype=torch.float16, target="bits", options=SIGMOID),
]  # fmt: skip

ONE_CLASS = [
    LossCase("binary, labels", "labels are 0 and 1, without a channel", BINARY, options=SIGMOID,
             checked=True, quick=True),
    LossCase("binary, labels with a channel", "labels are 0 and 1, with a channel", BINARY,
             target="labels with a channel", options=SIGMOID),
    LossCase("binary, bool", "the target may be a mask", BINARY, target_dtype=torch.bool,
             options=SIGMOID),
    LossCase("binary, bool with a channel", "the target may be a mask with strides of its own",
             BINARY, target="labels with a channel", target_dtype=torch.bool,
             target_layout="stepped", options=SIGMOID),
    LossCase("binary, soft", "probabilities have a channel", BINARY, target="soft",
             options=SIGMOID, checked=True),
    LossCase("binary, soft without a channel", "probabilities have no channel", BINARY,
             target="soft without a channel", options=SIGMOID),
    LossCase("binary, smoothed", "e / 2, since there are two labels", BINARY, ignored=0.2,
             options={**SIGMOID, "label_smoothing": 0.2}, checked=True),
    LossCase("binary, 0-D", "an image has one logit", (7, 1), options=SIGMOID),
    LossCase("binary, soft, 0-D", "an image has one logit and a probability", (7, 1), target="soft",
             options=SIGMOID),
    LossCase("binary, channels_last, tiles", "one class is both memory formats at once",
             (2, 1, 43, 59), layout="channels_last", options=SIGMOID),
    LossCase("binary, ignored 0", "one of two labels is ignored", BINARY,
             options={**SIGMOID, "ignore_index": 0}),
]  # fmt: skip

PROBABILITIES = [
    LossCase("probabilities, labels", "x is taken as it is", options=NONE, checked=True),
    LossCase("probabilities, soft", "x and y are taken as they are", target="soft", options=NONE,
             checked=True),
    LossCase("probabilities, bits", "several classes may be present at once", target="bits",
             ignored=0.1, options=NONE),
    LossCase("probabilities, bits mostly ignored", "some pixels have no element left",
             target="bits", ignored=0.7, options=NONE),
    LossCase("probabilities, binary", "there is one class of probabilities", BINARY, options=NONE),
    LossCase("probabilities, smoothed", "the target is smoothed", drawn="blocks",
             options={**NONE, **BLS}),
    LossCase("probabilities, halves", "probabilities in bfloat16", dtype=torch.bfloat16,
             target="soft", options=NONE),
    LossCase("probabilities, float64", "probabilities in float64", dtype=torch.float64,
             target="soft", options=NONE),
    LossCase("probabilities, channels_last, tiles", "probabilities are transposed", (1, 5, 43, 59),
             layout="channels_last", options=NONE),
    LossCase("ties, soft", "x = y exactly: sub-gradient 0 of |x - y|", values="ties",
             target="soft", options=NONE),
    LossCase("ties, labels", "x is exactly 0 or 1 against labels: sub-gradient 0", values="ties",
             options=NONE),
    LossCase("ties, binary", "an image has one logit and a probability", BINARY, values="ties",
             options=NONE),
    LossCase("ties, bits", "x = y exactly in independent classes", values="ties", target="bits",
             options=NONE),
    LossCase("ties, smoothed", "x = y exactly against a smoothed target", (2, 2, 6, 7),
             values="ties", options={**NONE, "label_smoothing": 0.5}),
]  # fmt: skip

ACTIVATIONS = [*MULTI_LABEL, *ONE_CLASS, *PROBABILITIES]
