"""The Lovász losses as appendix A and Berman et al. (2018) write them, in float64: the whole tensor
at once, errors sorted with their permutation, the Jaccard losses of growing sets by cumulative
sums. The package goes another way, and counts."""

from __future__ import annotations

from itertools import permutations

import torch
import torch.nn.functional as F
from torch import Tensor


def jaccard_loss(mispredicted: Tensor, is_label: Tensor) -> Tensor:
    """|m| / |y union m| (eq. 1) of sets along the last dimension; 0 of no mispredicted pixel."""
    mistakes = mispredicted.double().sum(-1)
    union = (mispredicted | is_label).double().sum(-1)
    return torch.where(mistakes == 0, 0, mistakes / union)


def extension(errors: Tensor, is_label: Tensor) -> Tensor:
    """Eq. 19 for one class: errors in any order, (pixels,)."""
    if not len(errors):
        return errors.sum()
    ordered, order = torch.sort(errors, descending=True, stable=True)
    label = is_label[order].double()
    intersection = label.sum() - label.cumsum(0)
    union = label.sum() + (1 - label).cumsum(0)
    jaccard = 1 - intersection / union
    differences = torch.cat([jaccard[:1], jaccard[1:] - jaccard[:-1]])
    return ordered @ differences


def largest_over_orders(errors: Tensor, is_label: Tensor) -> float:
    """The extension of a submodular set function is its Choquet integral, which is the largest sum
    of e_i (J_i - J_(i-1)) over all orders of the pixels, sorted or not."""
    best = 0.0
    for order in permutations(range(len(errors))):
        chosen, total, before = torch.zeros(len(errors), dtype=torch.bool), 0.0, 0.0
        for i in order:
            chosen[i] = True
            after = jaccard_loss(chosen, is_label).item()
            total += errors[i].item() * (after - before)
            before = after
        best = max(best, total)
    return best


def softmax_loss(
    logits: Tensor,
    labels: Tensor,
    mask: Tensor | None = None,
    *,
    classes="present",
    per_image=False,
    ignore_index=-100,
    class_weights=None,
    upsample=None,
    align_corners=False,
) -> Tensor:
    z = logits.double()
    if upsample is not None:
        z = F.interpolate(z, labels.shape[1:], mode=upsample, align_corners=align_corners)
    if per_image:
        found = [
            softmax_loss(
                z[i : i + 1],
                labels[i : i + 1],
                None if mask is None else mask[i : i + 1],
                classes=classes,
                ignore_index=ignore_index,
                class_weights=class_weights,
            )
            for i in range(len(z))
            if counted(labels[i], None if mask is None else mask[i], ignore_index).any()
        ]
        return torch.stack(found).mean() if found else logits.double().sum() * 0
    kept = counted(labels, mask, ignore_index)
    x = torch.softmax(z.movedim(1, -1)[kept], dim=1)
    y = labels[kept].long()
    losses = []
    for c in range(z.shape[1]):
        is_label = y == c
        named = classes in ("present", "all") if isinstance(classes, str) else c in classes
        if not named or not len(y) or (classes == "present" and not is_label.any()):
            continue
        loss = extension((is_label.double() - x[:, c]).abs(), is_label)
        losses.append(loss if class_weights is None else loss * class_weights[c])
    return torch.stack(losses).mean() if losses else (torch.nan_to_num(z) * 0).sum()


def hinge_loss(logits: Tensor, labels: Tensor, mask=None, *, per_image=False, ignore_index=-100):
    z = logits.double().squeeze(1)
    if per_image:
        found = [
            hinge_loss(
                logits[i : i + 1],
                labels[i : i + 1],
                None if mask is None else mask[i : i + 1],
                ignore_index=ignore_index,
            )
            for i in range(len(z))
            if counted(labels[i], None if mask is None else mask[i], ignore_index).any()
        ]
        return torch.stack(found).mean() if found else z.sum() * 0
    kept = counted(labels, mask, ignore_index)
    is_label = labels[kept] == 1
    errors = 1 - torch.where(is_label, 1, -1) * z[kept]
    return extension(torch.relu(errors), is_label)


def counted(labels: Tensor, mask: Tensor | None, ignore_index: int | None) -> Tensor:
    kept = torch.ones_like(labels, dtype=torch.bool) if mask is None else mask
    return kept if ignore_index is None else kept & (labels != ignore_index)
