"""Checks of arguments, before any kernel runs. A message names the argument, its value and
what was expected."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from .packing import NEVER

if TYPE_CHECKING:
    from .options import TargetOptions

LOGITS_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
MAX_SPATIAL = 3
ACTIVATIONS = ("softmax", "sigmoid", "none")
ACTIVE_CLASSES = ("all", "present", "label", "prob", "both")
#: How a loss chooses active classes: beside the modes of users one that stands for "all" where the
#: target is dense, whose elements may be ignored one by one.
ACTIVE_MODES = (*ACTIVE_CLASSES, "counted")
AGGREGATIONS = ("dataset", "image", "class")
REDUCTIONS = ("mean", "sum", "image", "none")
DISTILLATIONS = ("ce", "kl")
#: For 1, 2 and 3 spatial dimensions.
UPSAMPLINGS = ("linear", "bilinear", "trilinear")


def is_integer(tensor: Tensor) -> bool:
    """Whether a tensor holds integers; bool counts as one."""
    return not (tensor.is_floating_point() or tensor.is_complex())


def result_dtype(logits: Tensor) -> torch.dtype:
    """Of losses and public statistics."""
    return torch.float64 if logits.dtype == torch.float64 else torch.float32


# ---- tensors -------------------------------------------------------------------------------------


def check_integers(name: str, labels: Tensor) -> None:
    if not isinstance(labels, Tensor):
        raise TypeError(f"{name} is a {type(labels).__name__}: expected a Tensor")
    if not is_integer(labels):
        raise TypeError(f"{name} has dtype {labels.dtype}: expected an integer dtype")


def check_labels(name: str, labels: Tensor) -> None:
    """Labels alone: integers of 1 + 0 to 3 dimensions."""
    check_integers(name, labels)
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


def checked_logits(logits: Tensor, options: TargetOptions, name: str = "logits") -> Tensor:
    """The logits as a plain tensor."""
    check_logits(logits, name)
    if options.upsample is not None:
        _check_rank_of_upsampling(options.upsample, logits, name)
    if logits.shape[1] == 1 and options.activation == "softmax":  # it is 1 whatever the logit
        raise ValueError(
            f"{name} has shape {tuple(logits.shape)}: expected at least two classes with "
            "activation='softmax', or activation='sigmoid' for a binary task"
        )
    return plain(logits)


def _check_rank_of_upsampling(upsample: str, logits: Tensor, name: str) -> None:
    count = logits.dim() - 2
    if UPSAMPLINGS.index(upsample) + 1 != count:
        expected = repr(UPSAMPLINGS[count - 1]) if count else "None"
        raise ValueError(
            f"upsample={upsample!r}: expected {expected} with {name} of shape "
            f"{tuple(logits.shape)}, whose number of spatial dimensions is {count}"
        )


def check_lower(
    name: str, logits: Tensor, size: tuple[int, ...], options: TargetOptions, owner: str
) -> None:
    """Whether logits can be interpolated to a size: to no lower one, and not from no pixel."""
    low = tuple(logits.shape[2:])
    if all(n == full or 0 < n < full for n, full in zip(low, size, strict=True)):
        return
    raise ValueError(
        f"{name} has shape {tuple(logits.shape)}: expected spatial sizes from 1 to {size}, "
        f"those of {owner}, which upsample={options.upsample!r} interpolates to"
    )


def _upsampling_cure(spatial: tuple[int, ...], logits: Tensor) -> str:
    """What to do where something has larger spatial sizes than logits that are not interpolated."""
    low = tuple(logits.shape[2:])
    is_larger = len(spatial) == len(low) and spatial != low and min(low, default=0) > 0
    if not is_larger or any(full < n for full, n in zip(spatial, low, strict=True)):
        return ""
    return f"; upsample={UPSAMPLINGS[len(low) - 1]!r} interpolates logits of lower resolution"


def plain(tensor: Tensor) -> Tensor:
    """A subclass that only has functions of its own is taken as the tensor that it is, so that two
    kinds may meet in a call, and the loss is a plain tensor."""
    kind = type(tensor)
    if kind is Tensor or kind.__torch_dispatch__ is not Tensor.__torch_dispatch__:
        return tensor
    with torch._C.DisableTorchFunctionSubclass():
        return tensor.as_subclass(Tensor)


def check_same_device(name: str, tensor: Tensor, logits: Tensor) -> None:
    if tensor.device != logits.device:
        raise ValueError(f"{name} is on {tensor.device}: expected {logits.device}, as the logits")


def check_mask(mask: Tensor, logits: Tensor, size: tuple[int, ...], name: str = "mask") -> None:
    """size: the spatial sizes that the loss is computed at."""
    expected = (logits.shape[0], *size)
    if not isinstance(mask, Tensor):
        raise TypeError(f"{name} is a {type(mask).__name__}: expected a Tensor")
    if mask.dtype != torch.bool:
        raise TypeError(f"{name} has dtype {mask.dtype}: expected torch.bool")
    if tuple(mask.shape) != expected:
        raise ValueError(f"{name} has shape {tuple(mask.shape)}: expected {expected}")
    check_same_device(name, mask, logits)


def checked_teacher(teacher_logits: Tensor, logits: Tensor, options: TargetOptions) -> Tensor:
    """The teacher's logits as a plain tensor; with upsample their spatial sizes are their own."""
    check_logits(teacher_logits, "teacher_logits")
    shape, expected = tuple(teacher_logits.shape), tuple(logits.shape)
    if options.upsample is None:
        fits, but = shape == expected, ""
        same_classes = shape[:2] == expected[:2] and len(shape) == len(expected)
        if not fits and same_classes and len(shape) > 2:
            mode = UPSAMPLINGS[len(shape) - 3]
            but = f"; with upsample={mode!r} a teacher's logits have spatial sizes of their own"
    else:
        fits, but = shape[:2] == expected[:2] and len(shape) == len(expected), " but for its size"
    if not fits:
        raise ValueError(
            f"teacher_logits has shape {shape}: expected {expected}, as the student's{but}"
        )
    check_same_device("teacher_logits", teacher_logits, logits)
    return plain(teacher_logits)


def check_inplace(inputs: tuple[Tensor | None, ...]) -> None:
    """Whether the logits' memory, the first of the inputs', may hold the gradient after the
    backward.

    Raises:
        RuntimeError: for a leaf that requires grad, or a view of one, as PyTorch's own in-place
            operations do; for logits whose elements share memory with each other.
        ValueError: for another input that shares it.
    """
    logits, *others = inputs
    cure = "inplace_backward=True: expected"
    if torch._C._functorch.is_functorch_wrapped_tensor(logits):
        raise RuntimeError(
            f"{cure} logits outside of torch.func (grad, jacrev, vmap), whose tensors have no "
            "memory of their own"
        )
    base = logits._base if logits._is_view() else logits
    # A leaf may itself be a view of memory that requires no grad, as of a flat buffer.
    if torch.is_grad_enabled() and logits.requires_grad and (logits.is_leaf or base.is_leaf):
        raise RuntimeError(
            f"{cure} logits that an operation has made: these are a leaf that requires grad, or a "
            "view of one, whose values the gradient would overwrite"
        )
    if _has_shared_elements(logits):
        raise RuntimeError(
            f"{cure} logits whose elements have memory of their own: these have shape "
            f"{tuple(logits.shape)} and strides {logits.stride()}, as an expanded tensor has"
        )
    for other in others:
        if other is not None and _share_memory(logits, other):
            raise ValueError(
                f"{cure} logits that share no memory with other arguments: the gradient would "
                f"overwrite one of shape {tuple(other.shape)}"
            )


def _has_shared_elements(tensor: Tensor) -> bool:
    """Whether two elements may lie at one address: by sizes and strides, which can be too careful
    with unusual ones."""
    if tensor.numel() == 0:
        return False
    reach = 0  # of the dimensions with smaller strides
    sizes_and_strides = zip(tensor.shape, tensor.stride(), strict=True)
    for stride, size in sorted((stride, size) for size, stride in sizes_and_strides if size > 1):
        if stride <= reach:
            return True
        reach += stride * (size - 1)
    return False


def _share_memory(one: Tensor, other: Tensor) -> bool:
    if one.numel() == 0 or other.numel() == 0 or one.device != other.device:
        return False
    (first, end), (other_first, other_end) = _addresses(one), _addresses(other)
    return first < other_end and other_first < end


def _addresses(tensor: Tensor) -> tuple[int, int]:
    """From the first element's to behind the last one's."""
    last = sum((n - 1) * step for n, step in zip(tensor.shape, tensor.stride(), strict=True))
    return tensor.data_ptr(), tensor.data_ptr() + (last + 1) * tensor.element_size()


def split_target(
    logits: Tensor, target: Tensor, options: TargetOptions, name: str = "target"
) -> tuple[Tensor | None, ...]:
    """Tell labels from a dense target: returns (labels, dense), one of them None.

    Labels are integers (N, *spatial). A dense target is (N, C, *spatial): probabilities, or
    integers 0 and 1, which are one-hot with a softmax. A single channel of integers is labels.
    """
    if not isinstance(target, Tensor):
        raise TypeError(f"{name} is a {type(target).__name__}: expected a Tensor")
    check_same_device(name, target, logits)
    target = plain(target)
    n, c, *spatial = logits.shape
    if options.upsample is not None:  # it is the target that has the full size
        spatial = target.shape[-len(spatial) :]
    shape, label_shape, dense_shape = tuple(target.shape), (n, *spatial), (n, c, *spatial)
    integers = not target.is_floating_point()
    one_channel = c == 1 and options.activation != "softmax"

    if integers and shape == label_shape and not target.is_complex():
        return target, None
    if integers and shape == dense_shape and one_channel:
        return target.squeeze(1), None
    if not integers and shape == label_shape and one_channel:
        target, shape = target.unsqueeze(1), dense_shape
    if shape != dense_shape or target.is_complex():
        raise _misfit(name, target, logits, label_shape, dense_shape, options.activation)
    if not integers and target.dtype not in LOGITS_DTYPES:
        raise TypeError(
            f"{name} has dtype {target.dtype}: expected an integer dtype, float16, bfloat16, "
            "float32 or float64"
        )
    if integers and options.activation == "softmax":
        return labels_of_one_hot(target, options.ignore_index, name), None
    # Smoothing is of labels: probabilities are taken as they are.
    if not integers and options.label_smoothing > 0:
        raise ValueError(
            f"label_smoothing={options.label_smoothing!r}: expected 0 with a {name} of "
            "probabilities, which is taken as it is"
        )
    if options.boundary_size is not None:
        raise ValueError(
            f"boundary_size={options.boundary_size!r}: expected None with a {name} of shape "
            f"{shape}, which has no map of labels"
        )
    return None, target


def _misfit(
    name: str,
    target: Tensor,
    logits: Tensor,
    label_shape: tuple[int, ...],
    dense_shape: tuple[int, ...],
    activation: str,
) -> Exception:
    """What is wrong with a target's shape or dtype, and the likely cure."""
    shape = tuple(target.shape)
    if target.is_complex():
        return TypeError(f"{name} has dtype {target.dtype}: expected an integer or floating dtype")
    dense = "probabilities" if activation == "softmax" else "probabilities or integers 0 and 1"
    expected = f"expected integer labels of shape {label_shape}, or {dense} of shape {dense_shape}"
    if target.is_floating_point() and shape == label_shape:
        return ValueError(
            f"{name} has shape {shape} and dtype {target.dtype}: {expected}; {name}.long() makes "
            "labels of it"
        )
    cure = ""
    if shape == (label_shape[0], 1, *label_shape[1:]):
        cure = f"; {name}.squeeze(1) takes the channel away"
        cure += "" if is_integer(target) else f", and {name}.long() makes integers of floats"
    elif len(shape) == len(dense_shape) and shape[-1] == dense_shape[1] and len(shape) > 2:
        cure = f"; {name}.movedim(-1, 1) puts the classes first"
    elif len(shape) == len(label_shape) and shape[0] == label_shape[0]:
        cure = _upsampling_cure(shape[1:], logits)
    elif len(shape) == len(dense_shape) and shape[:2] == dense_shape[:2]:
        cure = _upsampling_cure(shape[2:], logits)
    return ValueError(f"{name} has shape {shape} and dtype {target.dtype}: {expected}{cure}")


def labels_of_one_hot(target: Tensor, ignore_index: int | None, name: str) -> Tensor:
    """Integers 0 and 1, one-hot over dim 1, as labels. A pixel whose integers are all ignore_index
    is ignored. One that is no encoding raises a ValueError where looking makes nobody wait; on a
    GPU its label is out of range, and the loss NaN. Of the target's size there are bools alone: no
    sums, which would be of 64 bits."""
    if target.dtype == torch.bool:  # beside a number it would be taken as int64
        target = target.to(torch.uint8)
    one = target == 1
    index = one.to(torch.uint8).argmax(1, keepdim=True)
    others_are_0 = (target == 0).scatter(1, index, True).all(1)
    fits = one.gather(1, index).squeeze(1) & others_are_0
    ignored = torch.zeros_like(fits)
    if ignore_index is not None:
        ignored = is_ignored(target, ignore_index).all(1)
    bad = ~(fits | ignored)
    if can_look_at(target) and bad.any():
        n, *place = bad.nonzero()[0].tolist()
        numbers = target[(n, slice(None), *place)].tolist()
        raise ValueError(
            f"{name} has the integers {numbers} at position {(n, *place)}: expected one 1, and 0 "
            "for the other classes, with activation='softmax'"
        )
    labels = index.squeeze(1).masked_fill(bad, target.shape[1])
    return labels.masked_fill(ignored, -1 if ignore_index is None else ignore_index)


def checked_labels(logits: Tensor, labels: Tensor, options: TargetOptions) -> Tensor:
    """The labels beside a teacher, (N, *spatial)."""
    labels, dense = split_target(logits, labels, options, "labels")
    if dense is not None:
        raise ValueError(
            f"labels has shape {tuple(dense.shape)} and dtype {dense.dtype}: expected integer "
            f"labels of shape {(dense.shape[0], *dense.shape[2:])} beside a teacher"
        )
    return labels


def check_class_weights(weights: Tensor, logits: Tensor, name: str) -> None:
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


# ---- values --------------------------------------------------------------------------------------
# To look at the values of a tensor on a GPU makes the host wait: these are called where it need
# not, or where the user asks for it.

#: How far a probability may lie from 1/2. What it may lie outside of [0, 1] is rounding: averages
#: and interpolations of probabilities end at 1 + 1e-7.
PROBABILITY_REACH = 0.5 + 1e-6


class Names(NamedTuple):
    """What the arguments are called in the user's call."""

    logits: str = "logits"
    labels: str = "target"
    dense: str = "target"
    mask: str = "mask"


NAMES = Names()


def is_mapped(*tensors: Tensor | None) -> bool:
    """Whether torch.func.vmap runs a call for many of these at once: no value can be looked at."""
    functorch = torch._C._functorch
    inner = [tensor for tensor in tensors if tensor is not None]
    while inner := [one for one in inner if functorch.is_functorch_wrapped_tensor(one)]:
        if any(map(functorch.is_batchedtensor, inner)):
            return True
        inner = [functorch.get_unwrapped(one) for one in inner]  # out of torch.func.grad
    return False


def can_look_at(*tensors: Tensor | None, waits: bool = False) -> bool:
    """Whether values may be looked at, and a wrong one raise an error. Nobody waits for a GPU but
    where `waits` asks for it; a compiled graph cannot branch on values, nor a call that is mapped.
    """
    if torch.compiler.is_compiling() or is_mapped(*tensors):
        return False
    return waits or all(tensor is None or tensor.device.type == "cpu" for tensor in tensors)


def is_probability(values: Tensor) -> Tensor:
    """Whether numbers lie in [0, 1], up to rounding; NaN does not."""
    values = values if values.dtype == torch.float64 else values.float()
    return (values - 0.5).abs() <= PROBABILITY_REACH


def ignores_elements(
    labels: Tensor | None, dense: Tensor | None, is_teacher: bool, ignore_index: int | None
) -> bool:
    """Whether elements of a dense target that equal ignore_index are ignored one by one: of
    integers always, of probabilities where it is none. Beside labels it is a label."""
    if labels is not None or dense is None or is_teacher or ignore_index in (None, NEVER):
        return False
    return is_integer(dense) or ignore_index not in (0, 1)


def holds_probabilities(dense: Tensor | None, is_teacher: bool, activation: str) -> bool:
    """Whether a dense target is one of probabilities, and not of integers or a teacher's logits."""
    if dense is None or is_integer(dense):
        return False
    return not is_teacher or activation == "none"


def check_values(
    logits: Tensor,
    labels: Tensor | None,
    dense: Tensor | None,
    mask: Tensor | None,
    activation: str,
    ignore_index: int | None,
    is_teacher: bool,
    names: Names,
) -> None:
    """Look at every value that counts; the host waits.

    Raises:
        IndexError: for the first label outside of its range.
        ValueError: for the first number that is no probability where one is expected: in a dense
            target, and in the logits with activation="none".
    """
    ignore_index = None if ignore_index == NEVER else ignore_index
    counted = torch.ones_like(logits[:, :1], dtype=torch.bool)
    if mask is not None:
        counted = counted & mask.unsqueeze(1)
    if labels is not None:
        count = label_count(logits.shape[1], activation)
        check_label_range(labels, mask, count, ignore_index, names.labels)
        if ignore_index is not None:
            counted = counted & ~is_ignored(labels, ignore_index).unsqueeze(1)
    elif is_integer(dense):
        check_label_range(dense, mask, 2, ignore_index, names.dense)
    ignores = ignores_elements(labels, dense, is_teacher, ignore_index)
    if ignores:
        counted = counted & ~is_ignored(dense, ignore_index)
    without_activation = " with activation='none'"
    if holds_probabilities(dense, is_teacher, activation):
        more = f" or ignore_index={ignore_index}" if ignores else ""
        more = without_activation if is_teacher else more
        _check_probabilities(dense, counted, names.dense, more)
    if activation == "none":
        _check_probabilities(logits, counted, names.logits, without_activation)


def _check_probabilities(values: Tensor, counted: Tensor, name: str, more: str) -> None:
    bad = counted & ~is_probability(values.detach())
    if not bad.any():
        return
    position = tuple(bad.nonzero()[0].tolist())
    where = ", ".join(map(str, position))
    # The words of the CPU kernel, csrc/cpu/faults.h.
    raise ValueError(
        f"{name} has value {values[position].item():g} at position ({where}): expected a "
        f"probability in [0, 1]{more}"
    )


def check_label_range(
    integers: Tensor,
    mask: Tensor | None,
    num_labels: int,
    ignore_index: int | None,
    name: str = "target",
) -> None:
    """Raise an IndexError for the first counted label outside [0, num_labels); the host waits."""
    index = integers.to(torch.int64)
    bad = (index < 0) | (index >= num_labels)
    if ignore_index is not None:
        bad &= ~is_ignored(integers, ignore_index)
    if mask is not None:
        bad = bad & (mask if mask.dim() == bad.dim() else mask.unsqueeze(1))
    if bad.any():
        position = tuple(bad.nonzero()[0].tolist())
        where = ", ".join(map(str, position))
        # The words of the CPU kernel, csrc/cpu/faults.h.
        raise IndexError(
            f"{name} has label {integers[position].item()} at position ({where}): expected a label "
            f"in [0, {num_labels}) or ignore_index={ignore_index}"
        )


def is_ignored(target: Tensor, ignore_index: int) -> Tensor:
    """Where labels, or elements of a dense target, are ignore_index. Nothing of 64 bits is made of
    smaller integers; a number that these do not hold is none of them."""
    if is_integer(target):
        holds = target.dtype if target.dtype != torch.bool else torch.uint8
        if not torch.iinfo(holds).min <= ignore_index <= torch.iinfo(holds).max:
            return torch.zeros_like(target, dtype=torch.bool)
    return target == ignore_index
