"""What a loss asks of the kernels, computed once, when the loss is made: which terms it has, which
columns they need, and the options of the operators as the lists that these travel in."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from .checks import ACTIVATIONS, ACTIVE_MODES, AGGREGATIONS, REDUCTIONS
from .options import DistillationOptions, LossOptions, TargetOptions
from .overlaps import OVERLAPS, Overlap, overlap_columns
from .packing import NEVER, FormulaFloats, FormulaInts, TargetFloats, TargetInts
from .statistics import column_bits

#: The columns that each mode of choosing active classes needs.
ACTIVE_COLUMNS = {
    "all": 0,
    "present": column_bits("present"),
    "label": column_bits("target_max"),
    "prob": column_bits("prediction_max"),
    "both": column_bits("joint_max"),
    "counted": column_bits("counted"),
}


def class_mask(classes: tuple[int, ...] | Tensor, num_classes: int, device: torch.device) -> Tensor:
    """A list of classes, or a bool for each of them, as a bool tensor of shape (C,)."""
    if isinstance(classes, Tensor):
        if len(classes) != num_classes:
            raise ValueError(
                f"classes has shape {tuple(classes.shape)}: expected ({num_classes},), one for "
                "each class of logits"
            )
        return classes.to(device)
    if max(classes) >= num_classes:
        raise ValueError(
            f"classes={classes!r}: expected indices below {num_classes}, the classes of logits"
        )
    return torch.tensor([c in classes for c in range(num_classes)], device=device)


class Term(NamedTuple):
    """What an objective asks of one target: ce_weight * CE + overlap_weight * loss."""

    ce_weight: float
    overlap_weight: float
    active_classes: str

    def columns(self, overlap: Overlap, is_divergence: bool) -> int:
        """The statistics that this needs, as bits. A weight of 0 takes its part out."""
        columns = 0
        if self.ce_weight > 0:
            columns |= column_bits("cross_entropy", "cross_entropy_weight")
            columns |= column_bits("target_entropy") if is_divergence else 0
        if self.overlap_weight > 0:
            columns |= overlap_columns(overlap) | ACTIVE_COLUMNS[self.active_classes]
        return columns


class TargetLists(NamedTuple):
    """How the operators read logits and targets: the numbers of `packing.TargetInts` and
    `packing.TargetFloats`, as plain tuples, which compiled graphs hold as they are."""

    ints: tuple[int, ...]
    floats: tuple[float, ...]

    @property
    def has_teacher(self) -> bool:
        """Whether a dense target holds a teacher's logits."""
        return TargetFloats(*self.floats).teacher_temperature > 0

    def at_full_size(self) -> TargetLists:
        """The same for logits that are interpolated already."""
        ints = TargetInts(*self.ints)._replace(upsample=0, align_corners=0)
        return self._replace(ints=tuple(ints))


def target_lists(
    options: TargetOptions,
    label_columns: int,
    dense_columns: int,
    teacher_temperature: float = 0.0,
    student_temperature: float = 1.0,
) -> TargetLists:
    ints = TargetInts(
        label_columns,
        dense_columns,
        ACTIVATIONS.index(options.activation),
        options.boundary_size or 0,
        NEVER if options.ignore_index is None else options.ignore_index,
        int(options.upsample is not None),
        int(options.align_corners),
    )
    floats = TargetFloats(
        float(options.label_smoothing), float(teacher_temperature), float(student_temperature)
    )
    return TargetLists(tuple(ints), tuple(floats))


class FormulaLists(NamedTuple):
    """How operators that finish a loss compute it: the numbers of `packing.FormulaInts` and
    `packing.FormulaFloats`."""

    ints: tuple[int, ...]
    floats: tuple[float, ...]
    overlap: tuple[float, ...]
    """the overlap's matrix, row by row"""


@dataclass(frozen=True)
class Objective:
    """A loss, by its terms; what follows from them is computed with it.

    Attributes:
        overlap: which one, a name of `overlaps.OVERLAPS`.
        of_labels, of_dense: the terms of labels, and of a dense target.
        teacher_temperature: of the dense target, where that holds a teacher's logits; else 0.
        student_temperature: of the student in the cross-entropy of the dense target.
        is_divergence: whether the dense target's own entropy is taken off its cross-entropy.
        index_floor: with log_loss, what the logarithm takes in place of a smaller index, so that
            the loss and its gradients stay finite.
        matrix: of the overlap.
        class_masks: what `class_mask` has made, for each device and number of classes.
        target: the lists of the operators.
        formula: those of the operators that finish a loss.
    """

    overlap: str
    options: LossOptions
    of_labels: Term
    of_dense: Term
    teacher_temperature: float = 0.0
    student_temperature: float = 1.0
    is_divergence: bool = False
    index_floor: float = 1e-7
    matrix: Overlap = field(init=False, repr=False)
    class_masks: dict = field(init=False, repr=False, compare=False, default_factory=dict)
    target: TargetLists = field(init=False, repr=False)
    formula: FormulaLists = field(init=False, repr=False)

    def __post_init__(self):
        object.__setattr__(self, "matrix", OVERLAPS[self.overlap])
        object.__setattr__(self, "target", self._target_lists())
        object.__setattr__(self, "formula", self._formula_lists())

    def class_mask(self, logits: Tensor) -> Tensor:
        """options.classes as a bool tensor, (C,), beside the logits. It is kept, since making it on
        a GPU would have the host wait."""
        classes, count = self.options.classes, logits.shape[1]
        if torch.compiler.is_compiling():
            return class_mask(classes, count, logits.device)
        key = (count, logits.device)
        if key not in self.class_masks:
            self.class_masks[key] = class_mask(classes, count, logits.device)
        return self.class_masks[key]

    @property
    def needs_dense(self) -> bool:
        """Whether any term is against the dense target."""
        return self.of_dense.columns(self.matrix, self.is_divergence) != 0

    def _target_lists(self) -> TargetLists:
        return target_lists(
            self.options,
            self.of_labels.columns(self.matrix, False),
            self.of_dense.columns(self.matrix, self.is_divergence),
            self.teacher_temperature,
            self.student_temperature,
        )

    def _formula_lists(self) -> FormulaLists:
        options, aggregation = self.options, self.options.aggregation_weights
        of_labels, of_dense = self.of_labels, self.of_dense
        ints = FormulaInts(
            int(options.log_loss),
            ACTIVE_MODES.index(of_labels.active_classes),
            ACTIVE_MODES.index(of_dense.active_classes),
            int(self.is_divergence),
            int(options.inactive_loss is not None),
            int(options.weighted_mean),
            REDUCTIONS.index(options.reduction),
        )
        floats = FormulaFloats(
            options.alpha,
            options.beta,
            options.gamma,
            *options.smooth_pair,
            self.index_floor,
            options.inactive_loss or 0.0,
            *(aggregation.get(how, 0.0) for how in AGGREGATIONS),
            options.active_threshold,
            of_labels.ce_weight,
            of_dense.ce_weight,
            of_labels.overlap_weight,
            of_dense.overlap_weight,
        )
        matrix = (number for row in self.matrix for number in row)
        return FormulaLists(tuple(ints), tuple(map(float, floats)), tuple(map(float, matrix)))


def target_objective(
    overlap: str, options: LossOptions, ce_weight: float = 0.0, index_floor: float = 1e-7
) -> Objective:
    """Eq. 14 with any loss of the family, or that alone (ce_weight=0), against one target.

    Args:
        overlap: a name of `overlaps.OVERLAPS`.
    """
    of_labels = Term(ce_weight, 1 - ce_weight, options.active_classes)
    # Elements of a dense target may be ignored one by one, and a class may be left with none.
    of_dense = of_labels
    if options.active_classes == "all" and options.ignore_index is not None:
        of_dense = of_labels._replace(active_classes="counted")
    return Objective(overlap, options, of_labels, of_dense, index_floor=index_floor)


def distillation_objective(
    overlap: str, options: DistillationOptions, has_labels: bool
) -> Objective:
    """Eq. 15 to 17 with any loss of the family. Without labels it is that of the teacher alone.

    Args:
        overlap: a name of `overlaps.OVERLAPS`.
    """
    label_share_of_ce = options.ce_label_weight if has_labels else 0.0
    label_share_of_overlap = options.jaccard_label_weight if has_labels else 0.0
    ce_weight, overlap_weight = options.ce_weight, 1 - options.ce_weight
    of_labels = Term(
        ce_weight * label_share_of_ce,
        overlap_weight * label_share_of_overlap,
        options.active_classes,
    )
    # Gradients through a temperature shrink with its square (Hinton et al., 2015).
    of_teacher = Term(
        options.student_temperature**2 * ce_weight * (1 - label_share_of_ce),
        overlap_weight * (1 - label_share_of_overlap),
        options.teacher_active_classes or options.active_classes,
    )
    return Objective(
        overlap,
        options,
        of_labels,
        of_teacher,
        options.temperature,
        options.student_temperature,
        options.distillation == "kl",
    )
