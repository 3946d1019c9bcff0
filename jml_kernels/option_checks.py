"""Checks of options. Each returns what was given as a Python object: numbers of numpy are taken
where numbers of Python are expected. A message names the option, its value and what was
expected."""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterable, Mapping, Set

import torch
from torch import Tensor

from .checks import AGGREGATIONS, UPSAMPLINGS, can_look_at, plain


def check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name}={value!r}: expected one of {', '.join(map(repr, choices))}")


def number(name: str, value: object) -> float:
    """A real number of Python or numpy."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name}={value!r}: expected a number")
    try:
        return float(value)
    except OverflowError:
        raise ValueError(f"{name}={value!r}: expected a number that float64 holds") from None


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
    expected = f"{name}={value!r}: expected an odd positive integer"
    expected += " or None" if name == "boundary_size" else ""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(expected)
    if not 1 <= value < 2**63 or value % 2 == 0:
        raise ValueError(expected)
    return int(value)


def check_upsampling(upsample: object, align_corners: bool, inplace_backward: bool) -> None:
    """The interpolation of the logits, with what goes with it."""
    if upsample is None:
        if align_corners:
            raise ValueError(
                "align_corners=True: expected False without upsample, since nothing is interpolated"
            )
        return
    if not isinstance(upsample, str) or upsample not in UPSAMPLINGS:
        raise ValueError(
            f"upsample={upsample!r}: expected None or one of {', '.join(map(repr, UPSAMPLINGS))}"
            + (_WHY_NO_UPSAMPLING.get(upsample, "") if isinstance(upsample, str) else "")
        )
    if inplace_backward:
        raise ValueError(
            f"inplace_backward=True: expected False with upsample={upsample!r}, whose backward "
            "reads a logit for more than one pixel"
        )


_NOT_CONVEX = (
    ", whose weights are convex: an interpolated probability is one, and an interpolated logit is "
    "no larger than its corners'"
)
#: Modes of `torch.nn.functional.interpolate` that a user may ask for.
_WHY_NO_UPSAMPLING = {
    "bicubic": f"{_NOT_CONVEX}; those of bicubic interpolation are not",
    "nearest": "; nearest neighbours repeat logits, which logits.repeat_interleave does as well",
    "nearest-exact": (
        "; nearest neighbours repeat logits, which logits.repeat_interleave does as well"
    ),
    "area": "; the average over areas is for lower resolutions",
}


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
        if can_look_at(value) and not value.any():
            raise ValueError(f"{name}={value!r}: expected at least one class that is True")
        return plain(value).clone()  # whoever gave it may write into it
    if isinstance(value, Tensor) or not _is_list(value):
        raise TypeError(
            f"{name}={value!r}: expected a list of class indices, or a bool tensor of shape (C,)"
        )
    indices = [integer(f"{name}[{i}]", index) for i, index in enumerate(value)]
    negative = [index for index in indices if index < 0]
    if negative or not indices:
        raise ValueError(f"{name}={value!r}: expected at least one index, and all of them >= 0")
    return tuple(dict.fromkeys(indices))


def _is_list(value: object) -> bool:
    """Whether it holds values one after the other: not a word's letters, or a mapping's keys."""
    return isinstance(value, Iterable) and not isinstance(value, (str, bytes, Mapping))


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


def class_weights(name: str, value: object) -> Tensor | None:
    """Weights of the classes as a floating tensor (C,), of a tensor or of a list of numbers.

    Values are looked at where nobody waits for a device: they are finite and none is negative.
    """
    if value is None:
        return None
    if not isinstance(value, Tensor):
        if not _is_list(value):
            raise TypeError(
                f"{name}={value!r}: expected a tensor of shape (C,), or a list of numbers"
            )
        if isinstance(value, Set):
            raise TypeError(f"{name}={value!r}: expected a list of numbers, which a set reorders")
        value = torch.tensor([number(f"{name}[{i}]", weight) for i, weight in enumerate(value)])
    if value.is_complex() or value.dtype == torch.bool:
        raise TypeError(f"{name} has dtype {value.dtype}: expected a floating dtype")
    if not value.is_floating_point():
        value = value.float()
    if can_look_at(value):
        check_weight_values(name, value)
    return value


def head_weights(name: str, value: object) -> tuple[float, ...] | None:
    """Weights of the heads of a network; 0 leaves a head out, but not every head."""
    if value is None:
        return None
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise TypeError(f"{name}={value!r}: expected a list of numbers, one for each head, or None")
    weights = tuple(non_negative(f"{name}[{i}]", weight) for i, weight in enumerate(value))
    if not any(weights):
        raise ValueError(f"{name}={value!r}: expected at least one number > 0")
    return weights


def check_weight_values(name: str, weights: Tensor) -> None:
    """Whether they are finite, and none is negative; the host waits."""
    weights = weights.detach()
    if weights.numel() == 0:
        return
    least, most = (bound.item() for bound in torch.aminmax(weights))  # NaN where one is NaN
    if least >= 0 and most < math.inf:
        return
    place = tuple((~(weights.isfinite() & (weights >= 0))).nonzero()[0].tolist())
    where = ", ".join(map(str, place))
    raise ValueError(f"{name}[{where}]={weights[place].item()!r}: expected a finite number >= 0")
