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
from .layout import as_integers, extent, is_vectorised, strides
from .slots import CLASS_COLUMNS, TargetColumns, slots
from .tiles import FOLD, MAX_BLOCK_C, MAX_GROUP, PARTIAL_BYTES, PROGRAMS, Tile, power_of_two, tile

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
    size = (1, 1, 1, *logits.shape[2:])[-3:]
    largest_extent = max(map(extent, (logits, integers, dense, mask)))
    if integers is None:
        kind, integer_columns = NO_INTEGERS, 0
    else:
        kind = BITS if has_bits else LABELS
    return {
        "logits": logits,
        "logits_strides": strides(logits, True),
        "integers": integers,
        "integers_strides": strides(integers, has_bits),
        "dense": dense,
        "dense_strides": strides(dense, True),
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
        "WIDE": largest_extent >= INT32 or math.prod(size) >= INT32 - 2**16,
        "DTYPE": tl.float64 if logits.dtype == torch.float64 else tl.float32,
    }


def chosen_tile(logits: Tensor, common: dict[str, object], accumulators: int) -> Tile:
    """The tile of the table. accumulators: how many columns the kernel adds up."""
    halvings = (
        not is_vectorised(logits),
        common["dense"] is not None,
        accumulators > 4,
        accumulators > 10,
        common["WINDOW"] > 0,
        logits.shape[1] > MAX_BLOCK_C,
    )
    is_row = common["logits_strides"][-1] == 1
    return tile(logits.shape[1], logits.element_size(), is_row, sum(halvings))


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

    chosen = chosen_tile(logits, common, row_slots.sums + row_slots.maxima)
    tiles = -(-math.prod(logits.shape[2:]) // chosen.block_p)
    row_size = (row_slots.sums + row_slots.maxima) * c + row_slots.totals
    limit = min(program_limit(logits.device), PARTIAL_BYTES // (8 * row_size))
    parts = min(max(limit // n, 1), tiles)
    group = 1 if chosen.chunks > 1 else min(-(-tiles // parts), MAX_GROUP)
    parts = min(parts, -(-tiles // group))
    partials = torch.empty(n * parts, row_size, dtype=torch.float64, device=logits.device)
    statistics = new_statistics(inputs, torch.empty)
    forward = {
        **common,
        "partials": partials,
        "parts": parts,
        "group": group,
        "SUMS": row_slots.sums,
        "MAXIMA": row_slots.maxima,
        "TOTALS": row_slots.totals,
        "FOLD": min(FOLD, chosen.block_p),
        "ADJACENT": is_vectorised(logits) and common["logits_strides"][-1] == 1,
        **tile_arguments(chosen),
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
        Launch(forward_kernel, n * parts, forward),
        Launch(finish_kernel, n * jobs, finish),
    ]
    return launches, statistics


# ---- backward ------------------------------------------------------------------------------------


def backward_launch(
    grad_sums: Tensor, grad_totals: Tensor, inputs: Inputs, scale: Tensor | None, grad: Tensor
) -> Launch:
    """The kernel that writes the gradient of the logits into `grad`."""
    logits = inputs.logits
    common = common_arguments(inputs)
    n = logits.shape[0]
    chosen = chosen_tile(logits, common, 0)
    tiles = -(-math.prod(logits.shape[2:]) // chosen.block_p)
    parts = min(max(program_limit(logits.device) // n, 1), tiles)
    common["WIDE"] = common["WIDE"] or extent(grad) >= INT32
    arguments = {
        **common,
        "grad": grad,
        "grad_strides": strides(grad, True),
        "grad_sums": grad_sums,
        "grad_totals": grad_totals,
        "grad_loss": None if scale is None else scale.contiguous(),
        "LOSS_OF_IMAGES": scale is not None and scale.numel() > 1,
        "images": n,
        "parts": parts,
        **tile_arguments(chosen),
    }
    return Launch(backward_kernel, n * parts, arguments)
