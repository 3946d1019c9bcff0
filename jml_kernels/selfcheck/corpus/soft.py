"""Probabilities as targets: their dtypes and layouts."""

from __future__ import annotations

import torch

from .case import LossCase
from .dtypes import FLOAT_DTYPES, name_of
from .layouts import LAYOUTS

SOFT = [
    *[
        LossCase(f"soft {name_of(target)} in {name_of(dtype)}", "the target has its own dtype",
                 dtype=dtype, target="soft", target_dtype=target, checked=True,
                 interpreted=torch.float32 in (dtype, target))
        for dtype in FLOAT_DTYPES for target in FLOAT_DTYPES
    ],
    *[
        LossCase(f"soft {layout}", "the target has its own layout", target="soft",
                 target_layout=layout)
        for layout in LAYOUTS if layout != "contiguous"
    ],
    LossCase("soft contiguous, channels_last", "the target is in the other memory format",
             (2, 5, 9, 11), layout="channels_last", target="soft", checked=True),
    LossCase("soft contiguous, channels_last, tiles",
             "the target is in the other memory format, tile by tile", (1, 19, 43, 59),
             layout="channels_last", target="soft", interpreted=False),
    LossCase("soft channels_last, channels_last", "logits and target are both transposed",
             (1, 19, 43, 59), layout="channels_last", target="soft", target_layout="channels_last"),
    LossCase("soft masked", "only a mask can take out pixels of a soft target", target="soft",
             masked=0.3),
    LossCase("soft, tiles", "sums go on from tile to tile", (2, 5, 43, 59), target="soft",
             masked=0.1),
    LossCase("soft mask of nothing", "nothing counts: 0/0", target="soft", masked=1.0,
             checked=True),
    LossCase("one-hot floats", "probabilities may be hard labels", target="soft",
             values="one-hot target"),
]  # fmt: skip
