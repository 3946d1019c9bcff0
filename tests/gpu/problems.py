"""What the tests of a GPU compute: every kind of objective, and the tensors it is called with.

Nothing here asks for a GPU: the device is an argument.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor, nn

import jml_kernels as jml


@dataclass(frozen=True)
class Kind:
    """An objective.

    Attributes:
        make: its module.
        target: "labels"; "soft", probabilities; "bits", 0 and 1 of each class.
        teacher: whether it has the logits of a teacher too.
        options: of the module.
    """

    make: Callable[..., nn.Module] = jml.JaccardMetricLoss
    target: str = "labels"
    teacher: bool = False
    options: dict[str, object] = field(default_factory=dict)

    def loss(self, backend: str, **more) -> nn.Module:
        return self.make(backend=backend, **self.options, **more)


_BOUNDARY = {"label_smoothing": 0.1, "boundary_size": 3}
KINDS = {
    "labels": Kind(),
    "boundary": Kind(options=_BOUNDARY),
    "cross-entropy": Kind(jml.JaccardCrossEntropyLoss, options=_BOUNDARY),
    "distillation": Kind(
        jml.JaccardDistillationLoss, teacher=True, options={"temperature": 2.0, **_BOUNDARY}
    ),
    "soft": Kind(target="soft"),
    "multi-label": Kind(target="bits", options={"activation": "sigmoid"}),
    # One that needs every column, and most of the formula.
    "aggregations": Kind(
        target="soft",
        options={
            "aggregation": {"image": 0.5, "class": 0.5},
            "gamma": 1.5,
            "active_classes": "both",
        },
    ),
}


def lay(values: Tensor, layout: str) -> Tensor:
    """The same values, "contiguous" or "channels_last"."""
    if layout == "channels_last":
        return values.movedim(1, -1).contiguous().movedim(-1, 1)
    return values.contiguous()


def draw(
    kind: str,
    shape: tuple[int, ...],
    dtype: torch.dtype = torch.float32,
    layout: str = "contiguous",
    device: str = "cuda",
    seed: int = 0,
) -> tuple[Tensor, ...]:
    """What the loss of a kind is called with: logits that take no gradient yet, target and, for
    some, the logits of a teacher. The same whatever the backend."""
    generator = torch.Generator(device).manual_seed(seed)
    n, c, *spatial = shape

    def logits() -> Tensor:
        values = 2 * torch.randn(shape, generator=generator, device=device)
        return lay(values.to(dtype), layout)

    def integers(high: int, size: tuple[int, ...]) -> Tensor:
        return torch.randint(0, high, size, generator=generator, device=device)

    student = logits()
    if KINDS[kind].target == "soft":
        target = lay(torch.softmax(logits().float(), dim=1).to(dtype), layout)
    elif KINDS[kind].target == "bits":
        target = lay(integers(2, shape).to(torch.uint8), layout)
    else:
        # Blocks of 4 x 4 pixels: not every pixel is at a boundary.
        target = integers(c, (n, *(-(-size // 4) for size in spatial)))
        for dim, size in enumerate(spatial, start=1):
            target = target.repeat_interleave(4, dim).narrow(dim, 0, size)
        target = target.contiguous()
        target[integers(50, target.shape) == 0] = -100  # some are ignored
    return (student, target, logits()) if KINDS[kind].teacher else (student, target)


class Answer(NamedTuple):
    loss: Tensor
    gradient: Tensor
    """of the loss times `gradient_scale`"""


def gradient_scale(logits: Tensor) -> Tensor:
    """What the loss is multiplied with before the backward, as a GradScaler does: the gradient of
    a mean over many pixels would be subnormal in float16."""
    scale = 2.0 ** math.ceil(math.log2(max(logits.numel(), 1)))
    return torch.tensor(scale, device=logits.device)


def step(loss: nn.Module, logits: Tensor, *others: Tensor) -> Answer:
    """Forward and backward."""
    leaf = logits.detach().requires_grad_()
    value = loss(leaf, *others)
    (gradient,) = torch.autograd.grad(value, leaf, gradient_scale(leaf).to(value.dtype))
    return Answer(value.detach(), gradient)


def expected(kind: str, logits: Tensor, *others: Tensor) -> Answer:
    """By the reference, in float64."""
    others = [t.double() if t.is_floating_point() else t for t in others]
    return step(KINDS[kind].loss("reference"), logits.double(), *others)


#: Relative distance of x and y at which float32 need not know which is larger: the gradient of
#: |x - y| jumps there, and no side is wrong.
TIE = 5e-6


def untied(kind: str, logits: Tensor, target: Tensor, *teacher: Tensor) -> Tensor:
    """The pixels where no class has x near a soft y: bool (N, 1, *spatial). Hard labels are 0 or 1,
    which x is not."""
    found = torch.ones_like(logits[:, :1], dtype=torch.bool)
    options = KINDS[kind].options
    soft = [torch.softmax(t.double() / options["temperature"], 1) for t in teacher]
    if KINDS[kind].target == "soft":
        soft.append(target.double())
    if "label_smoothing" in options:
        smoothing = {name: options[name] for name in _BOUNDARY}
        soft.append(jml.smooth_labels(target, logits.shape[1], **smoothing, dtype=torch.float64))
    x = torch.softmax(logits.double(), dim=1)
    for y in soft:
        found &= ((x - y).abs() > TIE * (x + y)).all(dim=1, keepdim=True)
    return found


def gradient_error(found: Tensor, right: Tensor, counted: Tensor) -> float:
    """||found - right|| / ||right||, over the pixels that count."""
    distance = torch.linalg.vector_norm((found.double() - right.double()) * counted)
    return (distance / torch.linalg.vector_norm(right.double())).item()
