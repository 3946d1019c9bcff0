"""Checks of arguments, before any kernel runs. A message names the argument, its value and
what was expected."""

from __future__ import annotations

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
REDUCTIONS = ("mean", "none")
DISTILLATIONS = ("ce", "kl")


def is_integer(tensor: Tensor) -> bool:
    """Whether a tensor holds integers; bool counts as one."""
    return not (tensor.is_floating_point() or tensor.is_complex())


def result_dtype(logits: Tensor) -> torch.dtype:
    """Of losses and public statistics."""
    return torch.float64 if logits.dtype == torch.float64 else torch.float32


def check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name}={value!r}: expected one of {', '.join(map(repr, choices))}")


def check_number(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name}={value!r}: expected a number")


def check_share(name: str, value: object) -> None:
    check_number(name, value)
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"{name}={value!r}: expected a number in [0, 1]")


def check_boundary_size(value: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1 or value % 2 == 0:
        raise ValueError(f"boundary_size={value!r}: expected an odd positive integer or None")


def check_non_negative(name: str, value: float) -> None:
    check_number(name, value)
    if not (0.0 <= value < float("inf")):
        raise ValueError(f"{name}={value!r}: expected a finite number >= 0")


def check_positive(name: str, value: object) -> None:
    check_number(name, value)
    if not 0.0 < value < float("inf"):
        raise ValueError(f"{name}={value!r}: expected a finite number > 0")


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
