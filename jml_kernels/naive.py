"""The losses as they are usually written: several tensors of the logits' size, one after the other.

What the fused kernels are compared with, in the demo and in benchmarks; not a backend. Read
reference.py for the mathematics.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_MAX_POOL = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}


def naive_target(
    labels: Tensor,
    num_classes: int,
    dtype: torch.dtype,
    label_smoothing: float = 0.0,
    boundary_size: int | None = None,
) -> Tensor:
    """One-hot labels (N, C, *spatial), smoothed on all or on boundary pixels."""
    target = F.one_hot(labels, num_classes).movedim(-1, 1).to(dtype)
    if label_smoothing == 0:
        return target
    smoothed = (1 - label_smoothing) * target + label_smoothing / num_classes
    if boundary_size is None:
        return smoothed
    pool = _MAX_POOL[labels.dim() - 1]
    reached = pool(target, boundary_size, stride=1, padding=boundary_size // 2)
    boundary = reached.sum(dim=1, keepdim=True) > 1
    return torch.where(boundary, smoothed, target)


def naive_jaccard_metric_loss(
    logits: Tensor,
    target: Tensor,
    label_smoothing: float = 0.0,
    boundary_size: int | None = None,
) -> Tensor:
    """JML, eq. 12, over the classes whose target exceeds 0.01, statistics over the batch.

    Args:
        logits: (N, C, *spatial).
        target: int64 labels (N, *spatial), or probabilities (N, C, *spatial).
    """
    prob = F.log_softmax(logits, dim=1).exp()
    if not target.is_floating_point():
        target = naive_target(target, logits.shape[1], prob.dtype, label_smoothing, boundary_size)
    dims = (0, *range(2, logits.dim()))
    both = (prob + target).sum(dim=dims)
    difference = (prob - target).abs().sum(dim=dims)
    loss = 1 - (both - difference) / (both + difference)
    active = target.amax(dim=dims) > 0.01
    return (loss * active).sum() / active.sum().clamp(min=1)


def naive_jaccard_cross_entropy_loss(
    logits: Tensor,
    target: Tensor,
    label_smoothing: float = 0.0,
    boundary_size: int | None = None,
) -> Tensor:
    """CE + JML, eq. 14 with the paper's weights: a softmax for each.

    Args: as `naive_jaccard_metric_loss`.
    """
    if label_smoothing > 0 and not target.is_floating_point():
        target = naive_target(target, logits.shape[1], logits.dtype, label_smoothing, boundary_size)
    return 0.25 * F.cross_entropy(logits, target) + 0.75 * naive_jaccard_metric_loss(logits, target)


def naive_jaccard_distillation_loss(
    logits: Tensor, labels: Tensor, teacher_logits: Tensor
) -> Tensor:
    """Distillation, eq. 17 with the paper's weights: a term after the other, a softmax for each.

    Args:
        logits: of the student, (N, C, *spatial).
        labels: int64 (N, *spatial).
        teacher_logits: as the student's.
    """
    teacher = teacher_logits.softmax(dim=1)
    cross_entropy = F.cross_entropy(logits, labels) + F.cross_entropy(logits, teacher)
    jaccard = naive_jaccard_metric_loss(logits, labels) + naive_jaccard_metric_loss(logits, teacher)
    return 0.25 * 0.5 * cross_entropy + 0.75 * 0.5 * jaccard


def naive_lovasz_softmax_loss(logits: Tensor, target: Tensor) -> Tensor:
    """The Lovász-Softmax loss, appendix A, over the classes that the batch has: a sort of each.

    Args:
        logits: (N, C, *spatial).
        target: int64 labels (N, *spatial).
    """
    prob = logits.softmax(dim=1)
    losses, present = [], []
    for c in range(logits.shape[1]):
        is_label = (target == c).flatten().to(prob.dtype)
        errors, order = torch.sort((is_label - prob[:, c].flatten()).abs(), descending=True)
        label = is_label[order]
        count = label.sum()
        jaccard = 1 - (count - label.cumsum(0)) / (count + (1 - label).cumsum(0))
        losses.append(torch.dot(errors, torch.diff(jaccard, prepend=jaccard.new_zeros(1))))
        present.append(count > 0)
    active = torch.stack(present)
    return (torch.stack(losses) * active).sum() / active.sum().clamp(min=1)
