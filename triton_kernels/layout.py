"""How tensors lie in memory, as the host tells it to kernels (tile_io.py)."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor


def strides(tensor: Tensor | None, has_classes: bool) -> tuple[int, ...] | None:
    """(image, class, depth, row, column), or (image, class, pixel) where one stride leads from
    pixel to pixel throughout. Without classes the stride between them is 0."""
    if tensor is None:
        return None
    longer_than_1 = [
        (size, stride)
        for size, stride in zip(
            tensor.shape[1 + has_classes :], tensor.stride()[1 + has_classes :], strict=True
        )
        if size > 1
    ]
    is_segment = all(
        stride == next_size * next_stride
        for (_, stride), (next_size, next_stride) in itertools.pairwise(longer_than_1)
    )
    image, across, *along = strides_of_axes(tensor, has_classes)
    if is_segment:
        along = [longer_than_1[-1][1] if longer_than_1 else 1]
    return (image, across, *along)


def strides_of_axes(tensor: Tensor, has_classes: bool) -> tuple[int, ...]:
    """(image, class, depth, row, column); that of a dimension that is not there is 0."""
    spatial = tensor.stride()[1 + has_classes :]
    missing = (0,) * (3 - len(spatial))
    return (tensor.stride(0), tensor.stride(1) if has_classes else 0, *missing, *spatial)


def extent(tensor: Tensor | None) -> int:
    """How many elements lie between the first of an image and its last."""
    if tensor is None:
        return 0
    sizes_and_strides = zip(tensor.shape[1:], tensor.stride()[1:], strict=True)
    return sum((size - 1) * stride for size, stride in sizes_and_strides)


def is_vectorised(logits: Tensor) -> bool:
    """Whether a thread loads several elements of a tile at once: aligned pixels of one class that
    lie side by side, or aligned classes of one pixel."""
    image, across, *pixel = strides(logits, True)
    along = pixel[-1]
    steps = (image, across) if along == 1 else (image, along)
    is_aligned = all(step * logits.element_size() % 16 == 0 for step in steps)
    return len(pixel) == 1 and 1 in (along, across) and is_aligned


def as_integers(tensor: Tensor | None) -> Tensor | None:
    """Kernels read truth values as bytes."""
    return tensor.view(torch.uint8) if tensor is not None and tensor.dtype == torch.bool else tensor
