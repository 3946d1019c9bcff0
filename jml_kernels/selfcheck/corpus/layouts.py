"""The same values in memory with other strides."""

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


def _reversed(values: Tensor) -> Tensor:
    backwards = range(values.dim())[::-1]
    return values.permute(*backwards).contiguous().permute(*backwards)


#: Functions of tensors (N, ...), which give a tensor of the same shape.
LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "contiguous": lambda t: t.contiguous(),
    "channels_last": lambda t: t.movedim(1, -1).contiguous().movedim(-1, 1),
    # Rows neither start at the storage's beginning nor end where the next one starts.
    "cropped": lambda t: surrounded(t, 1, 1),
    # No dimension has stride 1.
    "stepped": lambda t: surrounded(t, 2, 0),
    "cropped channels_last": lambda t: surrounded(t.movedim(1, -1), 1, 1).movedim(-1, 1),
    # Stride 0: one image, pixel or class stands for all.
    "one image": lambda t: t[:1].expand_as(t),
    "one pixel": lambda t: t[(..., *[slice(1)] * (t.dim() - 2))].expand_as(t),
    "one class": lambda t: t[:, :1].expand_as(t),
    # Dense, but in an order that is neither of the two memory formats.
    "transposed": lambda t: t.transpose(-1, -2).contiguous().transpose(-1, -2),
    "classes first": lambda t: t.transpose(0, 1).contiguous().transpose(0, 1),
    "reversed": _reversed,
}
