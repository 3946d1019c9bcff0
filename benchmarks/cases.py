"""The inputs that are timed."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

#: Boundary smoothing as it is timed.
BOUNDARY = {"label_smoothing": 0.1, "boundary_size": 3}

#: About the width of a region of one label, in pixels.
REGION = 64

_INTERPOLATION = {1: "linear", 2: "bilinear", 3: "trilinear"}


@dataclass(frozen=True)
class Case:
    """One input.

    Attributes:
        shape: of the logits, (N, C, *spatial).
        target: "labels"; "boundary", labels with boundary smoothing; "soft", probabilities.
        labels: "regions", as on an image; "random", drawn pixel by pixel: the hard case, where
            every pixel is at a boundary and no branch can be predicted.
        dtype: of logits and soft targets, a name in torch.
        layout: "contiguous" or "channels_last".
    """

    shape: tuple[int, ...]
    target: str = "labels"
    labels: str = "regions"
    dtype: str = "float32"
    layout: str = "contiguous"

    @property
    def size(self) -> str:
        return "x".join(map(str, self.shape))

    @property
    def kind(self) -> str:
        names = {"labels": "labels", "boundary": "boundary smoothing", "soft": "soft target"}
        return names[self.target] + (", random" if self.labels == "random" else "")

    @property
    def form(self) -> str:
        return self.dtype + (" channels_last" if self.layout == "channels_last" else "")

    @property
    def name(self) -> str:
        return f"{self.size} {self.form}, {self.kind}"

    @property
    def options(self) -> dict[str, float]:
        """Of the losses."""
        return BOUNDARY if self.target == "boundary" else {}

    @property
    def bytes(self) -> int:
        """Of the logits: E · b."""
        return math.prod(self.shape) * getattr(torch, self.dtype).itemsize

    @property
    def traffic(self) -> int:
        """Bytes that forward and backward cannot avoid: the forward reads logits, and target if
        it is as large; the backward reads them again and writes the gradient."""
        return (5 if self.target == "soft" else 3) * self.bytes


def region_labels(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """int64 (N, *spatial): regions about `REGION` pixels wide, with curved boundaries, which are
    where one of C smooth random fields overtakes another."""
    n, c, *spatial = shape
    coarse = [size // REGION + 2 for size in spatial]
    field = torch.randn(n, c, *coarse, generator=generator)
    mode = _INTERPOLATION[len(spatial)]
    return F.interpolate(field, size=tuple(spatial), mode=mode).argmax(dim=1)


def build(case: Case) -> tuple[Tensor, Tensor]:
    """(logits, target), the same for every run."""
    generator = torch.Generator().manual_seed(0)
    n, c, *spatial = case.shape

    def lay(values: Tensor) -> Tensor:
        values = values.to(getattr(torch, case.dtype))
        if case.layout == "channels_last":
            values = values.movedim(1, -1).contiguous().movedim(-1, 1)
        return values

    logits = lay(2 * torch.randn(case.shape, generator=generator))
    if case.target == "soft":
        return logits, lay(torch.softmax(2 * torch.randn(case.shape, generator=generator), dim=1))
    if case.labels == "random":
        return logits, torch.randint(c, (n, *spatial), generator=generator)
    return logits, region_labels(case.shape, generator)
