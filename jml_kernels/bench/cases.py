"""The inputs that are timed: shapes by data set, objectives, and what is counted of them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..checks import UPSAMPLINGS

#: Objectives: the loss alone; with cross-entropy, eq. 14; with labels and a teacher, eq. 17; the
#: Lovász-Softmax loss of appendix A; and no loss, but scores of a batch.
JACCARD = "JML"
CE_JACCARD = "CE + JML"
DISTILLATION = "distillation"
LOVASZ = "Lovász-Softmax"
METRICS = "metrics"

#: By the names of the command line: what the loss is against, and which it is.
OBJECTIVES = {
    "jml": ("labels", JACCARD),
    "bls": ("boundary", JACCARD),
    "soft": ("soft", JACCARD),
    "ce+jml": ("labels", CE_JACCARD),
    "kd": ("labels", DISTILLATION),
    "lovasz": ("labels", LOVASZ),
    "metrics": ("labels", METRICS),
}

#: Shapes of logits, (N, C, *spatial), as in training on these data sets.
PRESETS = {
    "cityscapes": (4, 19, 512, 512),
    "voc": (4, 21, 512, 512),
    "ade20k": (2, 150, 256, 256),
    "coco-stuff": (2, 171, 256, 256),
    "deepglobe": (4, 7, 512, 512),
    "volume": (2, 14, 96, 96, 96),  # organs, as in BTCV
    "binary": (8, 2, 1024, 1024),
}

#: epsilon of boundary smoothing as it is timed.
SMOOTHING = 0.1
LAYOUTS = ("contiguous", "channels_last")
LABELS = ("regions", "random")

#: About the width of a region of one label, in pixels.
REGION = 64


@dataclass(frozen=True)
class BenchmarkCase:
    """An input that is timed.

    Attributes:
        shape: (N, C, *spatial), at the target's size; of the logits too, unless they are upsampled.
        target: "labels"; "boundary", labels with boundary smoothing; "soft", probabilities.
        objective: `JACCARD`, `CE_JACCARD`, `LOVASZ`, `DISTILLATION`, which has a teacher's logits
            too, or `METRICS`, which has no backward.
        labels: "regions", as on an image; "random", drawn pixel by pixel: the hard case, where
            every pixel is at a boundary and no branch can be predicted.
        dtype: of logits, soft targets and teacher, a name in torch.
        layout: "contiguous" or "channels_last".
        boundary_size: k of boundary smoothing, and of metrics.
        upsample: the ratio of the target's spatial sizes to those of the logits, and of a teacher's
            logits: above 1 they have lower resolution, and are interpolated.
    """

    shape: tuple[int, ...]
    target: str = "labels"
    objective: str = JACCARD
    labels: str = "regions"
    dtype: str = "float32"
    layout: str = "contiguous"
    boundary_size: int = 3
    upsample: int = 1

    @property
    def full_size(self) -> tuple[int, ...]:
        """The spatial sizes of the target."""
        return self.shape[2:]

    @property
    def logits_shape(self) -> tuple[int, ...]:
        return (*self.shape[:2], *(-(-size // self.upsample) for size in self.full_size))

    @property
    def mode(self) -> str:
        """Of the interpolation."""
        return UPSAMPLINGS[len(self.full_size) - 1]

    @property
    def size(self) -> str:
        size = "x".join(map(str, self.logits_shape))
        return size if self.upsample == 1 else f"{size} to {'x'.join(map(str, self.full_size))}"

    @property
    def kind(self) -> str:
        names = {"labels": "labels", "boundary": "boundary smoothing", "soft": "soft target"}
        objective = "" if self.objective == JACCARD else f"{self.objective}, "
        size = f", k = {self.boundary_size}" if self.boundary_size != 3 else ""
        drawn = ", random" if self.labels == "random" else ""
        return objective + names[self.target] + size + drawn

    @property
    def form(self) -> str:
        return self.dtype + (" channels_last" if self.layout == "channels_last" else "")

    @property
    def name(self) -> str:
        return f"{self.size} {self.form}, {self.kind}"

    @property
    def options(self) -> dict[str, float]:
        """Options of the losses, but for the interpolation."""
        if self.target != "boundary":
            return {}
        return {"label_smoothing": SMOOTHING, "boundary_size": self.boundary_size}

    @property
    def upsampling(self) -> dict[str, str]:
        """The options of our losses that interpolate."""
        return {"upsample": self.mode} if self.upsample > 1 else {}

    @property
    def bytes(self) -> int:
        """Bytes of the logits, E · b."""
        return math.prod(self.logits_shape) * self._itemsize

    @property
    def full_bytes(self) -> int:
        """Bytes of logits of the target's size."""
        return math.prod(self.shape) * self._itemsize

    @property
    def _itemsize(self) -> int:
        return getattr(torch, self.dtype).itemsize

    @property
    def forward_traffic(self) -> int:
        """Bytes that the forward cannot avoid: it reads the logits, and a teacher's, and a soft
        target, which has the full size."""
        soft = self.full_bytes * (self.target == "soft")
        return (1 + (self.objective == DISTILLATION)) * self.bytes + soft

    @property
    def backward_traffic(self) -> int:
        """The backward reads them again, and writes the gradient."""
        return 0 if self.objective == METRICS else self.forward_traffic + self.bytes

    @property
    def traffic(self) -> int:
        """Bytes that forward and backward together cannot avoid. Labels are not counted."""
        return self.forward_traffic + self.backward_traffic

    @property
    def pixels(self) -> int:
        return self.shape[0] * math.prod(self.shape[2:])

    @property
    def label_bytes(self) -> int:
        """What forward and backward each read of int64 labels."""
        return 0 if self.target == "soft" else 8 * self.pixels

    @property
    def input_bytes(self) -> int:
        """What a loss is called with: logits, and all that it is against."""
        return self.forward_traffic + self.label_bytes


def region_labels(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """int64 (N, *spatial): regions about `REGION` pixels wide, with curved boundaries, which are
    where one of C smooth random fields overtakes another. Without spatial dimensions there are no
    regions, and labels are drawn one by one."""
    n, c, *spatial = shape
    if not spatial:
        return torch.randint(c, (n,), generator=generator, device=generator.device)
    coarse = [size // REGION + 2 for size in spatial]
    field = torch.randn(n, c, *coarse, generator=generator, device=generator.device)
    mode = UPSAMPLINGS[len(spatial) - 1]
    return F.interpolate(field, size=tuple(spatial), mode=mode).argmax(dim=1)


def build(case: BenchmarkCase, device: str = "cpu") -> tuple[Tensor, ...]:
    """What a loss is called with, the same for every run: logits, target and, for distillation,
    the logits of a teacher."""
    generator = torch.Generator(device).manual_seed(0)
    n, c, *spatial = case.shape

    def draw(shape: tuple[int, ...]) -> Tensor:
        return torch.randn(shape, generator=generator, device=device).mul_(2)

    def lay(values: Tensor) -> Tensor:
        values = values.to(getattr(torch, case.dtype))
        if case.layout == "channels_last":
            values = values.movedim(1, -1).contiguous().movedim(-1, 1)
        return values

    logits = lay(draw(case.logits_shape))
    if case.target == "soft":
        target = lay(torch.softmax(draw(case.shape), dim=1))
    elif case.labels == "random":
        target = torch.randint(c, (n, *spatial), generator=generator, device=device)
    else:
        target = region_labels(case.shape, generator)
    teacher = (lay(draw(case.logits_shape)),) if case.objective == DISTILLATION else ()
    return logits, target, *teacher
