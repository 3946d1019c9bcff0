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
