"""What is timed, each a function of (logits, *targets), see `cases.build`, that returns a loss."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

import jml_kernels as jml
from jml_kernels.naive import (
    naive_jaccard_cross_entropy_loss,
    naive_jaccard_distillation_loss,
    naive_jaccard_metric_loss,
)

from .cases import CE_JACCARD, DISTILLATION, JACCARD, Case

FUSED = "fused"
IN_PLACE = "fused, in place"
EAGER = "naive, eager"
COMPILED = "naive, compiled"
CROSS_ENTROPY = "cross-entropy"
DICE = "our soft Dice"
NNUNET_DICE = "nnU-Net's Dice"
FLOOR = "floor"

Loss = Callable[..., Tensor]


class NotAvailableError(Exception):
    """Why a competitor is left out."""


_MODULES = {
    JACCARD: jml.JaccardMetricLoss,
    CE_JACCARD: jml.JaccardCrossEntropyLoss,
    DISTILLATION: jml.JaccardDistillationLoss,
}
_NAIVE = {
    JACCARD: naive_jaccard_metric_loss,
    CE_JACCARD: naive_jaccard_cross_entropy_loss,
    DISTILLATION: naive_jaccard_distillation_loss,
}


def fused(case: Case, backend: str = "cpu", **options) -> Loss:
    return _MODULES[case.objective](backend=backend, **case.options, **options)


def fused_in_place(case: Case) -> Loss:
    """Writes the gradient over the logits."""
    return fused(case, inplace_backward=True)


def eager(case: Case) -> Loss:
    """Half types in float32, as under autocast: their sums over an image overflow float16."""

    def loss(*tensors: Tensor) -> Tensor:
        if tensors[0].element_size() == 2:
            tensors = [t.float() if t.is_floating_point() else t for t in tensors]
        return _NAIVE[case.objective](*tensors, **case.options)

    return loss


def compiled(case: Case) -> Loss:
    torch.compiler.reset()
    return torch.compile(eager(case), fullgraph=True, dynamic=False)


def cross_entropy(case: Case) -> Loss:
    return F.cross_entropy


def dice(case: Case) -> Loss:
    """A soft Dice that saves memory: one softmax, a boolean one-hot encoding by scatter outside
    of autograd, and sums of the probabilities under it."""

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        dims = (0, *range(2, logits.dim()))
        prob = torch.softmax(logits, dim=1)
        with torch.no_grad():
            one_hot = torch.zeros(logits.shape, dtype=torch.bool)
            one_hot.scatter_(1, labels.unsqueeze(1), True)
            target_sum = one_hot.sum(dim=dims)
        intersection = (prob * one_hot).sum(dim=dims)
        total = prob.sum(dim=dims) + target_sum
        return 1 - ((2 * intersection + 1) / (total + 1)).mean()

    return loss


def nnunet_dice(case: Case) -> Loss:
    try:
        from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss  # noqa: PLC0415
    except ImportError as error:
        raise NotAvailableError("nnunetv2 is not installed") from error
    softmax = functools.partial(torch.softmax, dim=1)
    return MemoryEfficientSoftDiceLoss(softmax, batch_dice=True, do_bg=True, ddp=False)


#: In the order of the tables; what takes labels alone is in LABELS_ONLY.
COMPETITORS: dict[str, Callable[[Case], Loss]] = {
    FUSED: fused,
    IN_PLACE: fused_in_place,
    EAGER: eager,
    COMPILED: compiled,
    CROSS_ENTROPY: cross_entropy,
    DICE: dice,
    NNUNET_DICE: nnunet_dice,
}
LABELS_ONLY = {DICE, NNUNET_DICE}
#: The same loss as the fused one, so that values must agree.
SAME_LOSS = {FUSED, IN_PLACE, EAGER, COMPILED}
