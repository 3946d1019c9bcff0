"""The launchers: from tensors to kernels. Imported only where Triton is there."""

from __future__ import annotations

import contextlib
import functools
import itertools
import math
from collections.abc import Callable
from typing import NamedTuple

import torch
import triton.language as tl
from torch import Tensor

from ..checks import is_integer, label_count
from ..reference import is_independent
from ..statistics import EXTREMA, SUMS, TOTALS, column_bits
from .arguments import Rule, check, check_gradients, check_integers, check_scale
from .backward import backward_kernel
from .finish import NOWHERE, OF_VALID, finish_kernel
from .forward import forward_kernel
from .pixel_math import NONE, SIGMOID, SOFTMAX
from .targets import BITS, LABELS, NO_INTEGERS
from .tiles import FOLD, MAX_BLOCK_C, MAX_GROUP, PARTIAL_BYTES, PROGRAMS, Tile, power_of_two, tile

ACTIVATIONS = {"softmax": SOFTMAX.value, "sigmoid": SIGMOID.value, "none": NONE.value}
CLASS_COLUMNS = SUMS + EXTREMA
INT32 = 2**31

#: What each column of a hard target is made of (x is in [0, 1]): sum x at the label is the
#: intersection too, and with sum 1 - x there it is the number of labels, above 0 if there is one.
HARD_SOURCES = {
    "intersection": ("true_positive",),
    "target_squared": ("true_positive", "false_negative"),
    "target_max": ("true_positive", "false_negative"),
    "present": ("true_positive", "false_negative"),
}


class Launch(NamedTuple):
    """A kernel and what it is called with."""

    kernel: Callable
    programs: int
    arguments: dict[str, object]

    def run(self) -> None:
        self.kernel[(self.programs,)](**self.arguments)


# ---- from tensors to arguments -------------------------------------------------------------------


def strides(tensor: Tensor | None, has_classes: bool) -> tuple[int, ...] | None:
    """(image, class, depth, row, column), or (image, class, pixel) where one stride leads from
    pixel to pixel throughout."""
    if tensor is None:
        return None
    spatial = tensor.shape[1 + has_classes :]
    steps = tensor.stride()[1 + has_classes :]
    across = tensor.stride(1) if has_classes else 0
    real = [(size, step) for size, step in zip(spatial, steps, strict=True) if size > 1]
    is_run = all(a[1] == b[0] * b[1] for a, b in itertools.pairwise(real))
    if is_run:
        return (tensor.stride(0), across, real[-1][1] if real else 1)
    return (tensor.stride(0), across, *(0,) * (3 - len(steps)), *steps)


def extent(tensor: Tensor | None) -> int:
    """Elements from the first of an image to its last."""
    if tensor is None:
        return 0
    return sum((n - 1) * s for n, s in zip(tensor.shape[1:], tensor.stride()[1:], strict=True))


def as_integers(tensor: Tensor | None) -> Tensor | None:
    return tensor.view(torch.uint8) if tensor is not None and tensor.dtype == torch.bool else tensor


def common_arguments(logits: Tensor, rule: Rule) -> dict[str, object]:
    """What forward and backward are both called with."""
    bits = rule.dense is not None and is_integer(rule.dense)
    integers = as_integers(rule.dense if bits else rule.labels)
    dense = rule.dense if rule.dense_columns and not bits else None  # else nobody needs to read it
    size = (1, 1, 1, *logits.shape[2:])[-3:]
    labels = 2 if bits else label_count(logits.shape[1], rule.activation)
    is_boundary = rule.boundary_size > 0 and not bits
    # A window of one pixel has no boundary.
    no_window = is_boundary and (rule.boundary_size == 1 or logits.dim() == 2)
    smoothing = 0.0 if no_window else rule.label_smoothing
    is_teacher = dense is not None and rule.teacher_temperature is not None
    weights = rule.ce_class_weights
    largest = max(map(extent, (logits, integers, dense, rule.mask)))
    return {
        "logits": logits,
        "logits_strides": strides(logits, True),
        "integers": integers,
        "integers_strides": strides(integers, bits),
        "dense": dense,
        "dense_strides": strides(dense, True),
        "mask": as_integers(rule.mask),
        "mask_strides": strides(rule.mask, False),
        "class_weights": None if weights is None else weights.contiguous(),
        "depth": size[0],
        "height": size[1],
        "width": size[2],
        "ignore_index": rule.ignore_index,
        "share": smoothing - smoothing / labels,
        "off": smoothing / labels,
        "teacher_scale": 1 / rule.teacher_temperature if is_teacher else 1.0,
        "student_scale": 1 / rule.student_temperature,
        "CLASSES": logits.shape[1],
        "ACTIVATION": ACTIVATIONS[rule.activation],
        "INTEGERS": (
            NO_INTEGERS.value if integers is None else BITS.value if bits else LABELS.value
        ),
        "INTEGER_COLUMNS": (
            0 if integers is None else rule.dense_columns if bits else rule.label_columns
        ),
        "DENSE_COLUMNS": 0 if dense is None else rule.dense_columns,
        "HARD": integers is not None and smoothing == 0 and rule.activation != "none",
        "WINDOW": rule.boundary_size if is_boundary and smoothing > 0 else 0,
        "SPATIAL": logits.dim() - 2,
        "TEACHER": is_teacher,
        "TEMPERED": dense is not None and rule.student_temperature != 1,
        "WIDE": largest >= INT32 or math.prod(size) >= INT32 - 2**16,
        "DTYPE": tl.float64 if logits.dtype == torch.float64 else tl.float32,
    }


def chosen_tile(logits: Tensor, common: dict[str, object], accumulators: int) -> Tile:
    """Of the table. accumulators: how many columns the kernel adds up."""
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


def is_vectorised(logits: Tensor) -> bool:
    """Whether a thread loads several elements of a tile at once: aligned runs of one class's
    pixels, or of one pixel's classes."""
    image, across, *pixel = strides(logits, True)
    along = pixel[-1]
    steps = (image, across) if along == 1 else (image, along)
    aligned = all(step * logits.element_size() % 16 == 0 for step in steps)
    return len(pixel) == 1 and 1 in (along, across) and aligned


def tile_arguments(chosen: Tile) -> dict[str, object]:
    return {
        "BLOCK_C": chosen.block_c,
        "CHUNKS": chosen.chunks,
        "BLOCK_P": chosen.block_p,
        "num_warps": chosen.warps,
    }


@functools.cache
def program_limit(device: torch.device) -> int:
    """How many programs a device holds at a time."""
    if device.type != "cuda":  # the interpreter, which runs one after another
        return 8
    return PROGRAMS * torch.cuda.get_device_properties(device).multi_processor_count


def on_device(tensor: Tensor) -> contextlib.AbstractContextManager:
    """Triton launches on the current device."""
    return torch.cuda.device(tensor.device) if tensor.is_cuda else contextlib.nullcontext()


# ---- forward -------------------------------------------------------------------------------------


def sources(columns: int, hard: bool) -> int:
    """The columns that the forward adds up to make those asked for."""
    names = [name for i, name in enumerate(CLASS_COLUMNS) if columns >> i & 1]
    found = {s for name in names for s in (HARD_SOURCES.get(name, (name,)) if hard else (name,))}
    return column_bits(*found) | columns & column_bits(*TOTALS)


class Slots(NamedTuple):
    """Where each column of a call's targets lies in a row of partials, in the order of the kernel:
    sums of all targets, maxima of all targets, totals."""

    sums: int
    maxima: int
    totals: int
    of_columns: tuple[int, ...]
    more: tuple[int, ...]
    of_totals: tuple[int, ...]


def slots(
    columns: list[int], hard: list[bool], teacher: list[bool], own_weight: list[bool]
) -> Slots:
    """Each argument: of every target. own_weight: its cross-entropy's weight is a sum of its own,
    and not the number of pixels or elements."""
    made = [sources(c, h) for c, h in zip(columns, hard, strict=True)]
    place = {}
    for names in (SUMS, EXTREMA):
        for t, bits in enumerate(made):
            for name in names:
                if bits & column_bits(name):
                    place[t, name] = len(place)
    n_sums = sum((bits & column_bits(*SUMS)).bit_count() for bits in made)
    of_columns, more, of_totals = [], [], []
    n_totals = 0
    for t, bits in enumerate(columns):
        for name in CLASS_COLUMNS:
            parts = HARD_SOURCES.get(name, (name,)) if hard[t] else (name,)
            found = [place[t, part] for part in parts] if bits & column_bits(name) else []
            first, second = (*found, NOWHERE.value, NOWHERE.value)[:2]
            of_columns.append(first)
            more.append(second)
        for name in TOTALS[:-1]:
            slot = NOWHERE.value
            if bits & column_bits(name):
                if name == "cross_entropy_weight" and not own_weight[t]:
                    slot = OF_VALID.value
                elif name != "target_entropy" or teacher[t]:
                    slot, n_totals = n_totals, n_totals + 1
            of_totals.append(slot)
        of_totals.append(None)
    of_totals = [n_totals if slot is None else slot for slot in of_totals]
    return Slots(
        n_sums, len(place) - n_sums, n_totals + 1, tuple(of_columns), tuple(more), tuple(of_totals)
    )


def outputs_of(logits: Tensor, targets: int, make: Callable) -> tuple[Tensor, Tensor, Tensor]:
    """(sums, extrema, totals), made by `torch.empty` or `torch.zeros`."""
    n, c = logits.shape[:2]
    new = functools.partial(make, dtype=torch.float64, device=logits.device)
    return (
        new(targets, len(SUMS), n, c),
        new(targets, len(EXTREMA), n, c),
        new(targets, len(TOTALS), n),
    )


def forward_launches(logits: Tensor, rule: Rule) -> tuple[list[Launch], tuple[Tensor, ...]]:
    """The kernels of the forward, and the (sums, extrema, totals) that they fill."""
    common = common_arguments(logits, rule)
    n, c = logits.shape[:2]
    independent = is_independent(logits, rule.activation)
    has_integers = common["integers"] is not None
    has_dense = rule.dense is not None and common["INTEGERS"] != BITS.value
    weighted = rule.ce_class_weights is not None and not independent
    columns, hard, teacher, own_weight = [], [], [], []
    if has_integers:
        columns.append(common["INTEGER_COLUMNS"])
        hard.append(common["HARD"])
        teacher.append(False)
        own_weight.append(common["INTEGERS"] == BITS.value or weighted)
    if has_dense:
        columns.append(rule.dense_columns)
        hard.append(False)
        teacher.append(common["TEACHER"])
        own_weight.append(False)
    places = slots(columns, hard, teacher, own_weight)
    if has_integers:
        common["INTEGER_COLUMNS"] = sources(columns[0], hard[0])

    chosen = chosen_tile(logits, common, places.sums + places.maxima)
    tiles = -(-math.prod(logits.shape[2:]) // chosen.block_p)
    row = (places.sums + places.maxima) * c + places.totals
    limit = min(program_limit(logits.device), PARTIAL_BYTES // (8 * row))
    parts = min(max(limit // n, 1), tiles)
    group = 1 if chosen.chunks > 1 else min(-(-tiles // parts), MAX_GROUP)
    parts = min(parts, -(-tiles // group))
    partials = torch.empty(n * parts, row, dtype=torch.float64, device=logits.device)
    targets = len(columns)
    outputs = outputs_of(logits, targets, torch.empty)
    forward = {
        **common,
        "partials": partials,
        "parts": parts,
        "group": group,
        "SUMS": places.sums,
        "MAXIMA": places.maxima,
        "TOTALS": places.totals,
        "FOLD": min(FOLD, chosen.block_p),
        "ADJACENT": is_vectorised(logits) and common["logits_strides"][-1] == 1,
        **tile_arguments(chosen),
    }
    block_c = min(power_of_two(c), 64)
    finish = {
        "partials": partials,
        "sums": outputs[0],
        "extrema": outputs[1],
        "totals": outputs[2],
        "images": n,
        "parts": parts,
        "CLASSES": c,
        "TARGETS": targets,
        "SLOTS": places.of_columns,
        "MORE_SLOTS": places.more,
        "TOTAL_SLOTS": places.of_totals,
        "VALID_FACTOR": c if independent else 1,
        "FIRST_TOTAL": (places.sums + places.maxima) * c,
        "ROW": row,
        "BLOCK_C": block_c,
        "BLOCK_R": 64,
        "num_warps": 4,
    }
    jobs = targets * len(CLASS_COLUMNS) * -(-c // block_c) + 1
    launches = [
        Launch(forward_kernel, n * parts, forward),
        Launch(finish_kernel, n * jobs, finish),
    ]
    return launches, outputs


def statistics(logits: Tensor, *arguments) -> tuple[Tensor, Tensor, Tensor]:
    """`reference.statistics` as two kernels; the last argument, inplace_backward, is autograd's."""
    rule = Rule(*arguments[: len(Rule._fields)])
    check(logits, rule)
    if not logits.is_cuda:
        check_integers(logits, rule)
    if logits.numel() == 0:
        return outputs_of(logits, rule.targets, torch.zeros)
    launches, outputs = forward_launches(logits, rule)
    with on_device(logits):
        for launch in launches:
            launch.run()
    return outputs


# ---- backward ------------------------------------------------------------------------------------


def backward_launch(
    grad_sums: Tensor,
    grad_totals: Tensor,
    logits: Tensor,
    rule: Rule,
    scale: Tensor | None,
    grad: Tensor,
) -> Launch:
    """The kernel that writes the gradient of the logits into `grad`."""
    common = common_arguments(logits, rule)
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
        "grad_loss": scale,
        "images": n,
        "parts": parts,
        **tile_arguments(chosen),
    }
    return Launch(backward_kernel, n * parts, arguments)


def _write_gradient(
    grad_sums: Tensor, grad_totals: Tensor, logits: Tensor, arguments: tuple, grad: Tensor
) -> None:
    rule = Rule(*arguments[: len(Rule._fields)])
    scale = arguments[len(rule)] if len(arguments) > len(rule) else None
    check(logits, rule)
    check_scale(scale, logits)
    check_gradients(grad_sums, grad_totals, logits, rule)
    if grad.numel():
        with on_device(logits):
            backward_launch(grad_sums, grad_totals, logits, rule, scale, grad).run()


def statistics_backward(
    grad_sums: Tensor, grad_totals: Tensor, logits: Tensor, *arguments
) -> Tensor:
    """The gradient of the logits, with their dtype and memory format. The last argument, scale, is
    what the gradients are multiplied with, one number or None."""
    grad = torch.empty_like(logits)
    _write_gradient(grad_sums, grad_totals, logits, arguments, grad)
    return grad


def statistics_backward_(
    grad_sums: Tensor, grad_totals: Tensor, logits: Tensor, *arguments
) -> None:
    """The same, written over the logits.

    Raises:
        RuntimeError: for logits of which several elements share memory.
    """
    if any(
        size > 1 and step == 0 for size, step in zip(logits.shape, logits.stride(), strict=True)
    ):
        raise RuntimeError(
            "logits is expanded: its memory cannot hold a gradient (inplace_backward)"
        )
    _write_gradient(grad_sums, grad_totals, logits, arguments, logits)
