"""Logits in every dtype and every layout."""

from __future__ import annotations

import torch

from .case import BLS, SIGMOID, LossCase
from .dtypes import FLOAT_DTYPES, name_of
from .layouts import LAYOUTS

DTYPES = [
    *[
        LossCase(name_of(dtype), "logits may have every floating dtype", dtype=dtype)
        for dtype in FLOAT_DTYPES
    ],
    *[
        LossCase(f"{name_of(dtype)} channels_last, tiles",
                 "a tile's rows are converted in this layout too", (1, 11, 43, 59), dtype=dtype,
                 layout="channels_last")
        for dtype in FLOAT_DTYPES
    ],
    *[
        LossCase(f"{name_of(dtype)} soft, tiles", "two inputs are converted", (1, 11, 43, 59),
                 dtype=dtype, target="soft", target_dtype=dtype)
        for dtype in FLOAT_DTYPES
    ],
]  # fmt: skip

STRIDES = [
    *[
        LossCase(f"layout {layout}", "logits are read as they lie", layout=layout)
        for layout in LAYOUTS if layout != "contiguous"
    ],
    LossCase("channels_last 1-D", "sequences may be NLC", (2, 5, 41), layout="channels_last"),
    LossCase("channels_last 3-D", "volumes may be NDHWC", (2, 5, 3, 4, 5), layout="channels_last"),
    LossCase("channels_last 1 class", "one class is both memory formats at once", (2, 1, 6, 7),
             layout="channels_last", options=SIGMOID),
    LossCase("channels_last 2", "a pixel is shorter than a vector", (2, 2, 43, 59),
             layout="channels_last"),
    LossCase("channels_last 16", "a pixel is one vector", (1, 16, 9, 31), layout="channels_last"),
    LossCase("channels_last 19, tiles", "pixels are transposed tile by tile", (2, 19, 43, 59),
             layout="channels_last", interpreted=False),
    LossCase("channels_last 150", "a pixel is many vectors", (1, 150, 9, 16),
             layout="channels_last"),
    LossCase("cropped, tiles", "rows of a crop end inside a tile", (1, 5, 43, 59),
             layout="cropped"),
    LossCase("cropped 3-D, tiles", "planes of a crop end inside a tile", (1, 3, 7, 19, 23),
             layout="cropped"),
    LossCase("stepped, tiles", "no stride is 1", (1, 5, 43, 59), layout="stepped"),
    LossCase("cropped channels_last, tiles", "memory is neither dense nor class by class",
             (1, 5, 43, 59), layout="cropped channels_last"),
    LossCase("transposed, tiles", "pixels lie in another order than labels", (1, 5, 43, 59),
             layout="transposed"),
    LossCase("reversed 3-D", "the batch is the fastest dimension", (2, 3, 5, 4, 3),
             layout="reversed"),
    LossCase("stepped 0-D", "there are strides without spatial dimensions", (7, 5),
             layout="stepped"),
    LossCase("reversed 0-D", "memory is classes by images", (7, 5), layout="reversed"),
]  # fmt: skip

LOGITS = [*DTYPES, *STRIDES]

# ---- every dtype in every layout, against every kind of target -----------------------------------

_KINDS = {
    "labels": {"drawn": "blocks"},
    "soft": {"target": "soft"},
    "boundary": {"drawn": "blocks", "options": BLS},
    "multi-label": {"target": "bits", "options": SIGMOID},
    "teacher": {"loss": "distillation"},
}
_QUICK = {
    ("float16", "channels_last", "labels"),
    ("bfloat16", "contiguous", "soft"),
    ("float32", "cropped", "soft"),
    ("float32", "transposed", "boundary"),
    ("float64", "one image", "labels"),
    ("bfloat16", "stepped", "multi-label"),
}


def _combined(dtype: torch.dtype, layout: str, kind: str) -> LossCase:
    quick = (name_of(dtype), layout, kind) in _QUICK
    interpreted = quick or f"{name_of(dtype)} {kind}" == "float32 soft"
    interpreted = interpreted or (layout, kind) == ("channels_last", "labels")
    return LossCase(
        f"{name_of(dtype)} {layout}, {kind}",
        "every dtype may come in every layout",
        (2, 5, 9, 11),
        dtype=dtype,
        layout=layout,
        target_dtype=dtype if kind == "soft" else None,
        target_layout=layout,
        teacher_layout=layout,
        checked=True,
        quick=quick,
        interpreted=interpreted,
        **_KINDS[kind],
    )


#: Inputs of one loss each; the lists above show the same one thing at a time.
DTYPES_AND_LAYOUTS = [
    _combined(dtype, layout, kind)
    for dtype in FLOAT_DTYPES
    for layout in ("contiguous", "channels_last", "cropped", "stepped", "transposed", "one image")
    for kind in _KINDS
]
