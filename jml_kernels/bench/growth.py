"""How cost grows with classes, pixels, images, the window of boundary smoothing and the ratio of
upsampling, and how large a batch may be."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass, replace

import numpy as np

from .cases import BenchmarkCase
from .figures import whole

CLASSES, PIXELS, BATCH, WINDOW, RATIO = "classes", "pixels", "batch", "k", "ratio"
#: What a place on an axis is called in a formula.
LETTERS = {CLASSES: "C", PIXELS: "P", BATCH: "N", WINDOW: "k", RATIO: "r"}

#: Bytes of full-size logits that no point of a sweep exceeds, unless the case itself does: the
#: oracle needs some thirty times as many.
LARGEST = 2**27


def _classes(case: BenchmarkCase) -> list[BenchmarkCase]:
    counts = sorted({2, 4, 8, 16, 32, 64, 128, case.shape[1]})
    return [replace(case, shape=(1, count, *case.shape[2:])) for count in counts]


def _pixels(case: BenchmarkCase) -> list[BenchmarkCase]:
    """One image, its sides halved and halved again."""
    shapes = [
        (1, case.shape[1], *(max(side // part, 1) for side in case.shape[2:]))
        for part in (8, 4, 2, 1)
    ]
    return [replace(case, shape=shape) for shape in dict.fromkeys(shapes)]


def _batch(case: BenchmarkCase) -> list[BenchmarkCase]:
    return [replace(case, shape=(n, *case.shape[1:])) for n in (1, 2, 4, 8)]


def _window(case: BenchmarkCase) -> list[BenchmarkCase]:
    image = replace(case, shape=(1, *case.shape[1:]), target="boundary")
    return [replace(image, boundary_size=size) for size in (3, 5, 7, 9, 13, 17)]


def _ratio(case: BenchmarkCase) -> list[BenchmarkCase]:
    """One target, and logits of ever lower resolution."""
    if not case.full_size:
        return []
    image = replace(case, shape=(1, *case.shape[1:]))
    return [replace(image, upsample=ratio) for ratio in (2, 4, 8, 16)]


AXES = {CLASSES: _classes, PIXELS: _pixels, BATCH: _batch, WINDOW: _window, RATIO: _ratio}


def along(axis: str, case: BenchmarkCase) -> list[BenchmarkCase]:
    """The cases of a sweep from one. Labels should be regions: drawn pixel by pixel, every window
    is at a boundary whatever its size. None where there is but one place: logits without spatial
    dimensions have one pixel an image."""
    cases = [one for one in AXES[axis](case) if one.full_bytes <= max(LARGEST, case.full_bytes)]
    return cases if len(cases) > 1 else []


@dataclass(frozen=True)
class Growth:
    """How the time of a step grows along an axis.

    Attributes:
        exponent: p of seconds ~ x^p, the slope of a line through the logarithms.
        fixed, each: of seconds = fixed + each * x, both >= 0.
    """

    exponent: float
    fixed: float
    each: float


def fit(x: list[float], seconds: list[float]) -> Growth:
    """Fit both forms, so that relative errors are least: times span decades.

    Args:
        x: at least two places, all different, > 0.
    """
    places, times = np.asarray(x, dtype=float), np.asarray(seconds, dtype=float)
    exponent = float(np.polyfit(np.log(places), np.log(times), 1)[0])
    columns = np.stack([1 / times, places / times], axis=1)  # each row's right side is 1
    fixed, each = np.linalg.lstsq(columns, np.ones_like(times), rcond=None)[0]
    if fixed < 0 or each < 0:  # then one of them alone
        only = columns[:, 1] if fixed < 0 else columns[:, 0]
        value = float(only.sum() / (only**2).sum())
        fixed, each = (0.0, value) if fixed < 0 else (value, 0.0)
    return Growth(exponent, float(fixed), float(each))


def growths(rows: list[dict], axis: str) -> dict[str, Growth]:
    """The growth of each competitor that ran at two places of an axis or more.

    Args:
        rows: along the axis.
    """
    points_by_name: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        for name, of in row["figures"].items():
            if whole(row) in of and name not in row["wrong"]:
                point = (place(axis, row), of[whole(row)]["seconds"]["median"])
                points_by_name.setdefault(name, []).append(point)
    return {
        name: fit(*map(list, zip(*points, strict=True)))
        for name, points in points_by_name.items()
        if len(points) > 1
    }


def place(axis: str, row: dict) -> int:
    """Where a row lies on an axis."""
    case = row["case"]
    if axis == PIXELS:
        return case["shape"][0] * math.prod(case["shape"][2:])
    if axis in (WINDOW, RATIO):
        return case[{WINDOW: "boundary_size", RATIO: "upsample"}[axis]]
    return case["shape"][{BATCH: 0, CLASSES: 1}[axis]]


def largest_batch(rows: list[dict], name: str, memory: float) -> int | None:
    """How many images fit where a loss is all there is: its inputs and what a step holds beside
    them, which grow in proportion; None where it is not known.

    Args:
        rows: along the axis of the batch.
        memory: bytes.
    """
    images = [
        (row["bytes"]["inputs"] + row["figures"][name]["peak bytes"]) / row["case"]["shape"][0]
        for row in rows
        if name in row["figures"]
    ]
    return int(memory // statistics.median(images)) if images else None
