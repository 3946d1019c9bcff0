"""Logits of lower resolution than their target: which size they are interpolated to, and how.

The reference interpolates with this, and so does dispatch.py for backends that do not interpolate
themselves; the kernels of others compute the same a tile at a time.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .checks import UPSAMPLINGS


def full_size(
    logits: Tensor, labels: Tensor | None, dense: Tensor | None, has_teacher: bool
) -> tuple[int, ...]:
    """The spatial size that a loss is computed at: that of the labels or of the probabilities. With
    a teacher alone, which is logits too, in each dimension the larger size of student and teacher.
    """
    if labels is not None:
        return tuple(labels.shape[1:])
    if not has_teacher:
        return tuple(dense.shape[2:])
    return tuple(map(max, logits.shape[2:], dense.shape[2:]))


def interpolated(logits: Tensor, size: Sequence[int], align_corners: bool) -> Tensor:
    """(N, C, *lower) -> (N, C, *size), linearly in each spatial dimension, in float32 or float64.
    Logits of that size are returned as they are."""
    size = tuple(size)
    if tuple(logits.shape[2:]) == size:
        return logits  # a corner of weight 0 that is infinite must not make a NaN here
    if 0 in size or logits.shape[1] == 0:  # a rank may have none of the classes
        return logits.reshape(*logits.shape[:2], *size)
    if logits.dtype != torch.float64:
        logits = logits.float()
    mode = UPSAMPLINGS[len(size) - 1]
    return F.interpolate(logits, size=size, mode=mode, align_corners=align_corners)


def adjoint(gradient: Tensor, low: Sequence[int], align_corners: bool) -> Tensor:
    """The gradient of what `interpolated` was given, of spatial sizes `low`, from that of what it
    gave: (N, C, *size) -> (N, C, *low), for operators, in which autograd takes no part."""
    size, low = tuple(gradient.shape[2:]), tuple(low)
    if size == low:
        return gradient
    if 0 in size:
        return gradient.new_zeros(*gradient.shape[:2], *low)
    backward = (
        torch.ops.aten.upsample_linear1d_backward,
        torch.ops.aten.upsample_bilinear2d_backward,
        torch.ops.aten.upsample_trilinear3d_backward,
    )[len(size) - 1]
    return backward(gradient, size, (*gradient.shape[:2], *low), align_corners)


def at_full_size(
    logits: Tensor,
    labels: Tensor | None,
    dense: Tensor | None,
    has_teacher: bool,
    align_corners: bool,
) -> tuple[Tensor, Tensor | None]:
    """Logits and dense target of a call at its full size. Of dense targets only a teacher's logits
    are interpolated: probabilities have the full size."""
    size = full_size(logits, labels, dense, has_teacher)
    if has_teacher and dense is not None:
        dense = interpolated(dense, size, align_corners)
    return interpolated(logits, size, align_corners), dense
