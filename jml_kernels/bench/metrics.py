"""The objective "metrics": what scores of a batch cost. There is no backward.

All return the sum of the same six scores, so that nobody leaves out what others compute: accuracy,
mIoU over images, ECE, classwise ECE, ECE at boundaries and Boundary IoU.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .. import scores
from ..evaluation import Evaluation
from ..targets import boundary_mask
from .cases import BenchmarkCase
from .competitor import Loss

BINS = 10


def fused(case: BenchmarkCase, backend: str = "auto") -> Loss:
    """A batch that is counted into an empty state, as `SegmentationMetrics.update` does."""
    evaluation = Evaluation(
        case.shape[1], bins=BINS, boundary_size=case.boundary_size, backend=backend,
        **case.upsampling,
    )  # fmt: skip

    def total(logits: Tensor, labels: Tensor) -> Tensor:
        state = evaluation.updated(evaluation.empty(logits.device), logits, labels)
        edges = state.counts[3:]
        return (
            scores.accuracy(state.confusion)
            + scores.ratio(state.image_iou.sum(), state.image_number.sum())
            + scores.expected_calibration_error(state.calibration).sum()
            + scores.expected_calibration_error(state.classwise).mean()
            + scores.mean(scores.iou(*edges), edges[1] + edges[2] > 0)
        )

    return total


def naive(case: BenchmarkCase) -> Loss:
    """As it is usually written, tensor by tensor."""

    def total(logits: Tensor, labels: Tensor) -> Tensor:
        c = logits.shape[1]
        probability = torch.softmax(logits.detach(), dim=1)
        confidence, prediction = probability.max(dim=1)
        right = prediction == labels
        pairs = (c * labels + prediction).flatten(1)
        confusion = torch.stack([pair.bincount(minlength=c * c) for pair in pairs]).view(-1, c, c)
        near_label = boundary_mask(labels, case.boundary_size)
        near_prediction = boundary_mask(prediction, case.boundary_size)
        edges = _ious(
            labels[right & near_label & near_prediction].bincount(minlength=c),
            prediction[near_prediction].bincount(minlength=c),
            labels[near_label].bincount(minlength=c),
        )
        classwise = [_error(probability[:, k], labels == k) for k in range(c)]
        return (
            right.double().mean()
            + _of_images(confusion).mean()
            + _error(confidence, right)
            + torch.stack(classwise).mean()
            + _error(confidence[near_label], right[near_label])
            + edges.nanmean()
        )

    return total


def _ious(hits: Tensor, predicted: Tensor, labelled: Tensor) -> Tensor:
    """NaN where a class is nowhere."""
    return hits.double() / (predicted + labelled - hits)


def _of_images(confusion: Tensor) -> Tensor:
    """The mean over the classes of each image's labels."""
    labelled = confusion.sum(2)
    iou = _ious(confusion.diagonal(dim1=1, dim2=2), confusion.sum(1), labelled)
    return iou.where(labelled > 0, torch.nan).nanmean(1)


def _error(probability: Tensor, is_true: Tensor) -> Tensor:
    """The expected calibration error."""
    place = (probability * BINS).long().clamp(max=BINS - 1).flatten()
    gap = (is_true.double() - probability).flatten()
    sums = place.bincount(weights=gap, minlength=BINS)
    return sums.abs().sum() / max(len(gap), 1)
