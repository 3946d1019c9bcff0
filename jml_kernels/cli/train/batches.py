"""Random crops of the training stripes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .land_cover import WATER, LandCover

MIN_LAND = 0.5
"""Three quarters of the map is sea: a crop must hold this share of land."""


class Batch(NamedTuple):
    """N crops of S x S pixels."""

    image: Tensor
    """float32 (N, 3, S, S), as `normalise` leaves it"""
    labels: Tensor
    """int64 (N, S, S)"""
    cover: Tensor
    """float32 (N, C, S, S), the soft labels"""


def normalise(data: LandCover) -> Tensor:
    """The image with mean 0 and standard deviation 1 on the training columns of each channel,
    float32 (3, H, W)."""
    image = data.image.float()
    training = image[:, :, ~data.held_out]
    deviation, mean = torch.std_mean(training, dim=(1, 2), keepdim=True)
    return (image - mean) / deviation.clamp(min=1)


def crop_positions(data: LandCover, size: int, min_land: float = MIN_LAND) -> Tensor:
    """Where a crop may start: wholly in training columns, with enough land.

    Returns:
        int64 (number of crops, 2), the row and column of the first pixel.

    Raises:
        ValueError: where there is none.
    """
    in_training = ~data.held_out.unfold(0, size, 1).any(dim=1)
    # A mean over windows is one over their columns of one over their rows, size / 2 times as fast.
    rows = F.avg_pool2d(1 - data.cover[None, WATER : WATER + 1], (size, 1), stride=1)
    land = F.avg_pool2d(rows, (1, size), stride=1)[0, 0]
    positions = ((land >= min_land) & in_training).nonzero()
    if len(positions) == 0:
        raise ValueError(f"no crop of {size} x {size} pixels lies in the training stripes")
    return positions


def batches(data: LandCover, count: int, batch_size: int, size: int, seed: int) -> Iterator[Batch]:
    """`count` batches, the same ones for the same seed."""
    image, labels, positions = normalise(data), data.labels, crop_positions(data, size)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(count):
        chosen = positions[torch.randint(len(positions), (batch_size,), generator=generator)]
        windows = [(..., slice(r, r + size), slice(c, c + size)) for r, c in chosen.tolist()]
        yield Batch(
            *(torch.stack([map_[w] for w in windows]) for map_ in (image, labels, data.cover))
        )
