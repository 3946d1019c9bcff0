"""Integer labels: their dtypes and strides, and what takes pixels out."""

from __future__ import annotations

import torch

from .case import LossCase
from .dtypes import INTEGER_DTYPES, name_of

LABELS = [
    *[
        LossCase(f"labels {name_of(dtype)}", "labels may have every integer dtype",
                 (2, 2 if dtype == torch.bool else 5, 6, 7), target_dtype=dtype, checked=True,
                 quick=dtype in (torch.bool, torch.uint8, torch.uint64))
        for dtype in INTEGER_DTYPES
    ],
    *[
        LossCase(f"labels {name_of(dtype)} stepped",
                 "labels of every integer dtype are read as they lie",
                 (2, 2 if dtype == torch.bool else 5, 6, 7), target_dtype=dtype,
                 target_layout="stepped", checked=dtype == torch.int64,
                 interpreted=dtype == torch.bool)
        for dtype in INTEGER_DTYPES
    ],
    *[
        LossCase(f"labels {layout}", "labels' strides are not the logits'", target_layout=layout,
                 checked=layout in ("cropped", "transposed"))
        for layout in ("cropped", "one image", "transposed", "reversed")
    ],
    LossCase("labels 1 row", "labels have stride 0 along rows", (2, 5, 6, 7),
             target_layout="one pixel"),
    LossCase("labels transposed, channels_last",
             "logits and labels have unusual layouts that differ", (1, 5, 43, 29),
             layout="channels_last", target_layout="transposed"),
    LossCase("uint8, 200 classes", "labels above 127 are not negative", (1, 200, 5, 7),
             target_dtype=torch.uint8, checked=True),
    LossCase("a class absent", "no pixel of the batch is of class 1", drawn="no class 1"),
    LossCase("one class only", "all classes but one are absent", drawn="constant"),
    LossCase("ignored", "ignore_index takes pixels out", ignored=0.3, checked=True),
    LossCase("all ignored", "nothing counts, 0/0: loss and gradient are 0", ignored=1.0,
             checked=True, quick=True),
    LossCase("ignored 255 uint8", "the usual encoding of data sets", target_dtype=torch.uint8,
             ignored=0.3, options={"ignore_index": 255}, checked=True),
    LossCase("ignored 255 int64", "the usual encoding of data sets, after .long()", ignored=0.3,
             options={"ignore_index": 255}),
    LossCase("ignored -1 int8", "ignore_index is negative in the smallest dtype",
             target_dtype=torch.int8, ignored=0.3, options={"ignore_index": -1}),
    LossCase("ignored 0", "background is left out: ignore_index is a valid class",
             options={"ignore_index": 0}, checked=True),
    LossCase("ignored False", "one of two bool labels is left out", (2, 2, 6, 7),
             target_dtype=torch.bool, options={"ignore_index": 0}),
    LossCase("mask", "pixels are taken out whatever their label", masked=0.3, checked=True),
    LossCase("mask and ignored", "either takes a pixel out", masked=0.3, ignored=0.3, checked=True,
             quick=True),
    LossCase("mask of nothing", "every pixel is masked: 0/0", masked=1.0, checked=True),
    LossCase("mask of everything", "a mask that takes nothing out", masked=0.0),
    LossCase("mask stepped", "the mask has strides of its own", masked=0.3, mask_layout="stepped"),
    LossCase("mask of one image", "one mask for the whole batch, stride 0", masked=0.3,
             mask_layout="one image"),
    LossCase("mask, tiles", "mask and ignore_index go on beyond the first tile", (1, 5, 43, 59),
             masked=0.5, ignored=0.1, layout="channels_last"),
]  # fmt: skip
