"""From counts to scores: pure functions, one for each number that metrics are made of.

Counts are integers, as `tally` makes them and as they are added up over images. Scores are float64
and fractions. What is 0 / 0 is 0 here; who calls decides what takes part in a mean.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .reference_tally import BIN_COLUMNS, PROBABILITY_UNIT

_PIXELS, _CORRECT, _PROBABILITY = map(BIN_COLUMNS.index, ("pixels", "correct", "probability"))


def ratio(part: Tensor, whole: Tensor) -> Tensor:
    """part / whole, and 0 where whole is 0."""
    return torch.where(whole == 0, 0.0, part.double() / torch.where(whole == 0, 1, whole))


def mean(values: Tensor, counts: Tensor) -> Tensor:
    """Over the last dimension, of the values that count: 0 where none does."""
    return ratio(torch.where(counts, values, 0.0).sum(-1), counts.sum(-1))


# ---- overlap -------------------------------------------------------------------------------------


def iou(hits: Tensor, predicted: Tensor, labelled: Tensor) -> Tensor:
    """|P and L| / |P or L|, the Jaccard index of the pixels that are predicted as a class and those
    that are labelled so.

    Over the dataset (D), image by image (I) and class by class (C) it is averaged as in Wang et
    al., "Revisiting Evaluation Metrics for Semantic Segmentation", NeurIPS 2023.
    """
    return ratio(hits, predicted + labelled - hits)


def dice(hits: Tensor, predicted: Tensor, labelled: Tensor) -> Tensor:
    """2 |P and L| / (|P| + |L|)."""
    return ratio(2 * hits, predicted + labelled)


# ---- accuracy ------------------------------------------------------------------------------------


def accuracy(confusion: Tensor) -> Tensor:
    """The share of pixels that are predicted rightly: trace / sum of the confusion matrix. Of
    independent classes (C, 2, 2) it is that of all pixels of all classes."""
    return ratio(confusion.diagonal(dim1=-2, dim2=-1).sum(), confusion.sum())


def mean_accuracy(hits: Tensor, labelled: Tensor) -> Tensor:
    """The mean over the classes that are labelled of |P and L| / |L|."""
    return mean(ratio(hits, labelled), labelled > 0)


# ---- calibration ---------------------------------------------------------------------------------


def calibration_gaps(bins: Tensor) -> Tensor:
    """(..., bins) of (..., bins, len(BIN_COLUMNS)): pixels times |accuracy - confidence| of a bin,
    which is |number correct - sum of confidences|."""
    return (bins[..., _CORRECT] - probability_sums(bins)).abs()


def probability_sums(bins: Tensor) -> Tensor:
    return bins[..., _PROBABILITY].double() * PROBABILITY_UNIT


def expected_calibration_error(bins: Tensor) -> Tensor:
    """The sum over bins b of n_b / n |accuracy(b) - confidence(b)|.

    Guo et al., "On Calibration of Modern Neural Networks", ICML 2017. Of the bins of boundary
    pixels it is BECE, of the paper; of the bins of each class, by its own probability, the mean
    over classes is the classwise error: Nixon et al., "Measuring Calibration in Deep Learning",
    CVPR workshops 2019; Kull et al., "Beyond temperature scaling", NeurIPS 2019.
    """
    return ratio(calibration_gaps(bins).sum(-1), bins[..., _PIXELS].sum(-1))


def maximum_calibration_error(bins: Tensor) -> Tensor:
    """The largest |accuracy(b) - confidence(b)| of the bins that hold a pixel (Guo et al.)."""
    return ratio(calibration_gaps(bins), bins[..., _PIXELS]).amax(-1)


def reliability(bins: Tensor) -> Tensor:
    """(bins, 3), float64: of each bin how many pixels it has, their accuracy and their mean
    confidence."""
    pixels = bins[..., _PIXELS]
    accuracy = ratio(bins[..., _CORRECT], pixels)
    return torch.stack([pixels.double(), accuracy, ratio(probability_sums(bins), pixels)], -1)


# ---- the worst images ----------------------------------------------------------------------------

#: Of the histogram of the images' scores.
SCORE_BINS = 10000


def histogram(scores: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """How many scores in [0, 1] each of `SCORE_BINS` bins has, int64, and their sums, float64.

    Args:
        scores: (N,).
        counts: bool (N,), whether a score counts.
    """
    # The last place takes what does not count. Sums by place are put in order, as atomics do not.
    place = torch.where(counts, (scores * SCORE_BINS).long().clamp(max=SCORE_BINS - 1), SCORE_BINS)
    number = counts.new_zeros(SCORE_BINS + 1, dtype=torch.int64)
    total = scores.new_zeros(SCORE_BINS + 1)
    number = number.index_put((place,), torch.ones_like(place), accumulate=True)
    total = total.index_put((place,), scores, accumulate=True)
    return number[:SCORE_BINS], total[:SCORE_BINS]


def mean_of_lowest(number: Tensor, total: Tensor, share: float) -> Tensor:
    """The mean of the lowest scores of a histogram: of max(1, floor(share * n)), as Wang et al.
    count them.

    The bin that is cut into gives its mean for each of the scores that are taken, so that the
    result is exact to within 1 / `SCORE_BINS`, and mostly far closer.
    """
    before = number.cumsum(0) - number
    wanted = (number.sum() * share).floor().clamp(min=1)
    taken = torch.minimum((wanted - before).clamp(min=0), number)
    return ratio((taken * ratio(total, number)).sum(), taken.sum())
