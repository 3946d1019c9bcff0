"""What the tests of a GPU compute: every kind of step, in any size, dtype and layout.

Nothing here asks for a GPU: the device is an argument.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from jml_kernels import accuracy
from jml_kernels.accuracy import Answer
from jml_kernels.selfcheck.corpus import drawing
from jml_kernels.selfcheck.corpus.case import LossCase
from jml_kernels.selfcheck.corpus.drawing import Tensors, soft_targets
from jml_kernels.selfcheck.corpus.losses import make
from jml_kernels.selfcheck.corpus.steps import ON_GPU

KINDS = {case.name.removeprefix("on a GPU, "): case for case in ON_GPU}

#: Relative distance of x and y at which a GPU's float32 need not know which is larger: the gradient
#: of |x - y| jumps there, and no side is wrong.
TIE = 5e-6


def problem(
    kind: str,
    shape: tuple[int, ...],
    dtype: torch.dtype = torch.float32,
    layout: str = "contiguous",
) -> LossCase:
    """A case of a kind, whose dense tensors have one layout, and one dtype but for bits. Of logits
    that are upsampled the shape has the full size, and they have a quarter of it."""
    case = KINDS[kind]
    dense = {"layout": layout, "teacher_layout": layout}
    if case.target in ("soft", "bits"):
        dense["target_layout"] = layout
    if case.target == "soft":
        dense["target_dtype"] = dtype
    if case.full_size is not None:
        dense["full_size"] = shape[2:]
        shape = (*shape[:2], *(-(-size // 4) for size in shape[2:]))
    return replace(case, shape=shape, dtype=dtype, **dense)


def draw(case: LossCase, device: str = "cuda", seed: int = 0) -> Tensors:
    """The same whatever the backend. On a GPU the numbers are made there."""
    return drawing.draw(case, device, seed, drawn_on=device)


def step(case: LossCase, backend: str, tensors: Tensors) -> Answer:
    """Forward and backward."""
    logits, *others = tensors.arguments
    loss = make(case, backend, logits.device)
    return accuracy.answer(loss, logits.detach().requires_grad_(), *others)


def expected(case: LossCase, tensors: Tensors) -> Answer:
    """By the reference, in float64."""
    return step(case, "reference", Tensors(*accuracy.in_dtype(torch.float64, *tensors)))


def untied(case: LossCase, tensors: Tensors) -> Tensor:
    """The pixels of the logits where no class has x near a soft y, nor has in a pixel that is
    interpolated from them: bool (N, 1, *spatial)."""
    full = drawing.at_full_size(case, tensors).logits.double()
    counted = accuracy.untied(full, soft_targets(case, tensors), case.activation, TIE)
    if case.full_size is None:
        return counted
    align_corners = case.options.get("align_corners", False)
    return accuracy.at_low_resolution(counted, case.shape[2:], align_corners)
