"""Independent classes (a sigmoid each), and probabilities that are given as they are."""

from __future__ import annotations

import torch

from .case import BINARY, BLS, NONE, SIGMOID, LossCase
from .dtypes import INTEGER_DTYPES, name_of

MULTI_LABEL = [
    LossCase("multi-label, labels", "one-vs-rest", options=SIGMOID, checked=True),
    LossCase("multi-label, soft", "a probability per class", target="soft", options=SIGMOID,
             checked=True),
    *[
        LossCase(f"multi-label, bits {name_of(dtype)}", "0 and 1 per class in any integer dtype",
                 target="bits", target_dtype=dtype, options=SIGMOID, checked=dtype == torch.uint8,
                 quick=dtype == torch.uint8, interpreted=dtype in (torch.bool, torch.uint8))
        for dtype in INTEGER_DTYPES
    ],
    LossCase("multi-label, ignored", "element by element", target="bits", ignored=0.3,
             options=SIGMOID, checked=True),
    LossCase("multi-label, ignored 255", "in uint8", target="bits", target_dtype=torch.uint8,
             ignored=0.3, options={**SIGMOID, "ignore_index": 255}),
    LossCase("multi-label, ignored 0", "negatives ignored", target="bits",
             options={**SIGMOID, "ignore_index": 0}),
    LossCase("multi-label, all ignored", "0/0", target="bits", ignored=1.0, options=SIGMOID),
    LossCase("multi-label, masked", "whole pixels and elements", target="bits", ignored=0.2,
             masked=0.3, options=SIGMOID, checked=True),
    LossCase("multi-label, smoothed", "two classes each: y = (1 - e) l + e / 2", target="bits",
             ignored=0.1, options={**SIGMOID, "label_smoothing": 0.2}, checked=True),
    LossCase("multi-label, bits stepped", "strides of a dense integer target", target="bits",
             target_layout="stepped", options=SIGMOID),
    LossCase("multi-label, bits channels_last", "transposed integers", (1, 5, 43, 59),
             layout="channels_last", target="bits", target_layout="channels_last", ignored=0.1,
             options=SIGMOID),
    LossCase("multi-label, transposed", "logits, bits and mask each in another order",
             (1, 5, 43, 29), layout="transposed", target="bits", target_layout="classes first",
             masked=0.2, mask_layout="stepped", ignored=0.1, options=SIGMOID),
    LossCase("multi-label, one row for all", "a target expanded over classes", target="bits",
             target_layout="one class", options=SIGMOID),
    LossCase("multi-label, bits mostly ignored", "pixels with no element left", target="bits",
             ignored=0.7, options=SIGMOID),
    LossCase("multi-label, 0-D", "tags of an image", (7, 5), target="bits", options=SIGMOID),
    LossCase("multi-label, soft, 0-D", "a class is present above 1/2", (7, 5), target="soft",
             options=SIGMOID),
    LossCase("multi-label, tiles", "in float16", (1, 5, 43, 59), dtype=torch.float16,
             target="bits", options=SIGMOID),
]  # fmt: skip

ONE_CLASS = [
    LossCase("binary, labels", "labels 0 and 1 without a channel", BINARY, options=SIGMOID,
             checked=True, quick=True),
    LossCase("binary, labels with a channel", "the same with one", BINARY,
             target="labels with a channel", options=SIGMOID),
    LossCase("binary, bool", "a mask as target", BINARY, target_dtype=torch.bool, options=SIGMOID),
    LossCase("binary, bool with a channel", "a mask as target, strided", BINARY,
             target="labels with a channel", target_dtype=torch.bool, target_layout="stepped",
             options=SIGMOID),
    LossCase("binary, soft", "probabilities with a channel", BINARY, target="soft",
             options=SIGMOID, checked=True),
    LossCase("binary, soft without a channel", "and without", BINARY,
             target="soft without a channel", options=SIGMOID),
    LossCase("binary, smoothed", "e / 2, since there are two labels", BINARY, ignored=0.2,
             options={**SIGMOID, "label_smoothing": 0.2}, checked=True),
    LossCase("binary, 0-D", "one logit an image", (7, 1), options=SIGMOID),
    LossCase("binary, soft, 0-D", "the same with one class", (7, 1), target="soft",
             options=SIGMOID),
    LossCase("binary, channels_last, tiles", "both memory formats at once", (2, 1, 43, 59),
             layout="channels_last", options=SIGMOID),
    LossCase("binary, ignored 0", "one of two labels ignored", BINARY,
             options={**SIGMOID, "ignore_index": 0}),
]  # fmt: skip

PROBABILITIES = [
    LossCase("probabilities, labels", "x as it is", options=NONE, checked=True),
    LossCase("probabilities, soft", "x and y as they are", target="soft", options=NONE,
             checked=True),
    LossCase("probabilities, bits", "several classes at once", target="bits", ignored=0.1,
             options=NONE),
    LossCase("probabilities, bits mostly ignored", "pixels with no element left", target="bits",
             ignored=0.7, options=NONE),
    LossCase("probabilities, binary", "one class", BINARY, options=NONE),
    LossCase("probabilities, smoothed", "a smoothed target", drawn="blocks",
             options={**NONE, **BLS}),
    LossCase("probabilities, halves", "in bfloat16", dtype=torch.bfloat16, target="soft",
             options=NONE),
    LossCase("probabilities, float64", "in float64", dtype=torch.float64, target="soft",
             options=NONE),
    LossCase("probabilities, channels_last, tiles", "transposed", (1, 5, 43, 59),
             layout="channels_last", options=NONE),
    LossCase("ties, soft", "x = y exactly: sub-gradient 0 of |x - y|", values="ties",
             target="soft", options=NONE),
    LossCase("ties, labels", "x exactly 0 or 1 against labels: the same", values="ties",
             options=NONE),
    LossCase("ties, binary", "the same with one class", BINARY, values="ties", options=NONE),
    LossCase("ties, bits", "the same with independent classes", values="ties", target="bits",
             options=NONE),
    LossCase("ties, smoothed", "the same with a smoothed target", (2, 2, 6, 7), values="ties",
             options={**NONE, "label_smoothing": 0.5}),
]  # fmt: skip

ACTIVATIONS = [*MULTI_LABEL, *ONE_CLASS, *PROBABILITIES]
