"""Label smoothing, of every pixel or of those at a boundary."""

from __future__ import annotations

import torch

from .case import LS, SIGMOID, LossCase
from .dtypes import INTEGER_DTYPES, name_of


def _bls(size: int, epsilon: float = 0.1) -> dict[str, object]:
    return {"label_smoothing": epsilon, "boundary_size": size}


EVERYWHERE = [
    LossCase("smoothing 0.1", "y takes two values, neither 0 nor 1", options=LS),
    LossCase("smoothing 1", "the uniform distribution: nothing of the label is left",
             options={"label_smoothing": 1.0}, checked=True),
    LossCase("smoothing, ignored", "ignored pixels have no target", ignored=0.3, options=LS,
             checked=True),
    LossCase("smoothing, masked", "masked pixels have no target", masked=0.3, options=LS),
    LossCase("smoothing 19", "the share of each class is e / C", (1, 19, 43, 59), options=LS,
             interpreted=False),
    LossCase("smoothing 0-D", "images without spatial dimensions have no windows", (7, 5),
             options=LS),
    LossCase("smoothing halves", "smoothed labels beside float16", dtype=torch.float16,
             options=LS),
]  # fmt: skip

BOUNDARIES = [
    *[
        LossCase(f"boundary {size}, {len(shape) - 2}-D",
                 "windows have every size in every dimension", shape, drawn="blocks",
                 options=_bls(size), checked=(size, len(shape)) in ((3, 3), (5, 4), (3, 5)),
                 interpreted=size < 5 or len(shape) < 5)
        for shape in [(2, 4, 29), (2, 4, 11, 13), (2, 4, 7, 8, 9)]
        for size in (1, 3, 5, 7)
    ],
    LossCase("boundary 0-D", "a pixel has no neighbours", (7, 5), options=_bls(3)),
    LossCase("boundary without smoothing", "there is nothing to smooth", drawn="blocks",
             options=_bls(3, 0.0)),
    LossCase("boundary, full smoothing", "the label itself is lost", drawn="blocks",
             options=_bls(3, 1.0)),
    LossCase("boundary, window above image", "k is larger than every side", (2, 4, 3, 2),
             options=_bls(7)),
    LossCase("boundary, window above volume", "k is larger than every side of a volume",
             (2, 4, 2, 3, 2), options=_bls(7), interpreted=False),
    LossCase("boundary 41", "k is far larger than every side", drawn="blocks", options=_bls(41),
             checked=True, interpreted=False),
    LossCase("boundary, 1 pixel", "a window holds nothing else", (2, 4, 1, 1),
             options=_bls(3)),
    LossCase("boundary, uniform", "an image of one label has no boundary", drawn="constant",
             options=_bls(3)),
    LossCase("boundary, noise", "every pixel is at a boundary", (1, 4, 16, 16), options=_bls(3)),
    LossCase("boundary, ignored", "an ignored pixel in the window forbids smoothing",
             drawn="blocks", ignored=0.05, options=_bls(3), checked=True),
    LossCase("boundary, mostly ignored", "hardly a window is without an ignored pixel",
             (1, 4, 16, 16), drawn="blocks", ignored=0.7, options=_bls(3)),
    LossCase("boundary, ignored 255", "the usual encoding of data sets, with windows",
             target_dtype=torch.uint8, drawn="blocks", ignored=0.05,
             options={**_bls(5), "ignore_index": 255}),
    LossCase("boundary, ignored 0", "a valid class is ignored", drawn="blocks",
             options={**_bls(3), "ignore_index": 0}),
    LossCase("boundary, masked", "a masked pixel's label still makes a boundary", drawn="blocks",
             masked=0.3, options=_bls(3), checked=True),
    LossCase("boundary, masked bad labels",
             "a masked pixel may hold any label, which then counts as ignored", drawn="blocks",
             masked=0.1, values="bad labels under the mask", options=_bls(3)),
    LossCase("boundary in one half", "there are tiles with and without smoothed pixels",
             (1, 4, 43, 59), drawn="blocks in one half", options=_bls(3)),
    LossCase("boundary, tiles", "windows reach over the tile's edge", (1, 4, 43, 59),
             drawn="blocks", options=_bls(5), checked=True),
    LossCase("boundary, channels_last, tiles",
             "windows are read in the labels' order, and logits transposed", (1, 4, 43, 59),
             layout="channels_last", drawn="blocks", options=_bls(3)),
    LossCase("boundary, tiles, 3-D", "windows reach over planes and tiles", (1, 3, 7, 19, 23),
             drawn="blocks", ignored=0.01, options=_bls(3), interpreted=False),
    *[
        LossCase(f"boundary, labels {layout}", "windows follow the labels' strides",
                 drawn="blocks", target_layout=layout, options=_bls(3))
        for layout in ("cropped", "stepped", "one image", "one pixel", "transposed")
    ],
    *[
        LossCase(f"boundary, {name_of(dtype)}", "windows compare every dtype", (2, 2, 9, 10),
                 target_dtype=dtype, drawn="blocks", options=_bls(3),
                 checked=dtype == torch.int16, interpreted=dtype == torch.bool)
        for dtype in INTEGER_DTYPES
    ],
    LossCase("boundary, binary", "there are two labels of one class", (2, 1, 9, 10), drawn="blocks",
             options={**_bls(3), **SIGMOID}),
    LossCase("boundary, sigmoid", "labels of independent classes are smoothed", drawn="blocks",
             options={**_bls(3), **SIGMOID}, checked=True),
]  # fmt: skip

SMOOTHED = [*EVERYWHERE, *BOUNDARIES]
