"""The same values with other strides."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor


def surrounded(values: Tensor, step: int, margin: int) -> Tensor:
    """A view of `values`' size into a larger tensor whose other elements no kernel may use: NaN,
    or a label that is none."""
    junk = math.nan if values.is_floating_point() else values.dtype == torch.bool or 101
    outer = torch.full(
        [step * size + 2 * margin for size in values.shape],
        junk,
        dtype=values.dtype,
        device=values.device,
    )
    inner = outer[tuple(slice(margin, margin + step * size, step) for size in values.shape)]
    return inner.copy_(values)


#: Functions of (N, ...) tensors. In "expanded" one image stands for all.
LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "contiguous": lambda t: t.contiguous(),
    "channels_last": lambda t: t.movedim(1, -1).contiguous().movedim(-1, 1),
    "cropped": lambda t: surrounded(t, 1, 1),
    "stepped": lambda t: surrounded(t, 2, 0),
    "transposed": lambda t: t.transpose(-1, -2).contiguous().transpose(-1, -2),
    "expanded": lambda t: t[:1].expand_as(t),
}
