"""The tally in plain PyTorch: the oracle of the kernels that count for metrics, to be read beside
tally.py. It has tensors of the logits' size, runs on any device and takes any floating dtype."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .checks import ACTIVATIONS, is_ignored
from .packing import NEVER, TallyInts
from .reference import probabilities
from .targets import boundary_mask
from .upsampling import interpolated

#: Probabilities are added up as integers, in this unit: sums are the same in any order. It is far
#: below what float32 knows of a probability, and 2^33 pixels of a call fit into 64 bits.
PROBABILITY_UNIT = 2.0**-30

IMAGE_ROWS = (
    "hits",
    "predicted",
    "labelled",
    "boundary_hits",
    "boundary_predicted",
    "boundary_labelled",
)
BIN_COLUMNS = ("pixels", "correct", "probability")


def tally(
    logits: Tensor, labels: Tensor, mask: Tensor | None, tally_ints: Sequence[int]
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """What metrics count of logits against integer labels. Everything is an integer.

    A pixel counts where its label is not ignore_index and the mask has it. Its prediction is the
    class of its largest logit, the first one of equal ones, where NaN is larger than all numbers;
    its confidence is the largest probability. A boundary pixel of a map is one whose window of
    boundary_size holds another label (`targets.boundary_mask`; a pixel near an ignored one is
    none); this is asked of the labels, and of the predictions, in which the pixels with ignored
    labels are ignored. A bin i of B has the probabilities p with floor(B p) = i, as float32
    (float64 for float64 logits) has the product; the last bin has 1 too. NaN counts as
    probability 0.

    With sigmoid each class is by itself: the labels are integers 0 and 1 for each class, a class is
    predicted where its logit is above 0, and confidence is the probability of the class.

    Args:
        logits: (N, C, *spatial), floating. With the int `upsample` of lower spatial size than the
            labels, and interpolated first.
        labels: integers (N, *spatial); with sigmoid (N, C, *spatial).
        mask: bool (N, *spatial), True where a pixel counts, or None.
        tally_ints: `packing.TallyInts`.

    Returns:
        int64 tensors; parts that are not asked for are 0.
        of_images: (N, len(IMAGE_ROWS), C): pixels of the class in both maps, in the predictions, in
            the labels; then the same of boundary pixels alone, those of both maps, of the
            predictions, of the labels.
        confusion: (C, C), rows are labels, columns predictions; with sigmoid (C, 2, 2).
        calibration: (2, bins, len(BIN_COLUMNS)): of all pixels, and of the labels' boundary pixels,
            by confidence: how many, how many are predicted rightly (with sigmoid: how many have
            the class), and the sum of confidences in units of `PROBABILITY_UNIT`.
        classwise: (C, bins, len(BIN_COLUMNS)): the same of each class, by its probability: pixels,
            pixels with this label, sum of probabilities.
        wrong: (1,), how many labels that count are out of range. They are left out.
    """
    ints = TallyInts(*tally_ints)
    is_sigmoid = ACTIVATIONS[ints.activation] == "sigmoid"
    if ints.upsample:
        logits = interpolated(
            logits, labels.shape[2 if is_sigmoid else 1 :], bool(ints.align_corners)
        )
    counted = ~is_ignored(labels, ints.ignore_index)
    if mask is not None:
        counted &= mask.unsqueeze(1) if is_sigmoid else mask
    index = labels.to(torch.int64)
    in_range = (index >= 0) & (index < (2 if is_sigmoid else logits.shape[1]))
    wrong = (counted & ~in_range).sum().view(1)
    valid = counted & in_range
    x = torch.nan_to_num(probabilities(logits, ACTIVATIONS[ints.activation]), nan=0.0)
    count = _of_independent_classes if is_sigmoid else _of_one_class_a_pixel
    return *count(logits, x, index, valid, ints), wrong


def _of_one_class_a_pixel(
    logits: Tensor, x: Tensor, index: Tensor, valid: Tensor, ints: TallyInts
) -> tuple[Tensor, ...]:
    c = logits.shape[1]
    prediction = logits.argmax(1)
    classes = torch.arange(c, device=x.device).view(-1, *[1] * (x.dim() - 2))
    is_label = valid.unsqueeze(1) & (index.unsqueeze(1) == classes)
    is_predicted = valid.unsqueeze(1) & (prediction.unsqueeze(1) == classes)
    pair = torch.where(valid, c * index + prediction, c * c)  # a place of its own, left out below
    confusion = _added(pair, torch.ones_like(pair).unsqueeze(0), c * c)[0].view(c, c)
    at_label, at_prediction = _boundaries(index, prediction, valid, ints)
    return (
        _of_images(is_label, is_predicted, at_label.unsqueeze(1), at_prediction.unsqueeze(1)),
        confusion,
        _calibration(x.amax(1), prediction == index, valid, at_label, ints),
        _classwise(x, is_label, valid.unsqueeze(1).expand_as(x), ints),
    )


def _of_independent_classes(
    logits: Tensor, x: Tensor, index: Tensor, valid: Tensor, ints: TallyInts
) -> tuple[Tensor, ...]:
    prediction = logits > 0
    is_label, is_predicted = valid & (index == 1), valid & prediction
    hits = (is_label & is_predicted).transpose(0, 1).flatten(1).sum(1)
    predicted = is_predicted.transpose(0, 1).flatten(1).sum(1)
    labelled = is_label.transpose(0, 1).flatten(1).sum(1)
    pixels = valid.transpose(0, 1).flatten(1).sum(1)
    neither = pixels - predicted - labelled + hits
    confusion = torch.stack([neither, predicted - hits, labelled - hits, hits], 1).view(-1, 2, 2)
    maps = [tensor.flatten(0, 1) for tensor in (index, prediction.long(), valid)]
    at_label, at_prediction = (at.view_as(index) for at in _boundaries(*maps, ints))
    return (
        _of_images(is_label, is_predicted, at_label, at_prediction),
        confusion,
        _calibration(x, index == 1, valid, at_label, ints),
        _classwise(x, is_label, valid, ints),
    )


def _boundaries(
    index: Tensor, prediction: Tensor, valid: Tensor, ints: TallyInts
) -> tuple[Tensor, Tensor]:
    """Boundary pixels of the labels, and of the predictions, that count."""
    if not ints.boundary_size:
        return torch.zeros_like(valid), torch.zeros_like(valid)
    ignored = index == ints.ignore_index
    ignore_index = None if ints.ignore_index == NEVER else ints.ignore_index
    # Another number that is no class, as ignore_index may be one.
    maps = (torch.where(ignored, -1, values) for values in (index, prediction))
    ignore_index = None if ignore_index is None else -1
    return tuple(valid & boundary_mask(labels, ints.boundary_size, ignore_index) for labels in maps)


def _of_images(
    is_label: Tensor, is_predicted: Tensor, at_label: Tensor, at_prediction: Tensor
) -> Tensor:
    near_label, near_prediction = is_label & at_label, is_predicted & at_prediction
    rows = (
        *(is_label & is_predicted, is_predicted, is_label),
        *(near_label & near_prediction, near_prediction, near_label),
    )
    return torch.stack([row.unsqueeze(-1).flatten(2).sum(-1) for row in rows], 1)


def _calibration(
    confidence: Tensor, is_correct: Tensor, valid: Tensor, at_label: Tensor, ints: TallyInts
) -> Tensor:
    if not ints.calibration:
        return confidence.new_zeros((2, ints.bins, len(BIN_COLUMNS)), dtype=torch.int64)
    parts = (valid, at_label)
    return torch.stack([_binned(confidence, is_correct, part, ints.bins) for part in parts])


def _classwise(x: Tensor, is_label: Tensor, valid: Tensor, ints: TallyInts) -> Tensor:
    if not ints.classwise:
        return x.new_zeros((x.shape[1], ints.bins, len(BIN_COLUMNS)), dtype=torch.int64)
    classes = zip(x.unbind(1), is_label.unbind(1), valid.unbind(1), strict=True)
    return torch.stack([_binned(p, y, v, ints.bins) for p, y, v in classes])


def _binned(probability: Tensor, is_true: Tensor, valid: Tensor, bins: int) -> Tensor:
    """(bins, len(BIN_COLUMNS)), of the numbers that count."""
    place = torch.where(valid, (probability * bins).long().clamp(max=bins - 1), bins)
    units = (probability.double() / PROBABILITY_UNIT).round().long()
    columns = torch.stack([torch.ones_like(units), is_true.long(), units])
    return _added(place, columns, bins).T.contiguous()


def _added(place: Tensor, columns: Tensor, count: int) -> Tensor:
    """(columns, count): sums of the columns' integers by place. What has the place `count` is left
    out: to choose numbers by a mask would make the host wait for a GPU."""
    result = columns.new_zeros((len(columns), count + 1))
    return result.index_add_(1, place.flatten(), columns.flatten(1))[:, :count]
