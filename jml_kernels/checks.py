"""Checks of arguments, before any kernel runs. A message names the argument, its value and
what was expected."""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from .options import TargetOptions

LOGITS_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
MAX_SPATIAL = 3
ACTIVATIONS = ("softmax", "sigmoid", "none")
ACTIVE_CLASSES = ("all", "present", "label", "prob", "both")
AGGREGATIONS = ("dataset", "image", "class")
REDUCTIONS = ("mean", "sum", "image", "none")
DISTILLATIONS = ("ce", "kl")


def is_integer(tensor: Tensor) -> bool:
    """Whether a tensor holds integers; bool counts as one."""
    return not (tensor.is_floating_point() or tensor.is_complex())


def result_dtype(logits: Tensor) -> torch.dtype:
    """Of losses and public statistics."""
    return torch.float64 if logits.dtype == torch.float64 else torch.float32


def check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name}={value!r}: expected one of {', '.join(map(repr, choices))}")


# ---- options: each check returns what was given as a Python object ------------------------------


def number(name: str, value: object) -> float:
    """A real number of Python or numpy."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name}={value!r}: expected a number")
    return float(value)


def finite(name: str, value: object) -> float:
    if not math.isfinite(number(name, value)):
        raise ValueError(f"{name}={value!r}: expected a finite number")
    return float(value)


def share(name: str, value: object) -> float:
    if not 0.0 <= number(name, value) <= 1.0:
        raise ValueError(f"{name}={value!r}: expected a number in [0, 1]")
    return float(value)


def non_negative(name: str, value: object) -> float:
    if not 0.0 <= number(name, value) < math.inf:
        raise ValueError(f"{name}={value!r}: expected a finite number >= 0")
    return float(value)


def positive(name: str, value: object) -> float:
    if not 0.0 < number(name, value) < math.inf:
        raise ValueError(f"{name}={value!r}: expected a finite number > 0")
    return float(value)


def boolean(name: str, value: object) -> bool:
    """True or False, of Python or numpy; not whatever has a truth value, as the word "False"."""
    if isinstance(value, bool) or type(value).__name__ in ("bool", "bool_"):  # numpy's
        return bool(value)
    raise TypeError(f"{name}={value!r}: expected True or False")


def integer(name: str, value: object) -> int:
    """An integer of Python or numpy that 64 bits hold."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{name}={value!r}: expected an integer")
    if not -(2**63) <= value < 2**63:
        raise ValueError(f"{name}={value!r}: expected an integer of 64 bits")
    return int(value)


def boundary_size(name: str, value: object) -> int:
    expected = f"{name}={value!r}: expected an odd positive integer or None"
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(expected)
    if not 1 <= value < 2**63 or value % 2 == 0:
        raise ValueError(expected)
    return int(value)


def one_or_two(name: str, value: object) -> int:
    """A variant or a norm."""
    is_integer = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not is_integer or value not in (1, 2):
        raise ValueError(f"{name}={value!r}: expected 1 or 2")
    return int(value)


def smooth(name: str, value: object) -> float | tuple[float, float]:
    """One number, or a pair of them."""
    if not isinstance(value, (tuple, list)):
        return non_negative(name, value)
    if len(value) != 2:
        raise ValueError(f"{name}={value!r}: expected a number, or two of them")
    return non_negative(f"{name}[0]", value[0]), non_negative(f"{name}[1]", value[1])


def classes(name: str, value: object) -> tuple[int, ...] | Tensor | None:
    """Indices of classes, or a bool for each of them."""
    if value is None:
        return None
    if isinstance(value, Tensor) and value.dtype == torch.bool and value.dim() == 1:
        return value
    if isinstance(value, Tensor) or not isinstance(value, Iterable) or isinstance(value, str):
        raise TypeError(
            f"{name}={value!r}: expected a list of class indices, or a bool tensor of shape (C,)"
        )
    indices = [integer(f"{name}[{i}]", index) for i, index in enumerate(value)]
    negative = [index for index in indices if index < 0]
    if negative or not indices:
        raise ValueError(f"{name}={value!r}: expected at least one index, and all of them >= 0")
    return tuple(dict.fromkeys(indices))


def aggregation(name: str, value: object) -> str | dict[str, float]:
    """One of `AGGREGATIONS`, or a mapping of some of them to weights."""
    if not isinstance(value, Mapping):
        check_choice(name, value, AGGREGATIONS)
        return value
    if not value:
        raise ValueError(f"{name}={{}}: expected at least one weight")
    for how in value:
        check_choice(name, how, AGGREGATIONS)
    return {how: non_negative(f"{name}[{how!r}]", weight) for how, weight in value.items()}


# ---- tensors -------------------------------------------------------------------------------------


def check_labels(name: str, labels: Tensor) -> None:
    """Labels alone: integers of 1 + 0 to 3 dimensions."""
    if not is_integer(labels):
        raise TypeError(f"{name} has dtype {labels.dtype}: expected an integer dtype")
    if not 1 <= labels.dim() <= 1 + MAX_SPATIAL:
        raise ValueError(
            f"{name} has shape {tuple(labels.shape)}: expected (N, *spatial) with 0 to "
            f"{MAX_SPATIAL} spatial dimensions"
        )


def check_logits(logits: Tensor, name: str = "logits") -> None:
    if not isinstance(logits, Tensor):
        raise TypeError(f"{name} is a {type(logits).__name__}: expected a Tensor")
    if logits.dtype not in LOGITS_DTYPES:
        raise TypeError(
            f"{name} has dtype {logits.dtype}: expected float16, bfloat16, float32 or float64"
        )
    if not 2 <= logits.dim() <= 2 + MAX_SPATIAL:
        raise ValueError(
            f"{name} has shape {tuple(logits.shape)}: expected (N, C, *spatial) with 0 to "
            f"{MAX_SPATIAL} spatial dimensions"
        )
    if logits.shape[1] == 0:
        raise ValueError(f"{name} has shape {tuple(logits.shape)}: expected at least one class")


def check_same_device(name: str, tensor: Tensor, logits: Tensor) -> None:
    if tensor.device != logits.device:
        raise ValueError(f"{name} is on {tensor.device}: expected {logits.device}, as the logits")


def check_mask(mask: Tensor, logits: Tensor) -> None:
    expected = (logits.shape[0], *logits.shape[2:])
    if not isinstance(mask, Tensor):
        raise TypeError(f"mask is a {type(mask).__name__}: expected a Tensor")
    if mask.dtype != torch.bool:
        raise TypeError(f"mask has dtype {mask.dtype}: expected torch.bool")
    if tuple(mask.shape) != expected:
        raise ValueError(f"mask has shape {tuple(mask.shape)}: expected {expected}")
    check_same_device("mask", mask, logits)


def check_teacher(teacher_logits: Tensor, logits: Tensor) -> None:
    check_logits(teacher_logits, "teacher_logits")
    if teacher_logits.shape != logits.shape:
        raise ValueError(
            f"teacher_logits has shape {tuple(teacher_logits.shape)}: expected "
            f"{tuple(logits.shape)}, as the student's"
        )
    check_same_device("teacher_logits", teacher_logits, logits)


def split_target(
    logits: Tensor, target: Tensor, options: TargetOptions, name: str = "target"
) -> tuple[Tensor | None, ...]:
    """Tell labels from a dense target: returns (labels, dense), one of them None.

    Labels are integers (N, *spatial). A dense target is (N, C, *spatial): probabilities, or
    integers 0 and 1 where classes are independent. A single channel of integers is labels.
    """
    if not isinstance(target, Tensor):
        raise TypeError(f"{name} is a {type(target).__name__}: expected a Tensor")
    check_same_device(name, target, logits)
    if target.is_complex():
        raise TypeError(f"{name} has dtype {target.dtype}: expected an integer or floating dtype")
    n, c, *spatial = logits.shape
    shape, label_shape, dense_shape = tuple(target.shape), (n, *spatial), (n, c, *spatial)
    integers = not target.is_floating_point()
    one_channel = c == 1 and options.activation != "softmax"

    if integers and shape == dense_shape and one_channel:
        return target.squeeze(1), None
    if not integers and shape == label_shape and one_channel:
        return None, target.unsqueeze(1)
    if integers and target.dim() == logits.dim() - 1:
        if shape != label_shape:
            raise ValueError(f"{name} has shape {shape}: expected {label_shape}, labels of logits")
        return target, None
    if integers and options.activation == "softmax":
        raise ValueError(
            f"{name} has shape {shape} and dtype {target.dtype}: expected integer labels of shape "
            f"{label_shape}; for probabilities, a floating dtype and shape {dense_shape}"
        )
    if shape != dense_shape:
        kind = "integer labels 0 and 1" if integers else "probabilities"
        raise ValueError(f"{name} has shape {shape}: expected {dense_shape} for {kind}")
    if not integers and target.dtype not in LOGITS_DTYPES:
        raise TypeError(
            f"{name} has dtype {target.dtype}: expected an integer dtype, float16, bfloat16, "
            "float32 or float64"
        )
    if integers and options.boundary_size is not None:
        raise ValueError(
            f"boundary_size={options.boundary_size!r}: expected None with a target of shape "
            f"{shape}, which has no map of labels"
        )
    return None, target


def checked_labels(logits: Tensor, labels: Tensor, options: TargetOptions) -> Tensor:
    """The labels beside a teacher, (N, *spatial)."""
    labels, dense = split_target(logits, labels, options, "labels")
    if dense is not None:
        raise ValueError(
            f"labels has shape {tuple(dense.shape)} and dtype {dense.dtype}: expected integer "
            f"labels of shape {(logits.shape[0], *logits.shape[2:])} beside a teacher"
        )
    return labels


def check_class_weights(weights: Tensor, logits: Tensor, name: str = "class_weights") -> None:
    if not isinstance(weights, Tensor):
        raise TypeError(f"{name} is a {type(weights).__name__}: expected a Tensor")
    if weights.dim() != 1 or weights.shape[0] != logits.shape[1]:
        raise ValueError(
            f"{name} has shape {tuple(weights.shape)}: expected ({logits.shape[1]},), one for each "
            "class of logits"
        )
    check_same_device(name, weights, logits)


def label_count(num_classes: int, activation: str) -> int:
    """How many labels there are: one class that is not a softmax is a binary task, 0 and 1."""
    return 2 if num_classes == 1 and activation != "softmax" else num_classes


def check_integer_targets(
    logits: Tensor,
    labels: Tensor | None,
    dense: Tensor | None,
    mask: Tensor | None,
    activation: str,
    ignore_index: int,
) -> None:
    """`check_label_range` of the labels or, without any, of a dense target of integers 0 and 1."""
    if labels is not None:
        count = label_count(logits.shape[1], activation)
        check_label_range(labels, mask, count, ignore_index)
    elif is_integer(dense):
        check_label_range(dense, mask, 2, ignore_index)


def check_label_range(
    integers: Tensor, mask: Tensor | None, num_labels: int, ignore_index: int
) -> None:
    """Raise an IndexError for the first counted label outside [0, num_labels); the host waits."""
    index = integers.to(torch.int64)
    bad = (index != ignore_index) & ((index < 0) | (index >= num_labels))
    if mask is not None:
        bad = bad & (mask if mask.dim() == bad.dim() else mask.unsqueeze(1))
    if bad.any():
        position = tuple(bad.nonzero()[0].tolist())
        where = ", ".join(map(str, position))
        # The words of the CPU kernel, csrc/cpu/operators.cpp.
        raise IndexError(
            f"target has label {int(index[position])} at position ({where}): expected a label in "
            f"[0, {num_labels}) or ignore_index={ignore_index}"
        )
