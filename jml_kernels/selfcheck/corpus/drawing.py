"""The tensors of a case: drawn on the CPU, so that every backend and every device gets the same.

The gradient of |x - y| jumps at x = y. Where rounding decides on which side of a target a
probability lies, two right gradients differ. So a case takes the first seed that leaves no tie.
"""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import torch
from torch import Tensor

from ... import accuracy, reference, upsampling
from .case import LossCase
from .layouts import LAYOUTS

#: Elements above which ties are left in: among millions there always is one. Whoever compares the
#: gradients of such a case leaves these pixels out (`accuracy.untied`).
MANY = 2**19


class Tensors(NamedTuple):
    """What a loss is computed on; None where a case has no such tensor. None requires grad."""

    logits: Tensor
    target: Tensor | None
    teacher: Tensor | None
    mask: Tensor | None

    @property
    def arguments(self) -> tuple[Tensor | None, ...]:
        """In the order in which losses take them: (logits, target, mask), and with a teacher
        (logits, labels, teacher's logits, mask)."""
        if self.teacher is None:
            return self.logits, self.target, self.mask
        return self.logits, self.target, self.teacher, self.mask


def draw(
    case: LossCase, device: str = "cpu", seed: int | None = None, drawn_on: str = "cpu"
) -> Tensors:
    """New tensors, with the same values at each call.

    Args:
        device: where they shall lie.
        seed: None means the first one that leaves no tie.
        drawn_on: the device that makes the numbers. A GPU makes many of them faster than the CPU,
            and others.
    """
    random = _Random(seed_without_ties(case) if seed is None else seed, drawn_on)
    target = None if case.target == "none" else _target(case, random)
    mask = None if case.masked is None else random.uniform(case.label_shape) >= case.masked
    _spoil_target(case, target, mask)
    counted = counted_elements(case, target, mask)
    logits = _logits(case.values, case, case.shape, counted, random).to(case.dtype)
    teacher = None
    if case.has_teacher:
        teacher = _logits(case.teacher, case, case.teacher_shape, counted, random)
        teacher = teacher.to(case.teacher_dtype or case.dtype)

    def placed(tensor: Tensor | None, layout: str) -> Tensor | None:
        return None if tensor is None else LAYOUTS[layout](tensor.to(device))

    return Tensors(
        placed(logits, case.layout),
        placed(target, case.target_layout),
        placed(teacher, case.teacher_layout),
        placed(mask, case.mask_layout),
    )


@functools.cache
def shared(case: LossCase, device: str = "cpu") -> Tensors:
    """The tensors of a case, drawn once: nobody may write into them."""
    return draw(case, device)


def arguments(
    case: LossCase, device: str = "cpu", seed: int | None = None
) -> tuple[Tensor | None, ...]:
    """What the loss of a case is called with: new tensors."""
    return draw(case, device, seed).arguments


def class_weights(case: LossCase) -> dict[str, Tensor]:
    """By name, (C,) in float64: exact in every dtype, one of them 0, and not the same for both
    names."""
    found = {}
    for name in case.weights:
        weights = 0.5 + torch.arange(case.shape[1], dtype=torch.float64) % 4 / 2
        weights = weights.flip(0) if name == "class_weights" else weights
        if len(weights) > 1:
            weights[-1] = 0
        found[name] = weights
    return found


def counted_elements(case: LossCase, target: Tensor | None, mask: Tensor | None) -> Tensor:
    """Which elements count: bool, (N, 1 or C, *spatial)."""
    given = [tensor for tensor in (target, mask) if tensor is not None]
    device = given[0].device if given else "cpu"
    counted = torch.ones(case.shape[0], 1, *case.target_shape[2:], dtype=torch.bool, device=device)
    if mask is not None:
        counted = counted & mask.unsqueeze(1)
    if target is not None and not target.is_floating_point():
        kept = target.to(torch.int64) != case.ignore_index
        counted = counted & (kept if kept.dim() == counted.dim() else kept.unsqueeze(1))
    return counted


class _Random:
    """Numbers of one seed."""

    def __init__(self, seed: int, device: str):
        generator = torch.Generator(device).manual_seed(seed)
        self.device = device
        self._given = {"generator": generator, "device": device}

    def normal(self, shape: tuple[int, ...]) -> Tensor:
        return torch.randn(shape, dtype=torch.float64, **self._given)

    def uniform(self, shape: tuple[int, ...]) -> Tensor:
        return torch.rand(shape, dtype=torch.float64, **self._given)

    def integers(self, count: int, shape: tuple[int, ...]) -> Tensor:
        return torch.randint(0, count, shape, **self._given)


# ---- targets -------------------------------------------------------------------------------------


def _target(case: LossCase, random: _Random) -> Tensor:
    if case.target.startswith("soft"):
        target = _probabilities(case, random)
        target = target.squeeze(1) if case.target == "soft without a channel" else target
        return target.to(case.target_dtype or torch.float32)
    shape = case.target_shape if case.target == "bits" else case.label_shape
    integers = _integers(case, shape, random)
    integers = integers.masked_fill(random.uniform(shape) < case.ignored, case.ignore_index)
    integers = integers.unsqueeze(1) if case.target == "labels with a channel" else integers
    return integers.to(case.target_dtype or torch.int64)


def _probabilities(case: LossCase, random: _Random) -> Tensor:
    """float64, (N, C, *spatial); their sum over classes is 1 where the activation is a softmax."""
    normal, uniform = random.normal(case.target_shape), random.uniform(case.target_shape)
    if case.values == "ties":
        return (4 * uniform).round() / 4
    of_all_classes = case.activation == "softmax" and case.shape[1] > 1
    target = torch.softmax(2 * normal, 1) if of_all_classes else uniform
    if case.values == "one-hot target":
        target = (target == target.amax(1, keepdim=True)).double()
    return target


def _integers(case: LossCase, shape: tuple[int, ...], random: _Random) -> Tensor:
    if case.drawn == "constant":
        return torch.full(shape, case.num_labels - 1, device=random.device)
    if case.drawn.startswith("blocks"):
        n, *spatial = shape
        coarse = [-(-size // 3) for size in spatial]
        labels = random.integers(case.num_labels, (n, *coarse))
        for dim, size in enumerate(spatial, start=1):
            labels = labels.repeat_interleave(3, dim).narrow(dim, 0, size)
        labels = labels.contiguous()
        if case.drawn == "blocks in one half":
            labels[:, : spatial[0] // 2] = 0
        return labels
    labels = random.integers(case.num_labels, shape)
    return labels.masked_fill(labels == 1, 0) if case.drawn == "no class 1" else labels


def _spoil_target(case: LossCase, target: Tensor | None, mask: Tensor | None) -> None:
    """Write what some cases have at elements that do not count."""
    if case.values == "bad labels under the mask":
        hidden = ~mask if target.dim() == mask.dim() else (~mask).unsqueeze(1).expand_as(target)
        # One too many and far too much, by turns: neither sign may be mistaken for a class.
        count = int(hidden.sum())
        bad = torch.tensor([case.num_labels, -7, 10**9], device=target.device)
        target[hidden] = bad.repeat(count)[:count]
    elif case.values == "nan target where masked":
        target.masked_fill_(~mask.unsqueeze(1), math.nan)


# ---- logits --------------------------------------------------------------------------------------


def _logits(
    values: str, case: LossCase, shape: tuple[int, ...], counted: Tensor, random: _Random
) -> Tensor:
    """Of the student or of the teacher, in float64."""
    normal, uniform = 2 * random.normal(shape), random.uniform(shape)
    logits = uniform if case.activation == "none" else normal
    if values == "spread":
        return 80 * uniform - 40
    if values == "ties":
        return (4 * uniform).round() / 4
    if values == "saturated":
        return torch.where(uniform < 0.5, -100.0, 100.0).double()
    if values == "far":
        return logits + 1000
    if values == "far below":
        return logits - 1000
    if values == "-inf":
        logits[:, 1:][uniform[:, 1:] < 0.3] = -math.inf  # class 0 keeps every pixel a softmax
    elif values == "-inf inside":
        # Where interpolation multiplies none with a weight of 0: ratio 4 does so next to the edge.
        inner = logits[:, 1:, 2:, 2:]
        inner[uniform[:, 1:, 2:, 2:] < 0.3] = -math.inf
    elif values == "+-inf":
        logits[uniform < 0.2] = -math.inf
        logits[uniform > 0.8] = math.inf
    elif values in ("nan", "+inf"):
        logits.view(-1)[-1] = float(values)
    elif values == "all -inf":
        logits[(-1, slice(None), *[-1] * (len(shape) - 2))] = -math.inf
    elif values.endswith(" where not counted"):
        value = float(values.removesuffix(" where not counted"))
        logits = torch.where(counted, logits, value)
    return logits


# ---- ties ----------------------------------------------------------------------------------------


@functools.cache
def seed_without_ties(case: LossCase) -> int:
    if case.elements > MANY:
        return 0
    for seed in range(100):
        if not _has_near_tie(case, draw(case, seed=seed)):
            return seed
    raise ValueError(f"case={case.name!r}: expected one whose probabilities meet no target")


def _has_near_tie(case: LossCase, tensors: Tensors) -> bool:
    """Whether rounding decides for some element on which side of x = y it is."""
    tensors = at_full_size(case, tensors)
    x = reference.probabilities(tensors.logits.double(), case.activation)
    # Ten times the rounding of x in float32; in small cases also more than the steps of finite
    # differences, 1e-6.
    margin = 2e-6 * x + (1e-5 if x.numel() < 100 else 0)
    for y in soft_targets(case, tensors):
        distance = (x - y).abs()
        # Hard labels are reached by rounding only where the activation is flat. Probabilities that
        # are given as they are tie exactly in every precision, or not at all.
        near = (distance < margin) & (y > 0) & (y < 1)
        if case.activation == "none":
            near &= distance > 0
        if near.any():
            return True
    return False


def at_full_size(case: LossCase, tensors: Tensors) -> Tensors:
    """The same with interpolated logits, in float64."""
    if not case.upsamples:
        return tensors
    size, align_corners = case.target_shape[2:], case.options.get("align_corners", False)
    logits, teacher = (
        z if z is None else upsampling.interpolated(z.detach().double(), size, align_corners)
        for z in (tensors.logits, tensors.teacher)
    )
    return tensors._replace(logits=logits, teacher=teacher)


def soft_targets(case: LossCase, tensors: Tensors) -> list[Tensor]:
    """The targets that lie between 0 and 1, which probabilities may meet: float64,
    (N, C, *spatial) at full size."""
    logits, target, teacher, mask = at_full_size(case, tensors)
    like = logits.double()
    smoothing = case.options.get("label_smoothing", 0.0)
    found = []
    if teacher is not None:
        scaled = teacher.double() / case.options.get("temperature", 1.0)
        found.append(reference.probabilities(scaled, case.activation))
    if case.target.startswith("soft"):
        found.append(target.double().reshape(like.shape))
    elif target is not None and smoothing and case.target == "bits":
        everywhere = torch.ones_like(target, dtype=torch.bool)
        y, _, _ = reference.dense_target(target, everywhere, like, case.ignore_index, smoothing)
        found.append(y)
    elif target is not None and smoothing:
        labels = target.squeeze(1) if case.target == "labels with a channel" else target
        size = case.options.get("boundary_size") or 0
        found.append(
            reference.label_target(
                labels, mask, like, case.activation, smoothing, size, case.ignore_index
            )[0]
        )
    return found


def differentiable(case: LossCase, logits: Tensor) -> Tensor:
    """Logits that require grad: a leaf, but where the gradient is written over them."""
    if case.options.get("inplace_backward"):
        return accuracy.made_by_an_operation(logits)
    return logits.detach().requires_grad_()
