"""The scores of metrics with a softmax, image by image in Python's own numbers: an oracle that
shares no code with the package."""

from __future__ import annotations

import math
from itertools import product

import torch
from torch import Tensor


def average(values: list[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def divided(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def boundary(labels: Tensor, size: int, ignore_index: int | None) -> Tensor:
    """By looking into every window."""
    found = torch.zeros(labels.shape, dtype=torch.bool)
    reach = size // 2
    for at in product(*map(range, labels.shape)):
        n, *place = at
        window = labels[n][tuple(slice(max(p - reach, 0), p + reach + 1) for p in place)]
        seen = set(window.flatten().tolist())
        found[at] = len(seen) > 1 and ignore_index not in seen
    return found


def errors_of_bins(pairs: list[tuple[float, float]], bins: int) -> tuple[float, float]:
    """(expected, maximum) calibration error of (probability, whether it was right)."""
    members: list[list[tuple[float, float]]] = [[] for _ in range(bins)]
    for probability, is_right in pairs:
        members[min(int(probability * bins), bins - 1)].append((probability, is_right))
    gaps = [
        (len(m), abs(average([right for _, right in m]) - average([p for p, _ in m])))
        for m in members
        if m
    ]
    expected = sum(number * gap for number, gap in gaps) / max(len(pairs), 1)
    return expected, max((gap for _, gap in gaps), default=0.0)


def expected_scores(
    logits: Tensor,
    labels: Tensor,
    mask: Tensor | None,
    *,
    ignore_index: int | None = -100,
    bins: int = 10,
    boundary_size: int = 3,
    active_classes: str = "label",
    worst: float = 0.05,
) -> dict[str, float | list]:
    """By the names of `compute`."""
    n, c = logits.shape[:2]
    p = torch.softmax(logits.double(), 1)
    prediction = logits.argmax(1)
    counts = labels != ignore_index if ignore_index is not None else torch.ones_like(labels).bool()
    at_label = boundary(labels, boundary_size, ignore_index)
    # ignore_index may be a class, too.
    at_prediction = boundary(torch.where(counts, prediction, -7), boundary_size, -7)
    if mask is not None:
        counts = counts & mask

    def overlap(images: slice, k: int, where: tuple[Tensor, Tensor]) -> tuple[int, int, int]:
        is_label = (labels == k)[images] & where[0][images]
        is_predicted = (prediction == k)[images] & where[1][images]
        return tuple(int(part.sum()) for part in (is_label & is_predicted, is_predicted, is_label))

    def iou(hits: int, predicted: int, labelled: int) -> float:
        return divided(hits, predicted + labelled - hits)

    def dice(hits: int, predicted: int, labelled: int) -> float:
        return divided(2 * hits, predicted + labelled)

    every = slice(None)
    of_classes = [overlap(every, k, (counts, counts)) for k in range(c)]
    of_images = [
        [overlap(slice(i, i + 1), k, (counts, counts)) for k in range(c)] for i in range(n)
    ]

    def value(score, numbers: tuple[int, int, int]) -> float:
        return score(*numbers) if numbers[1] + numbers[2] else 1.0

    def is_active(image: list, numbers: tuple[int, int, int]) -> bool:
        rule = {"label": numbers[2], "both": numbers[1] + numbers[2]}
        return bool(rule.get(active_classes, sum(labelled for _, _, labelled in image)))

    def by_image(score) -> list[float]:
        found = [[value(score, k) for k in image if is_active(image, k)] for image in of_images]
        return [average(scores) for scores in found if scores]

    def by_class(score) -> float:
        found = [
            [value(score, image[k]) for image in of_images if is_active(image, image[k])]
            for k in range(c)
        ]
        return average([average(scores) for scores in found if scores])

    seen = [bool(k[1] + k[2]) for k in of_classes]
    if active_classes == "all":
        seen = [bool(counts.any())] * c

    def by_dataset(score) -> float:
        chosen = zip(of_classes, seen, strict=True)
        return average([value(score, numbers) for numbers, is_seen in chosen if is_seen])

    confidence = p.amax(1)
    right = prediction == labels
    lowest = sorted(by_image(iou))[: max(1, math.floor(worst * len(by_image(iou))))]
    expected, maximum = errors_of_bins(
        list(zip(confidence[counts].tolist(), right[counts].tolist(), strict=True)), bins
    )
    near = counts & at_label
    at_boundary, _ = errors_of_bins(
        list(zip(confidence[near].tolist(), right[near].tolist(), strict=True)), bins
    )
    of_each = [
        errors_of_bins(
            list(zip(p[:, k][counts].tolist(), (labels == k)[counts].tolist(), strict=True)), bins
        )[0]
        for k in range(c)
    ]
    edges = [overlap(every, k, (counts & at_label, counts & at_prediction)) for k in range(c)]
    confusion = [
        [int(((labels == row) & (prediction == column) & counts).sum()) for column in range(c)]
        for row in range(c)
    ]
    return {
        "accuracy": divided(int((right & counts).sum()), int(counts.sum())),
        "mean_accuracy": average([divided(k[0], k[2]) for k in of_classes if k[2]]),
        "miou_dataset": by_dataset(iou),
        "miou_image": average(by_image(iou)),
        "miou_class": by_class(iou),
        "mdice_dataset": by_dataset(dice),
        "mdice_image": average(by_image(dice)),
        "mdice_class": by_class(dice),
        "worst_miou_image": average(lowest),
        "class_iou": [value(iou, k) if s else 0.0 for k, s in zip(of_classes, seen, strict=True)],
        "class_dice": [value(dice, k) if s else 0.0 for k, s in zip(of_classes, seen, strict=True)],
        "class_counted": seen,
        "confusion_matrix": confusion,
        "ece": expected,
        "mce": maximum,
        "classwise_ece": average(of_each),
        "boundary_ece": at_boundary,
        "boundary_iou": average([iou(*k) for k in edges if k[1] + k[2]]),
        "class_boundary_iou": [iou(*k) for k in edges],
    }
