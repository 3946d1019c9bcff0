"""Shapes: numbers of classes, images and pixels, with integer labels and with probabilities."""

from __future__ import annotations

from .case import LossCase

# Flags of cases.
_QUICK = {"checked": True, "quick": True}
_CHECKED = {"checked": True}
_NOT_INTERPRETED = {"interpreted": False}
_CHECKED_COMPILED = {**_CHECKED, **_NOT_INTERPRETED}

#: Name, why and shape, and the flags with labels and with probabilities.
_OF_BOTH = [
    ("0-D", "classification: no spatial dimension", (7, 5), _CHECKED, _CHECKED),
    ("1-D", "sequences have one spatial dimension", (2, 5, 41), _CHECKED, _CHECKED_COMPILED),
    ("3-D", "volumes have three spatial dimensions", (2, 4, 3, 5, 4), _CHECKED, _QUICK),
    ("2 classes", "this is the smallest softmax", (2, 2, 5, 7), _CHECKED, _CHECKED_COMPILED),
    ("19 classes", "Cityscapes has as many", (1, 19, 17, 16), _CHECKED, _CHECKED_COMPILED),
    ("40 classes", "the number is no power of two", (1, 40, 5, 7), _QUICK, _CHECKED_COMPILED),
    ("150 classes", "ADE20K has as many: tiles are smaller, and here are three", (1, 150, 23, 25),
     _CHECKED, _CHECKED),
    ("200 classes", "they are more than two groups of GPU threads hold at a time", (1, 200, 3, 5),
     _CHECKED_COMPILED, _CHECKED_COMPILED),
    ("1000 classes", "this is the most that is promised", (1, 1000, 3, 5), _CHECKED, _CHECKED),
    ("1 pixel", "there is nothing to vectorise", (1, 5, 1, 1), _CHECKED, _CHECKED_COMPILED),
    ("0 images", "the last batch of a filtered data set may be empty", (0, 5, 4, 4), _QUICK,
     _CHECKED_COMPILED),
    ("0 pixels", "a crop may be empty", (2, 5, 0, 4), _CHECKED, _CHECKED),
    ("1023 pixels", "these are one less than a tile", (1, 3, 1023), _CHECKED, _CHECKED_COMPILED),
    ("1024 pixels", "these are exactly a tile", (1, 3, 1024), _CHECKED, _CHECKED_COMPILED),
    ("1025 pixels", "these are one more than a tile", (1, 3, 1025), _QUICK, _CHECKED_COMPILED),
    ("several tiles", "sums go on from tile to tile", (2, 5, 43, 59), _CHECKED, _CHECKED),
    ("many images", "images are shared out among threads", (37, 3, 5),
     _CHECKED_COMPILED, _CHECKED_COMPILED),
    ("many tiles of an image", "tiles are shared out among threads", (1, 7, 151, 163),
     _CHECKED_COMPILED, _CHECKED_COMPILED),
    ("2.6 million", "this is an image of usual size", (2, 19, 256, 272),
     {**_CHECKED_COMPILED, "slow": True}, {**_CHECKED_COMPILED, "slow": True}),
]  # fmt: skip

#: Name, why, shape and flags: with labels alone.
_OF_LABELS = [
    ("3 classes", "a vector has more lanes than there are classes", (2, 3, 5, 7), {}),
    ("21 classes", "PASCAL VOC has as many", (1, 21, 8, 8), {}),
    ("171 classes", "COCO-Stuff has as many: an odd number, and tiles are smaller still",
     (1, 171, 17, 19), {}),
    ("1000 classes, tiles", "1000 classes take more than one of the smallest tiles",
     (1, 1000, 131), _NOT_INTERPRETED),
    ("1 pixel, 0-D", "this is the smallest input", (1, 3), {}),
    ("1 pixel an image", "images have no run of pixels", (9, 4, 1), {}),
    ("0 images, 0-D", "there is nothing to reduce", (0, 3), {}),
    ("primes", "no size divides a tile or a vector", (3, 7, 13, 11), {}),
    ("a row", "the height is 1", (2, 5, 1, 37), {}),
    ("a column", "the width is 1", (2, 5, 37, 1), {}),
    *[
        (f"{n} pixels", "one less, exactly and one more than tiles and vectors", (1, 3, n),
         {} if n in (15, 16, 17, 255, 256, 257) else _NOT_INTERPRETED)
        for n in (15, 16, 17, 63, 64, 65, 255, 256, 257, 511, 512, 513)
    ],
    ("1120 pixels", "the last tile is shorter, but made of whole vectors", (2, 5, 1120), {}),
    ("several tiles, 3-D", "a tile ends inside a plane", (1, 3, 7, 19, 23), {}),
    ("several tiles, 19", "sums go on from tile to tile, with many classes", (1, 19, 43, 59), {}),
    ("many tiles", "so many images that several tiles make one piece of work", (90, 2, 1025),
     _NOT_INTERPRETED),
]  # fmt: skip

SHAPES = [
    *[
        LossCase(name, why, shape, loss="cross-entropy", **labels)
        for name, why, shape, labels, _ in _OF_BOTH
    ],
    *[
        LossCase(name, why, shape, loss="cross-entropy", **more)
        for name, why, shape, more in _OF_LABELS
    ],
    *[
        LossCase(f"{name}, soft", why, shape, target="soft", **soft)
        for name, why, shape, _, soft in _OF_BOTH
    ],
]
