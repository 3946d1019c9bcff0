"""Whole objectives of the paper, eq. 14 to 17: cross-entropy and an overlap loss, against labels
and a teacher, from one softmax. One pass over the logits forward, one backward."""

from __future__ import annotations

from torch import Tensor

from . import checks, formulas
from .dispatch import statistics_of_labels_and_teacher, statistics_of_target
from .options import DistillationOptions, LossOptions
from .statistics import column_bits

CROSS_ENTROPY = column_bits("cross_entropy", "cross_entropy_weight")
DIVERGENCE = CROSS_ENTROPY | column_bits("target_entropy")


def cross_entropy_and_overlap(
    logits: Tensor,
    target: Tensor,
    mask: Tensor | None,
    ce_weight: float,
    overlap: str,
    options: LossOptions,
    ce_class_weights: Tensor | None,
    class_weights: Tensor | None,
) -> Tensor:
    """Eq. 14 with any loss of the family: `overlap` is a name of `formulas.OVERLAPS`."""
    if class_weights is not None:
        checks.check_class_weights(class_weights, logits)
    columns = CROSS_ENTROPY if ce_weight > 0 else 0
    columns |= formulas.overlap_columns(overlap, options) if ce_weight < 1 else 0
    statistics = statistics_of_target(logits, target, mask, columns, options, ce_class_weights)
    loss = _weighted(
        (ce_weight, lambda: formulas.mean_cross_entropy(statistics)),
        (
            1 - ce_weight,
            lambda: formulas.overlap_loss(statistics, overlap, options, class_weights),
        ),
    )
    return loss.to(checks.result_dtype(logits))


def distillation(
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
    if class_weights is not None:
        checks.check_class_weights(class_weights, student_logits)
    # Without labels the objective is that of the teacher alone.
    ce_of_labels = options.ce_label_weight if labels is not None else 0.0
    jaccard_of_labels = options.jaccard_label_weight if labels is not None else 0.0
    ce, jaccard = options.ce_weight, 1 - options.ce_weight
    ce_weights = (ce * ce_of_labels, ce * (1 - ce_of_labels))
    jaccard_weights = (jaccard * jaccard_of_labels, jaccard * (1 - jaccard_of_labels))
    of_each = (options, options.of_teacher)
    is_divergence = options.distillation == "kl"
    ce_columns = (CROSS_ENTROPY, DIVERGENCE if is_divergence else CROSS_ENTROPY)

    columns = tuple(
        (ce_columns[i] if ce_weights[i] > 0 else 0)
        | (formulas.overlap_columns(overlap, of_each[i]) if jaccard_weights[i] > 0 else 0)
        for i in range(2)
    )
    statistics = statistics_of_labels_and_teacher(
        student_logits,
        labels,
        teacher_logits,
        mask,
        columns,
        (options.temperature, options.student_temperature),
        options,
        ce_class_weights if labels is not None else None,
    )
    of_labels, of_teacher = statistics[0], statistics[-1]

    def cross_entropy_of_teacher() -> Tensor:
        mean = formulas.mean_divergence if is_divergence else formulas.mean_cross_entropy
        # Gradients through a temperature shrink with its square (Hinton et al., 2015).
        return options.student_temperature**2 * mean(of_teacher)

    def jaccard_loss(statistics: dict[str, Tensor], term: LossOptions) -> Tensor:
        return formulas.overlap_loss(statistics, overlap, term, class_weights)

    loss = _weighted(
        (ce_weights[0], lambda: formulas.mean_cross_entropy(of_labels)),
        (ce_weights[1], cross_entropy_of_teacher),
        (jaccard_weights[0], lambda: jaccard_loss(of_labels, of_each[0])),
        (jaccard_weights[1], lambda: jaccard_loss(of_teacher, of_each[1])),
    )
    return loss.to(checks.result_dtype(student_logits))


def _weighted(*terms) -> Tensor:
    """Sum of weight times value; a weight of 0 takes a term out, even where that is infinite."""
    return sum(weight * value() for weight, value in terms if weight > 0)
