"""The losses that a case may name, made with a backend."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from ... import functional, modules
from ...jdt import JDTLoss
from ...statistics import EXTREMA, SUMS, ClassStatistics
from .case import LossCase
from .drawing import class_weights

#: The overlaps, each as a function of (logits, target, mask, **options).
OVERLAPS: dict[str, Callable[..., Tensor]] = {
    "metric1": functional.jaccard_metric_loss,
    "metric2": functools.partial(functional.jaccard_metric_loss, variant=2),
    "soft1": functional.soft_jaccard_loss,
    "soft2": functools.partial(functional.soft_jaccard_loss, norm=2),
}


class _Statistics(nn.Module):
    """All statistics as one number, each with a weight of its own: a column that is wrong shows,
    whether or not a loss needs it.

    Args:
        extrema: include those that only choose classes, and have no gradient.
    """

    def __init__(self, extrema: bool, **options):
        super().__init__()
        columns = (*SUMS, *EXTREMA) if extrema else SUMS
        self.names = [name for name in columns if name in ClassStatistics._fields]
        self.options = options

    def forward(self, logits: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
        found = functional.class_statistics(logits, target, mask, **self.options)
        columns = torch.stack([getattr(found, name).double() for name in self.names])
        pixels = found.valid.double().clamp(min=1)
        weights = torch.arange(1, columns.numel() + 1, device=columns.device).view_as(columns)
        shares = (weights * columns / pixels.view(-1, 1)).sum() / weights.sum().clamp(min=1)
        entropy = (found.cross_entropy / pixels).sum() / max(len(pixels), 1)
        return (shares + entropy).to(found.valid.dtype)


def _jdt(backend: str, **options) -> JDTLoss:
    """It chooses its backend by itself; here it may not."""
    loss = JDTLoss(**options)
    for name in ("hard", "hard_masked", "soft"):
        objective = getattr(loss, name)
        options = replace(objective.options, backend=backend)
        setattr(loss, name, replace(objective, options=options))
    return loss


LOSSES: dict[str, Callable[..., nn.Module]] = {
    "JML1": modules.JaccardMetricLoss,
    "JML2": functools.partial(modules.JaccardMetricLoss, variant=2),
    "soft Jaccard L1": modules.SoftJaccardLoss,
    "soft Jaccard L2": functools.partial(modules.SoftJaccardLoss, norm=2),
    "Dice semimetric 1": modules.DiceSemimetricLoss,
    "Dice semimetric 2": functools.partial(modules.DiceSemimetricLoss, variant=2),
    "soft Dice L1": modules.SoftDiceLoss,
    "soft Dice L2": functools.partial(modules.SoftDiceLoss, norm=2),
    "Tversky": functools.partial(modules.TverskyMetricLoss, 0.3, 0.7, gamma=1.5),
    "cross-entropy": modules.JaccardCrossEntropyLoss,
    "distillation": modules.JaccardDistillationLoss,
    "JDT": _jdt,
    "statistics": functools.partial(_Statistics, True),
    "sums": functools.partial(_Statistics, False),
}
#: All but the sums, which are statistics without those that have no gradient.
FAMILY = tuple(name for name in LOSSES if name != "sums")


def make(case: LossCase, backend: str, device: str = "cpu", **changed: object) -> nn.Module:
    """The loss of a case, called with `drawing.arguments`; `changed` are options in place of the
    case's own."""
    options = {**class_weights(case), **case.options, **changed}
    return LOSSES[case.loss](**options, backend=backend).to(device)
