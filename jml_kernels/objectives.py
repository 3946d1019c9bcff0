"""Objectives against one target, and against labels and a teacher (eq. 14 to 17 of the paper): one
pass over the logits forward, one backward."""

from __future__ import annotations

from torch import Tensor

from .dispatch import call_of_labels_and_teacher, call_of_target, loss
from .formulas import Objective, Term
from .options import DistillationOptions, LossOptions


def target_loss(
    logits: Tensor,
    target: Tensor,
    mask: Tensor | None,
    ce_weight: float,
    overlap: str,
    options: LossOptions,
    ce_class_weights: Tensor | None,
    class_weights: Tensor | None,
) -> Tensor:
    """Eq. 14 with any loss of the family, or that alone (ce_weight=0): `overlap` is a name of
    `formulas.OVERLAPS`."""
    term = Term(ce_weight, 1 - ce_weight, options.active_classes)
    call = call_of_target(logits, target, mask, options, ce_class_weights)
    return loss(call, Objective(overlap, options, term, term), class_weights)


def distillation_loss(
    student_logits: Tensor,
    labels: Tensor | None,
    teacher_logits: Tensor,
    mask: Tensor | None,
    overlap: str,
    options: DistillationOptions,
    ce_class_weights: Tensor | None,
    class_weights: Tensor | None,
) -> Tensor:
    """Eq. 17 with any loss of the family."""
    # Without labels the objective is that of the teacher alone.
    ce_of_labels = options.ce_label_weight if labels is not None else 0.0
    overlap_of_labels = options.jaccard_label_weight if labels is not None else 0.0
    ce_weight, overlap_weight = options.ce_weight, 1 - options.ce_weight
    # Gradients through a temperature shrink with its square (Hinton et al., 2015).
    of_teacher = Term(
        options.student_temperature**2 * ce_weight * (1 - ce_of_labels),
        overlap_weight * (1 - overlap_of_labels),
        options.teacher_active_classes or options.active_classes,
    )
    of_labels = Term(
        ce_weight * ce_of_labels, overlap_weight * overlap_of_labels, options.active_classes
    )
    objective = Objective(overlap, options, of_labels, of_teacher, options.distillation == "kl")
    call = call_of_labels_and_teacher(
        student_logits,
        labels,
        teacher_logits,
        mask,
        (options.temperature, options.student_temperature),
        options,
        ce_class_weights if labels is not None else None,
    )
    return loss(call, objective, class_weights)
