"""From tensors to the launches of the forward and backward kernels."""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import torch
import triton.language as tl
from torch import Tensor

from ..checks import ignores_elements, is_integer, label_count
from ..reference import is_independent
from ..statistics import EXTREMA, SUMS, TOTALS, column_bits
from .backward import backward_kernel
from .finish import finish_kernel
from .forward import forward_kernel
from .inputs import Inputs
from .labels import BITS, LABELS, NO_INTEGERS
from .layout import as_integers, extent, is_vectorised, strides, strides_of_axes
from .slots import CLASS_COLUMNS, TargetColumns, slots
from .tiles import (
    FOLD,
    MAX_BLOCK_C,
    MAX_CELL_PIXELS,
    MAX_GROUP,
    MIN_BAND,
    PARTIAL_BYTES,
    PROGRAMS,
    Tile,
    power_of_two,
    tile,
    tile_of_cells,
)
from .upsampled_backward import upsampled_backward_kernel
from .upsampled_forward import upsampled_forward_kernel
from .upsampling import axes, largest_product, widest_cell

INT32 = 2**31

#: (sums, extrema, totals), see `reference.statistics`.
Statistics = tuple[Tensor, Tensor, Tensor]


class Launch(NamedTuple):
    """A kernel and what it is called with."""

    kernel: Callable
    programs: int
    arguments: dict[str, object]

    def run(self) -> None:
        self.kernel[(self.programs,)](**self.arguments)


def on_device(tensor: Tensor) -> contextlib.AbstractContextManager:
    """Triton launches on the current device: make it the tensor's."""
    return torch.cuda.device(tensor.device) if tensor.is_cuda else contextlib.nullcontext()


@functools.cache
def program_limit(device: torch.device) -> int:
    """How many programs a device holds at a time."""
    if device.type != "cuda":  # the interpreter, which runs one after another
        return 8
    return PROGRAMS * torch.cuda.get_device_properties(device).multi_processor_count


# ---- what forward and backward share -------------------------------------------------------------


def common_arguments(inputs: Inputs) -> dict[str, object]:
    """What forward and backward kernels are both called with."""
    logits, labels, dense, mask, ce_class_weights, ints, floats = inputs
    has_bits = dense is not None and is_integer(dense)
    integers = as_integers(dense if has_bits else labels)
    integer_columns = ints.dense_columns if has_bits else ints.label_columns
    dense_columns = ints.dense_columns
    if labels is None:  # whoever asks for nothing else gets the number of valid pixels
        dense_columns |= column_bits("valid")
    if has_bits or not dense_columns:
        dense = None  # nobody needs to read it
    ignores = dense is not None and ignores_elements(
        labels, dense, inputs.has_teacher, ints.ignore_index
    )
    has_teacher = dense is not None and inputs.has_teacher
    label_numbers = 2 if has_bits else label_count(logits.shape[1], inputs.activation)
    is_boundary = ints.boundary_size > 0 and not has_bits
    # A window of one pixel has no boundary.
    has_no_window = is_boundary and (ints.boundary_size == 1 or logits.dim() == 2)
    smoothing = 0.0 if has_no_window else floats.label_smoothing
    largest_number = max(map(extent, (logits, integers, dense, mask)))
    logits_axes = dense_axes = None
    if ints.upsample:
        logits_axes = axes(logits.shape[2:], inputs.size, bool(ints.align_corners))
        if has_teacher:
            dense_axes = axes(dense.shape[2:], inputs.size, bool(ints.align_corners))
        products = (largest_product(each, inputs.size) for each in (logits_axes, dense_axes))
        largest_number = max(largest_number, *products)
    size = (1, 1, 1, *inputs.size)[-3:]
    if integers is None:
        kind, integer_columns = NO_INTEGERS, 0
    else:
        kind = BITS if has_bits else LABELS
    return {
        "logits": logits,
        "logits_strides": source_strides(logits, logits_axes),
        "logits_axes": logits_axes,
        "integers": integers,
        "integers_strides": strides(integers, has_bits),
        "dense": dense,
        "dense_strides": source_strides(dense, dense_axes),
        "dense_axes": dense_axes,
        "mask": as_integers(mask),
        "mask_strides": strides(mask, False),
        "ce_class_weights": None if ce_class_weights is None else ce_class_weights.contiguous(),
        "depth": size[0],
        "height": size[1],
        "width": size[2],
        "ignore_index": ints.ignore_index,
        "label_deficit": smoothing - smoothing / label_numbers,
        "target_elsewhere": smoothing / label_numbers,
        "teacher_scale": 1 / floats.teacher_temperature if has_teacher else 1.0,
        "student_scale": 1 / floats.student_temperature,
        "CLASSES": logits.shape[1],
        "ACTIVATION": ints.activation,
        "INTEGERS": kind.value,
        "INTEGER_COLUMNS": integer_columns,
        "DENSE_COLUMNS": 0 if dense is None else dense_columns,
        "IGNORES": ignores,
        "HARD": integers is not None and smoothing == 0 and inputs.activation != "none",
        "WINDOW": ints.boundary_size if is_boundary and smoothing > 0 else 0,
        "SPATIAL": logits.dim() - 2,
        "TEACHER": has_teacher,
        "TEMPERED": dense is not None and floats.student_temperature != 1,
        "WIDE": largest_number >= INT32 or math.prod(size) >= INT32 - 2**16,
        "DTYPE": tl.float64 if logits.dtype == torch.float64 else tl.float32,
    }


def source_strides(tensor: Tensor | None, axes: tuple[int, ...] | None) -> tuple[int, ...] | None:
    """Those of logits or a dense target, which may be interpolated."""
    return strides(tensor, True) if axes is None else strides_of_axes(tensor, True)


def reads_vectors(logits: Tensor, common: dict[str, object]) -> bool:
    """Whether a thread loads several elements of a tile at once; never of what is interpolated."""
    return common["logits_axes"] is None and is_vectorised(logits)


def halvings(logits: Tensor, common: dict[str, object], accumulators: int) -> int:
    """How often what a thread holds is halved, see tiles.py. accumulators: how many columns the
    kernel adds up."""
    reasons = (
        not reads_vectors(logits, common),
        common["logits_axes"] is not None,
        common["dense"] is not None,
        accumulators > 4,
        accumulators > 10,
        common["WINDOW"] > 0,
        logits.shape[1] > MAX_BLOCK_C,
    )
    return sum(reasons)


def tile_of_pixels(logits: Tensor, common: dict[str, object], accumulators: int) -> Tile:
    """The tile of runs of pixels."""
    is_row = common["logits_axes"] is None and common["logits_strides"][-1] == 1
    size = logits.element_size()
    return tile(logits.shape[1], size, is_row, halvings(logits, common, accumulators))


def more_programs(chosen: Tile) -> int:
    """How many times as many programs live on a multiprocessor where they are of few warps."""
    return max(4 // chosen.warps, 1)


def tile_arguments(chosen: Tile) -> dict[str, object]:
    return {
        "BLOCK_C": chosen.block_c,
        "CHUNKS": chosen.chunks,
        "BLOCK_P": chosen.block_p,
        "num_warps": chosen.warps,
    }


# ---- forward -------------------------------------------------------------------------------------


def new_statistics(inputs: Inputs, make: Callable) -> Statistics:
    """Tensors for them, made by `torch.empty` or `torch.zeros`."""
    logits, targets = inputs.logits, inputs.targets
    n, c = logits.shape[:2]
    new = functools.partial(make, dtype=torch.float64, device=logits.device)
    return (
        new(targets, len(SUMS), n, c),
        new(targets, len(EXTREMA), n, c),
        new(targets, len(TOTALS), n),
    )


def target_columns(inputs: Inputs, common: dict[str, object]) -> list[TargetColumns]:
    """What is requested of each target, labels first."""
    independent = is_independent(inputs.logits, inputs.activation)
    is_bits = common["INTEGERS"] == BITS.value
    has_weights = inputs.ce_class_weights is not None and not independent
    targets = []
    if common["integers"] is not None:
        targets.append(
            TargetColumns(
                common["INTEGER_COLUMNS"],
                is_hard=common["HARD"],
                has_weight_sum=independent if is_bits else has_weights,
            )
        )
    if inputs.dense is not None and not is_bits:
        targets.append(
            TargetColumns(
                inputs.ints.dense_columns,
                is_teacher=common["TEACHER"],
                has_weight_sum=common["IGNORES"] and independent,
            )
        )
    return targets


def forward_launches(inputs: Inputs) -> tuple[list[Launch], Statistics]:
    """The kernels of the forward, and the statistics that they fill."""
    logits = inputs.logits
    common = common_arguments(inputs)
    n, c = logits.shape[:2]
    targets = target_columns(inputs, common)
    row_slots = slots(targets)
    if common["integers"] is not None:
        common["INTEGER_COLUMNS"] = targets[0].added()

    row_size = (row_slots.sums + row_slots.maxima) * c + row_slots.totals
    limit = min(program_limit(logits.device), PARTIAL_BYTES // (8 * row_size))
    share_out = _among_runs_of_pixels
    if common["logits_axes"] is not None and c <= MAX_BLOCK_C:
        share_out = _among_cells
    accumulators = row_slots.sums + row_slots.maxima
    kernel, walk = share_out(inputs, common, accumulators, max(limit // n, 1))
    parts = walk["parts"]
    partials = torch.empty(n * parts, row_size, dtype=torch.float64, device=logits.device)
    statistics = new_statistics(inputs, torch.empty)
    forward = {
        **common,
        "partials": partials,
        "SUMS": row_slots.sums,
        "MAXIMA": row_slots.maxima,
        "TOTALS": row_slots.totals,
        **walk,
    }
    block_c = min(power_of_two(c), 64)
    finish = {
        "partials": partials,
        "sums": statistics[0],
        "extrema": statistics[1],
        "totals": statistics[2],
        "images": n,
        "parts": parts,
        "CLASSES": c,
        "TARGETS": len(targets),
        "SLOTS": row_slots.of_columns,
        "SECOND_SLOTS": row_slots.second,
        "TOTAL_SLOTS": row_slots.of_totals,
        "VALID_FACTOR": c if is_independent(logits, inputs.activation) else 1,
        "FIRST_TOTAL": (row_slots.sums + row_slots.maxima) * c,
        "ROW": row_size,
        "BLOCK_C": block_c,
        "BLOCK_R": 64,
        "num_warps": 4,
    }
    jobs = len(targets) * len(CLASS_COLUMNS) * -(-c // block_c) + 1
    launches = [
        Launch(kernel, n * parts, forward),
        Launch(finish_kernel, n * jobs, finish),
    ]
    return launches, statistics


def _among_runs_of_pixels(
    inputs: Inputs, common: dict[str, object], accumulators: int, limit: int
) -> tuple[Callable, dict[str, object]]:
    """The forward kernel, and how at most `limit` programs share an image: a tile is a run of
    pixels."""
    chosen = tile_of_pixels(inputs.logits, common, accumulators)
    tiles = -(-math.prod(inputs.size) // chosen.block_p)
    parts = min(limit, tiles)
    group = 1 if chosen.chunks > 1 else min(-(-tiles // parts), MAX_GROUP)
    return forward_kernel, {
        "parts": min(parts, -(-tiles // group)),
        "group": group,
        "FOLD": min(FOLD, chosen.block_p),
        "ADJACENT": reads_vectors(inputs.logits, common) and common["logits_strides"][-1] == 1,
        **tile_arguments(chosen),
    }


def _among_cells(
    inputs: Inputs, common: dict[str, object], accumulators: int, limit: int
) -> tuple[Callable, dict[str, object]]:
    """The same, where a tile is a pixel of each of some cells."""
    logits, cells = inputs.logits, inputs.logits.shape[-1] + 1
    halved = halvings(logits, common, accumulators)
    chosen = tile_of_cells(logits.shape[1], logits.element_size(), halved, cells, 0)
    limit *= more_programs(chosen)
    lines = common["depth"] * common["height"]
    strips = -(-cells // chosen.block_p)
    widest = widest_cell(common["logits_axes"])
    pixels = min(widest, MAX_CELL_PIXELS)
    columns = strips * -(-widest // pixels)
    rows = max(min(lines * columns // limit, MAX_GROUP // pixels), 1)
    more = {
        "parts": min(limit, -(-lines // rows) * columns),
        "strips": strips,
        "rows": rows,
        "pixels": pixels,
        "widest": widest,
        **tile_arguments(chosen),
    }
    del more["CHUNKS"]
    return upsampled_forward_kernel, more


# ---- backward ------------------------------------------------------------------------------------


def backward_launch(
    grad_sums: Tensor, grad_totals: Tensor, inputs: Inputs, scale: Tensor | None, grad: Tensor
) -> Launch:
    """The kernel that writes the gradient of the logits into `grad`."""
    common = common_arguments(inputs)
    common["WIDE"] = common["WIDE"] or extent(grad) >= INT32
    arguments = {
        **common,
        "grad": grad,
        "grad_sums": grad_sums,
        "grad_totals": grad_totals,
        "grad_loss": None if scale is None else scale.contiguous(),
        "LOSS_OF_IMAGES": scale is not None and scale.numel() > 1,
        "images": len(grad),
    }
    if common["logits_axes"] is None:
        return _of_pixels(arguments)
    return _of_nodes(arguments)


def _of_pixels(arguments: dict[str, object]) -> Launch:
    """Of logits of full size."""
    logits, grad, images = (arguments[name] for name in ("logits", "grad", "images"))
    chosen = tile_of_pixels(logits, arguments, 0)
    del arguments["logits_axes"]
    tiles = -(-math.prod(grad.shape[2:]) // chosen.block_p)
    parts = min(max(program_limit(grad.device) // images, 1), tiles)
    more = {"grad_strides": strides(grad, True), "parts": parts, **tile_arguments(chosen)}
    return Launch(backward_kernel, images * parts, arguments | more)


def _of_nodes(arguments: dict[str, object]) -> Launch:
    """Of logits of lower resolution."""
    logits, grad = arguments["logits"], arguments["grad"]
    slices, rows, columns = (1, 1, *grad.shape[2:])[-3:]
    halved = halvings(logits, arguments, 0)
    chosen = tile_of_cells(logits.shape[1], logits.element_size(), halved, columns, 1)
    strips = -(-columns // (chosen.block_p - 1))
    programs = arguments["images"] * slices * strips * chosen.chunks
    bands = -(-program_limit(grad.device) * more_programs(chosen) // programs)
    band = max(-(-rows // bands), min(MIN_BAND, rows))
    bands = -(-rows // band)
    more = {
        "grad_strides": strides_of_axes(grad, True),
        "band": band,
        "bands": bands,
        "strips": strips,
        "widest": widest_cell(arguments["logits_axes"]),
        **tile_arguments(chosen),
    }
    more["CELLS"] = more.pop("BLOCK_P")
    return Launch(upsampled_backward_kernel, programs * bands, arguments | more)
