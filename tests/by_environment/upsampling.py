"""Logits of lower resolution in the CUDA kernels, beyond the corpus: patches of the gradient that
have neighbours on every side, rows that are cut into tiles, and every way to share out classes."""

from __future__ import annotations

import pytest
import torch
from judges import assert_columns, assert_loss, assert_objective
from steps import step

from by_environment.backend import BACKEND
from jml_kernels.backend import BY_NAME
from jml_kernels.selfcheck.corpus.case import BLS, SIGMOID, LossCase
from jml_kernels.selfcheck.corpus.drawing import shared
from jml_kernels.selfcheck.corpus.losses import make
from jml_kernels.selfcheck.corpus.upsampling import upsampled

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.skipif(
        BACKEND != "cuda" or not BY_NAME[BACKEND].upsamples, reason="these are its patches"
    ),
]

_BLOCKS = {"options": BLS, "drawn": "blocks", "ignored": 0.02}

CASES = [
    upsampled(name, why, shape, full_size, align_corners, **more)
    for name, why, shape, full_size, align_corners, more in [
        ("patches", "they have neighbours on all sides, and there are several in a turn",
         (2, 5, 24, 40), (96, 160), False, {}),
        ("patches, smoothed", "the same of another kernel", (2, 8, 24, 40), (95, 161), True,
         _BLOCKS),
        ("patches of 19 classes", "one warp has all classes", (1, 19, 17, 33), (68, 132), True,
         {"masked": 0.1}),
        ("patches of 45 classes", "several warps share them", (1, 45, 7, 40), (21, 130), False, {}),
        ("patches of 150 classes", "as many as a fast kernel holds of 8 warps", (1, 150, 5, 33),
         (20, 132), False, _BLOCKS),
        ("patches of 300 classes", "they come in chunks", (1, 300, 3, 20), (7, 61), False, {}),
        ("patches of 2 classes", "a thread has 4 pixels", (1, 2, 5, 70), (11, 280), False,
         {"dtype": torch.float16, "layout": "channels_last"}),
        ("wide cells", "a row has more pixels between two columns than a tile", (1, 4, 2, 9),
         (5, 1000), False, {}),
        ("wide cells, align_corners", "the same with columns at both ends", (1, 23, 2, 9),
         (5, 1000), True, {}),
        ("one column", "all pixels of a row are made of one", (1, 4, 9, 1), (20, 300), False, {}),
        ("hardly larger", "there are as many columns as pixels, and one less", (1, 4, 100, 99),
         (101, 100), False, {}),
        ("rows alone", "along them nothing lies between", (1, 4, 20, 90), (80, 90), True, {}),
        ("columns alone", "between rows nothing lies", (1, 4, 40, 30), (40, 120), False, {}),
        ("a volume", "patches have rows and columns", (1, 4, 5, 20, 20), (10, 60, 70), False, {}),
        ("a volume of 90 classes", "patches have one row", (1, 90, 3, 5, 20), (4, 8, 60), True,
         _BLOCKS),
        ("a long sequence", "a row alone", (2, 5, 500), (2003,), False, {}),
        ("a row of a volume", "dimensions of size 1 are everywhere", (1, 4, 1, 1, 40), (1, 1, 160),
         False, {}),
        ("float64", "threads have one pixel", (1, 5, 20, 30), (80, 121), False,
         {"dtype": torch.float64}),
    ]
]  # fmt: skip


def name_of(case: LossCase) -> str:
    return case.name.removeprefix("upsample, ")


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_patches(case):
    """Of fast kernels where classes are few enough; then with every column, of general ones."""
    assert_loss(case, "metric1", BACKEND, "cpu")
    assert_columns(case, BACKEND, "cpu")


def _smoothed(size: int | None, smoothing: float = 0.2) -> dict:
    boundary = {} if size is None else {"boundary_size": size}
    return {
        "drawn": "blocks",
        "ignored": 0.02,
        "loss": "cross-entropy",
        "weights": ("class_weights", "ce_class_weights"),
        "options": {"label_smoothing": smoothing, **boundary},
    }


#: Of the kernels that go cell by cell, which look for boundaries in a run of rows.
SMOOTHED = [
    upsampled(f"smoothed, {name}", why, shape, full_size, align_corners, **more)
    for name, why, shape, full_size, align_corners, more in [
        ("everywhere", "no window is looked at", (2, 5, 12, 20), (48, 80), False,
         {**_smoothed(None), "masked": 0.1}),
        ("by all", "every class has the same target", (1, 5, 6, 9), (24, 36), True,
         _smoothed(None, 1.0)),
        ("windows of 1", "no pixel is at a boundary", (1, 5, 6, 9), (24, 36), False, _smoothed(1)),
        ("windows of 3", "a run and its neighbours have other labels", (2, 19, 13, 25), (52, 100),
         False, _smoothed(3)),
        ("windows of 7", "they reach into the next strip", (1, 8, 14, 30), (53, 119), True,
         {**_smoothed(7), "target_layout": "stepped", "target_dtype": torch.uint8, "ignored": 0.0}),
        ("windows of 17", "the largest for which there is room", (1, 5, 10, 20), (40, 80), False,
         _smoothed(17)),
        ("windows of 19", "they go tile by tile", (1, 5, 10, 20), (40, 80), False, _smoothed(19)),
        ("windows of 9, a small image", "they reach beyond it on every side", (1, 5, 2, 3), (5, 6),
         False, _smoothed(9)),
        ("windows of 99", "all of the image is in each", (1, 5, 6, 9), (24, 36), False,
         _smoothed(99)),
        ("45 classes", "several warps share a strip and its windows", (1, 45, 7, 20), (28, 80),
         False, _smoothed(5)),
        ("150 classes", "eight warps do", (1, 150, 4, 17), (16, 68), False, _smoothed(3)),
        ("far apart", "each row is taken by itself", (1, 24, 6, 9), (24, 36), False,
         {**_smoothed(3), "values": "saturated"}),
    ]
]  # fmt: skip


@pytest.mark.parametrize("case", SMOOTHED, ids=name_of)
def test_smoothed(case):
    assert_loss(case, "metric1", BACKEND, "cpu")
    assert_objective(case, BACKEND, "cpu")


GENERAL = [
    upsampled("sigmoid, bits", "no softmax is taken", (1, 40, 5, 30), (20, 118), target="bits",
              loss="cross-entropy", options=SIGMOID),
    upsampled("soft", "the target has the full size", (1, 30, 6, 20), (23, 77), target="soft",
              masked=0.1, loss="cross-entropy"),
    upsampled("distillation", "a teacher has patches of none, and places of its own",
              (2, 20, 9, 20), (36, 80), loss="distillation", teacher_size=(5, 61), ignored=0.05),
]  # fmt: skip


@pytest.mark.parametrize("case", GENERAL, ids=name_of)
def test_any_target(case):
    assert_objective(case, BACKEND, "cpu")


@pytest.mark.parametrize("case", CASES[:6], ids=name_of)
def test_the_same_bits_twice(case):
    first, second = (step(make(case, BACKEND, "cpu"), *shared(case).arguments) for _ in range(2))
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])
