"""From tensors to the launches that count for metrics: three."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import torch
import triton.language as tl
from torch import Tensor

from .. import checks, option_checks
from ..checks import ACTIVATIONS
from ..packing import TallyInts
from ..reference_tally import BIN_COLUMNS, IMAGE_ROWS
from .inputs import check_lower
from .launch import INT32, Launch, more_programs, program_limit, source_strides, tile_arguments
from .layout import as_integers, extent, is_vectorised, strides
from .tally import finish_tally_kernel, tally_kernel
from .tally_maps import FLAGS, mark_kernel
from .tiles import MAX_BLOCK_C, PARTIAL_BYTES, power_of_two, tile
from .upsampling import axes, largest_product

#: Pixels of a program that goes over maps.
MAP_BLOCK = 512
#: Of a histogram of pairs: a thread then holds few of its numbers.
MAX_MATRIX_CLASSES = 32
#: The fewest keys of a histogram, one for each lane of a warp of any GPU.
MIN_KEYS = 64
#: Copies of bins that are read at a time.
BLOCK_R = 16

#: of_images, confusion, calibration, classwise, wrong: see `reference_tally.tally`.
Counts = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


def checked_ints(
    logits: Tensor, labels: Tensor, mask: Tensor | None, tally_ints: Sequence[int]
) -> TallyInts:
    """Raise TypeError or ValueError, naming argument, value and what was expected."""
    if len(tally_ints) != len(TallyInts._fields):
        expected = len(TallyInts._fields)
        raise ValueError(f"tally_ints has {len(tally_ints)} numbers: expected {expected}")
    ints = TallyInts(*tally_ints)
    checks.check_logits(logits)
    checks.check_labels("labels", labels)
    checks.check_same_device("labels", labels, logits)
    size = tuple(labels.shape[1:])
    if labels.shape[0] != logits.shape[0] or len(size) != logits.dim() - 2:
        raise ValueError(
            f"labels has shape {tuple(labels.shape)}: does not fit logits of shape "
            f"{tuple(logits.shape)}"
        )
    if not ints.upsample and size != tuple(logits.shape[2:]):
        raise ValueError(f"labels has shape {tuple(labels.shape)}: expected the size of the logits")
    check_lower("logits", logits, size)
    if mask is not None:
        checks.check_mask(mask, logits, size)
    if ACTIVATIONS[ints.activation] != "softmax":
        raise ValueError(f"activation={ints.activation}: expected 0, a softmax")
    if ints.bins < 1:
        raise ValueError(f"bins={ints.bins}: expected a positive number")
    if ints.boundary_size != 0:
        option_checks.boundary_size("boundary_size", ints.boundary_size)
    return ints


def new_counts(logits: Tensor, ints: TallyInts, make) -> Counts:
    """Tensors for them, made by `torch.empty` or `torch.zeros`."""
    n, c = logits.shape[:2]
    columns = len(BIN_COLUMNS)
    sizes = (
        *((n, len(IMAGE_ROWS), c), (c, c)),
        *((2, ints.bins, columns), (c, ints.bins, columns), (1,)),
    )
    return tuple(make(size, dtype=torch.int64, device=logits.device) for size in sizes)


def tally_launches(
    logits: Tensor, labels: Tensor, mask: Tensor | None, ints: TallyInts
) -> tuple[list[Launch], Counts]:
    """The kernels, and the counts that they fill."""
    n, c = logits.shape[:2]
    size = tuple(labels.shape[1:])
    pixels = math.prod(size)
    depth, height, width = (1, 1, 1, *size)[-3:]
    counts = new_counts(logits, ints, torch.empty)
    of_images, confusion, calibration, classwise, wrong = counts
    marks = torch.empty(n * pixels, dtype=_mark_dtype(c), device=logits.device)
    # A wider window than one that always holds the image holds no more.
    radius = min(ints.boundary_size // 2, max(size, default=0))
    logits_axes = None
    if ints.upsample:
        logits_axes = axes(logits.shape[2:], size, bool(ints.align_corners))
    largest_number = max(
        extent(logits), extent(labels), extent(mask), largest_product(logits_axes, size)
    )
    wide = largest_number >= INT32 or pixels >= INT32 - 2**16

    limit = program_limit(logits.device)
    logits_strides = source_strides(logits, logits_axes)
    is_vector = logits_axes is None and is_vectorised(logits)
    is_row = logits_axes is None and logits_strides[-1] == 1
    # Additions to bins take an address for each element. With half as many elements two programs of
    # 8 warps live on a multiprocessor; of most classes it would be one of 16, which spills.
    reasons = (c <= MAX_BLOCK_C // 2, not is_vector, logits_axes is not None, c > MAX_BLOCK_C)
    halvings = 1 + sum(reasons)
    chosen = tile(c, logits.element_size(), is_row, halvings)
    if logits.dtype == torch.float64 and chosen.block_c == MAX_BLOCK_C:
        # A number of 64 bits and an address for each of 16 elements are more than a thread has.
        half = MAX_BLOCK_C // 2
        chosen = dataclasses.replace(chosen, block_c=half, chunks=-(-c // half))
    tiles = -(-pixels // chosen.block_p)
    # Histograms of a program have 32 bits.
    parts = min(max(limit * more_programs(chosen) // n, (pixels >> 30) + 1), tiles)
    row = 2 * ints.bins + len(BIN_COLUMNS) * c * ints.bins
    n_copies = max(min(PARTIAL_BYTES // (8 * row), n * parts), 1)
    copies = torch.empty(n_copies * row, dtype=torch.int64, device=logits.device)

    place = {"depth": depth, "height": height, "width": width}
    bin_keys = max(power_of_two(ints.bins), MIN_KEYS // 4)
    of_maps = {
        "CLASSES": c,
        "RADIUS": radius,
        "SPATIAL": len(size),
        "WIDE": wide,
        "BLOCK": MAP_BLOCK,
        "num_warps": 4,
    }
    outputs = {
        "of_images": of_images,
        "confusion": confusion,
        "calibration": calibration,
        "classwise": classwise,
        "wrong": wrong,
        "copies": copies,
    }
    map_tiles = -(-pixels // MAP_BLOCK)
    mark = {
        "marks": marks,
        "labels": as_integers(labels),
        "labels_strides": strides(labels, False),
        "mask": as_integers(mask),
        "mask_strides": strides(mask, False),
        **outputs,
        **{f"n_{name}": each.numel() for name, each in outputs.items() if name != "wrong"},
        **place,
        "images": n,
        "ignore_index": ints.ignore_index,
        **of_maps,
    }
    count = {
        "logits": logits,
        "logits_strides": logits_strides,
        "logits_axes": logits_axes,
        "marks": marks,
        **outputs,
        **place,
        "parts": parts,
        "n_copies": n_copies,
        "CLASSES": c,
        "BINS": ints.bins,
        "CALIBRATION": bool(ints.calibration),
        "CLASSWISE": bool(ints.classwise),
        "BOUNDARIES": radius > 0,
        "MATRIX": c <= MAX_MATRIX_CLASSES,
        "KEYS": power_of_two(c) if c <= MAX_MATRIX_CLASSES else max(power_of_two(c), MIN_KEYS),
        "BIN_KEYS": bin_keys,
        "WIDE": wide,
        "DTYPE": tl.float64 if logits.dtype == torch.float64 else tl.float32,
        **tile_arguments(chosen),
    }
    jobs = 2 + c if ints.classwise else 2 if ints.calibration else 0
    finish = {
        "marks": marks,
        "of_images": of_images,
        "calibration": calibration,
        "classwise": classwise,
        "copies": copies,
        "n_copies": n_copies,
        **place,
        "tiles": map_tiles,
        "jobs": jobs,
        "BINS": ints.bins,
        "BIN_KEYS": bin_keys,
        "BLOCK_R": BLOCK_R,
        **of_maps,
    }
    launches = [
        Launch(mark_kernel, min(n * map_tiles, 4 * limit), mark),
        Launch(tally_kernel, n * parts, count),
    ]
    programs = jobs + (n * map_tiles if radius > 0 else 0)
    if programs:
        launches.append(Launch(finish_tally_kernel, programs, finish))
    return launches, counts


def _mark_dtype(classes: int) -> torch.dtype:
    """The smallest that holds a mark, see tally_maps.py."""
    largest = (classes + 1 << FLAGS.value) + 3
    fitting = (torch.uint8, torch.int16, torch.int32)
    return next(dtype for dtype in fitting if largest <= torch.iinfo(dtype).max)
