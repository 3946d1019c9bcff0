"""Scores of a dataset, batch by batch, in PyTorch alone: a state of constant size, and pure
functions on it.

    state = evaluation.empty()
    state = evaluation.updated(state, logits, labels)   # for each batch
    scores = evaluation.computed(state)

`metrics.SegmentationMetrics` is this as a metric of torchmetrics. All of a state's tensors are sums
over images, so that states of parts of a dataset add up to that of the whole.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from . import option_checks, scores
from .checks import check_logits, is_ignored
from .reference_tally import BIN_COLUMNS, IMAGE_ROWS
from .tally import Tally, TallyOptions, tally

ACTIVE_CLASSES = ("label", "both", "all")


class State(NamedTuple):
    """Sums over images. Counts are int64, sums of scores float64."""

    counts: Tensor
    """(len(IMAGE_ROWS), C): hits, predictions and labels of each class"""
    confusion: Tensor
    """(C, C), rows are labels; of independent classes (C, 2, 2)"""
    calibration: Tensor
    """(2, bins, len(BIN_COLUMNS)), of all pixels and of those at boundaries"""
    classwise: Tensor
    """(C, bins, len(BIN_COLUMNS))"""
    wrong: Tensor
    """(1,), how many labels were out of range"""
    class_scores: Tensor
    """(2, C): IoU and Dice of each class, of the images where it is active"""
    class_images: Tensor
    """(C,), how many images these are"""
    image_dice: Tensor
    """(1,): mean Dice of each image"""
    image_number: Tensor
    """(SCORE_BINS,): images by their mean IoU"""
    image_iou: Tensor
    """(SCORE_BINS,): sums of these mean IoUs"""


@dataclass(frozen=True)
class Evaluation:
    """What is computed of logits and labels; the same options as `metrics.SegmentationMetrics`."""

    num_classes: int
    ignore_index: int | None = -100
    bins: int | None = 10
    boundary_size: int | None = 3
    activation: str = "softmax"
    active_classes: str = "label"
    worst: float = 0.05
    upsample: str | None = None
    align_corners: bool = False
    validate: bool = False
    backend: str = "auto"

    def __post_init__(self):
        if option_checks.integer("num_classes", self.num_classes) < 1:
            raise ValueError(f"num_classes={self.num_classes!r}: expected at least 1")
        option_checks.check_choice("active_classes", self.active_classes, ACTIVE_CLASSES)
        option_checks.share("worst", self.worst)
        _ = self.tally_options  # which checks the others

    @functools.cached_property
    def tally_options(self) -> TallyOptions:
        return TallyOptions(
            ignore_index=self.ignore_index,
            bins=1 if self.bins is None else self.bins,
            boundary_size=self.boundary_size,
            calibration=self.bins is not None,
            classwise=self.bins is not None,
            activation=self.activation,
            upsample=self.upsample,
            align_corners=self.align_corners,
            validate=self.validate,
            backend=self.backend,
        )

    def empty(self, device: torch.device | str | None = None) -> State:
        """The state of no images."""
        c, bins, columns = self.num_classes, self.tally_options.bins, len(BIN_COLUMNS)

        def integers(*shape: int) -> Tensor:
            return torch.zeros(shape, dtype=torch.int64, device=device)

        def numbers(*shape: int) -> Tensor:
            return torch.zeros(shape, dtype=torch.float64, device=device)

        return State(
            counts=integers(len(IMAGE_ROWS), c),
            confusion=integers(c, 2, 2) if self.activation == "sigmoid" else integers(c, c),
            calibration=integers(2, bins, columns),
            classwise=integers(c, bins, columns),
            wrong=integers(1),
            class_scores=numbers(2, c),
            class_images=integers(c),
            image_dice=numbers(1),
            image_number=integers(scores.SCORE_BINS),
            image_iou=numbers(scores.SCORE_BINS),
        )

    def updated(
        self, state: State, logits: Tensor, labels: Tensor, mask: Tensor | None = None
    ) -> State:
        """The state with the images of a batch; see `tally` for the arguments. Nothing makes the
        host wait for a GPU."""
        check_logits(logits)
        if logits.shape[1] != self.num_classes:
            raise ValueError(
                f"logits has shape {tuple(logits.shape)}: expected {self.num_classes} classes, "
                "which is num_classes"
            )
        if logits.device != state.counts.device:
            raise ValueError(
                f"logits is on {logits.device}: expected {state.counts.device}, where the state is"
            )
        counted = tally(logits, labels, mask, self.tally_options)
        return merged(state, self._of_batch(counted, labels, mask))

    def _of_batch(self, counted: Tally, labels: Tensor, mask: Tensor | None) -> State:
        hits, predicted, labelled = counted.of_images[:, :3].unbind(1)
        active = self._active(predicted, labelled, labels, mask)
        of_nothing = predicted + labelled == 0
        iou = scores.iou(hits, predicted, labelled).masked_fill(of_nothing, 1.0)
        dice = scores.dice(hits, predicted, labelled).masked_fill(of_nothing, 1.0)
        counts = active.any(1)
        image_number, image_iou = scores.histogram(scores.mean(iou, active), counts)
        return State(
            counts=counted.of_images.sum(0),
            confusion=counted.confusion,
            calibration=counted.calibration,
            classwise=counted.classwise,
            wrong=counted.wrong,
            class_scores=(torch.stack([iou, dice]) * active).sum(1),
            class_images=active.sum(0),
            image_dice=scores.mean(dice, active).sum().view(1),
            image_number=image_number,
            image_iou=image_iou,
        )

    def _active(
        self, predicted: Tensor, labelled: Tensor, labels: Tensor, mask: Tensor | None
    ) -> Tensor:
        """bool (N, C): which classes count in which images."""
        if self.active_classes == "label":
            return labelled > 0
        if self.active_classes == "both":
            return labelled + predicted > 0
        if self.activation == "softmax":
            return (labelled.sum(1, keepdim=True) > 0).expand_as(labelled)
        # Maps of zeros are in no row of the tally: whether they have pixels only the labels tell.
        n, c = labelled.shape
        shape = (n, c, labels.numel() // max(n * c, 1))
        valid = torch.ones(shape, dtype=torch.bool, device=labels.device)
        if self.ignore_index is not None:
            valid = ~is_ignored(labels, self.ignore_index).reshape(shape)
        if mask is not None:
            valid = valid & mask.reshape(n, 1, shape[2])
        return valid.any(-1)

    def computed(self, state: State) -> dict[str, Tensor]:
        """The scores, by name; docs/metrics.md explains each. The host waits for a GPU.

        Raises:
            IndexError: where labels were out of range and nobody looked when they came.
        """
        if wrong := int(state.wrong):
            count = 2 if self.activation == "sigmoid" else self.num_classes
            raise IndexError(
                f"labels had {wrong} pixels out of range: expected labels in [0, {count}) or "
                f"ignore_index={self.ignore_index}; validate=True names the first as it comes"
            )
        return (
            self._overlaps(state)
            | (self._calibration(state) if self.bins is not None else {})
            | (self._boundaries(state) if self.boundary_size is not None else {})
        )

    def _overlaps(self, state: State) -> dict[str, Tensor]:
        hits, predicted, labelled = state.counts[:3]
        counted = predicted + labelled > 0
        iou, dice = scores.iou(*state.counts[:3]), scores.dice(*state.counts[:3])
        if self.active_classes == "all":
            iou, dice = (values.masked_fill(~counted, 1.0) for values in (iou, dice))
            counted = (state.confusion.sum((-2, -1)) > 0).expand_as(counted)
        images = state.image_number.sum()
        of_classes = scores.ratio(state.class_scores, state.class_images)
        return {
            "accuracy": scores.accuracy(state.confusion),
            "mean_accuracy": scores.mean_accuracy(hits, labelled),
            "miou_dataset": scores.mean(iou, counted),
            "miou_image": scores.ratio(state.image_iou.sum(), images),
            "miou_class": scores.mean(of_classes[0], state.class_images > 0),
            "mdice_dataset": scores.mean(dice, counted),
            "mdice_image": scores.ratio(state.image_dice.sum(), images),
            "mdice_class": scores.mean(of_classes[1], state.class_images > 0),
            "worst_miou_image": scores.mean_of_lowest(
                state.image_number, state.image_iou, self.worst
            ),
            "class_iou": torch.where(counted, iou, 0.0),
            "class_dice": torch.where(counted, dice, 0.0),
            "class_counted": counted.clone(),
            "confusion_matrix": state.confusion.clone(),
        }

    def _calibration(self, state: State) -> dict[str, Tensor]:
        return {
            "ece": scores.expected_calibration_error(state.calibration[0]),
            "classwise_ece": scores.expected_calibration_error(state.classwise).mean(),
            "mce": scores.maximum_calibration_error(state.calibration[0]),
            "calibration_bins": scores.reliability(state.calibration[0]),
        }

    def _boundaries(self, state: State) -> dict[str, Tensor]:
        hits, predicted, labelled = state.counts[3:]
        counted = predicted + labelled > 0
        iou = scores.iou(hits, predicted, labelled)
        found = {"boundary_iou": scores.mean(iou, counted), "class_boundary_iou": iou}
        if self.bins is not None:
            at_boundaries = state.calibration[1]
            found["boundary_ece"] = scores.expected_calibration_error(at_boundaries)
            found["boundary_calibration_bins"] = scores.reliability(at_boundaries)
        return found


def merged(one: State, other: State) -> State:
    """The state of two parts of a dataset together."""
    return State(*(a + b for a, b in zip(one, other, strict=True)))
