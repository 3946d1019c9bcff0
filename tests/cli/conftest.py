"""A small synthetic map, so that no test of the command line needs the data packages."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from jml_kernels.cli.train.land_cover import CLASSES, LandCover, cover_fractions, validation_columns
from jml_kernels.cli.train.training import Settings

HEIGHT, WIDTH, STRIPE, BLOCK = 48, 128, 16, 2


@pytest.fixture(autouse=True)
def _one_thread(one_thread):
    """These tensors are too small to share."""


@pytest.fixture(scope="session")
def synthetic() -> LandCover:
    """Patches of the six classes, each of its own colour: easy to learn."""
    generator = torch.Generator().manual_seed(0)
    patches = torch.randint(
        len(CLASSES), (1, 1, HEIGHT * BLOCK // 15, WIDTH * BLOCK // 15), generator=generator
    )
    size = (HEIGHT * BLOCK, WIDTH * BLOCK)
    cells = F.interpolate(patches.float(), size=size, mode="nearest")[0, 0].to(torch.uint8)
    cover = cover_fractions(cells, len(CLASSES), BLOCK)
    # Water must be bluer than red.
    colours = torch.randint(256, (len(CLASSES), 3), generator=generator)
    colours[0] = torch.tensor([10, 40, 120])
    noise = torch.randn((3, HEIGHT, WIDTH), generator=generator) * 10
    image = torch.einsum("chw,ck->khw", cover, colours.float()) + noise
    return LandCover(
        image=image.clamp(0, 255).to(torch.uint8),
        cover=cover,
        held_out=validation_columns(WIDTH, STRIPE),
        source="Synthetic patches.",
    )


@pytest.fixture
def settings() -> Settings:
    """A handful of steps."""
    return Settings(steps=6, batch_size=2, crop=16, width=4, measured_steps=2)
