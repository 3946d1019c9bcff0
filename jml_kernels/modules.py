"""The losses as modules: options kept, functional.py does the work."""

from __future__ import annotations

from torch import Tensor, nn

from . import checks
from .functional import overlap_loss
from .objectives import distillation_loss, target_loss
from .options import (
    DistillationOptions,
    LossOptions,
    check_mean_reduction,
    overlap_name,
    overlap_of,
)


class OverlapLoss(nn.Module):
    """A loss of the family; use the classes below, which choose the overlap.

    Call:
        loss(logits, target, mask=None), see `functional.jaccard_metric_loss` for shapes, dtypes,
        result and errors.
    """

    def __init__(self, overlap: str, class_weights: Tensor | None, options: LossOptions):
        super().__init__()
        self.overlap = overlap
        self.options = options
        self.register_buffer("class_weights", class_weights)

    def forward(self, logits: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
        return overlap_loss(logits, target, mask, self.overlap, self.options, self.class_weights)

    def extra_repr(self) -> str:
        defaults = vars(type(self.options)())
        changed = (f"{k}={v!r}" for k, v in vars(self.options).items() if v != defaults[k])
        return ", ".join([self.overlap, *changed])


class JaccardMetricLoss(OverlapLoss):
    """Jaccard metric loss (Wang & Blaschko, 2023), eq. 12 (variant 1) or 13 (variant 2).

    A metric on [0, 1]^p, so right for soft targets, and equal to the soft Jaccard loss on hard
    labels (Theorem 2.3).

    Args:
        variant: 1 or 2; keyword-only, as every option.
        class_weights: (C,), a buffer; multiplies the losses per class.
        **options: those of `options.LossOptions`.
    """

    def __init__(self, *, variant: int = 1, class_weights: Tensor | None = None, **options):
        overlap = overlap_name("metric", "variant", variant)
        super().__init__(overlap, class_weights, LossOptions(**options))


class SoftJaccardLoss(OverlapLoss):
    """Soft Jaccard loss, eq. 2 (norm 1) or 3 (norm 2); for hard labels.

    Args:
        norm: 1 or 2 (squared L2).
        class_weights, **options: as `JaccardMetricLoss`.
    """

    def __init__(self, *, norm: int = 1, class_weights: Tensor | None = None, **options):
        overlap = overlap_name("soft", "norm", norm)
        super().__init__(overlap, class_weights, LossOptions(**options))


class DiceSemimetricLoss(OverlapLoss):
    """`JaccardMetricLoss` with alpha = beta = 1/2: the Dice score, right for soft targets.

    Args:
        variant: 1 or 2.
        class_weights, **options: as `JaccardMetricLoss`.
    """

    def __init__(self, *, variant: int = 1, class_weights: Tensor | None = None, **options):
        overlap = overlap_name("metric", "variant", variant)
        super().__init__(overlap, class_weights, LossOptions(alpha=0.5, beta=0.5, **options))


class SoftDiceLoss(OverlapLoss):
    """`SoftJaccardLoss` with alpha = beta = 1/2: the soft Dice loss; for hard labels.

    Args:
        norm: 1 or 2 (squared L2).
        class_weights, **options: as `JaccardMetricLoss`.
    """

    def __init__(self, *, norm: int = 1, class_weights: Tensor | None = None, **options):
        overlap = overlap_name("soft", "norm", norm)
        super().__init__(overlap, class_weights, LossOptions(alpha=0.5, beta=0.5, **options))


class TverskyMetricLoss(OverlapLoss):
    """The general case: (1 - TP / (TP + alpha FP + beta FN))^gamma with the counts of the
    Jaccard metric losses. alpha = beta = 1 is JML, 1/2 is Dice.

    Args:
        alpha, beta: weights of false positives and false negatives, >= 0.
        gamma: focal exponent, > 0.
        variant: 1 or 2.
        class_weights, **options: as `JaccardMetricLoss`.
    """

    def __init__(
        self,
        alpha: float,
        beta: float,
        *,
        gamma: float = 1.0,
        variant: int = 1,
        class_weights: Tensor | None = None,
        **options,
    ):
        overlap = overlap_name("metric", "variant", variant)
        options = LossOptions(alpha=alpha, beta=beta, gamma=gamma, **options)
        super().__init__(overlap, class_weights, options)


class JaccardCrossEntropyLoss(OverlapLoss):
    """Cross-entropy and an overlap loss against the same, maybe smoothed, target:
    lambda CE + (1 - lambda) JML (eq. 14), in one pass over the logits.

    Args:
        ce_weight: lambda, in [0, 1].
        variant: 1 (the default) or 2, of `JaccardMetricLoss`.
        norm: 1 or 2: the overlap loss is `SoftJaccardLoss` of this norm instead.
        ce_class_weights: (C,), a buffer: weights of the cross-entropy, PyTorch's weighted mean.
        class_weights: (C,), a buffer; multiplies the overlap losses per class.
        **options: those of `options.LossOptions`, but reduction.

    Call:
        loss(logits, target, mask=None), see `functional.jaccard_cross_entropy_loss`.
    """

    def __init__(
        self,
        ce_weight: float = 0.25,
        *,
        variant: int | None = None,
        norm: int | None = None,
        ce_class_weights: Tensor | None = None,
        class_weights: Tensor | None = None,
        **options,
    ):
        checks.check_share("ce_weight", ce_weight)
        super().__init__(overlap_of(variant, norm), class_weights, LossOptions(**options))
        check_mean_reduction(self.options)
        self.ce_weight = ce_weight
        self.register_buffer("ce_class_weights", ce_class_weights)

    def forward(self, logits: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
        return target_loss(
            logits,
            target,
            mask,
            self.ce_weight,
            self.overlap,
            self.options,
            self.ce_class_weights,
            self.class_weights,
        )

    def extra_repr(self) -> str:
        return f"{self.ce_weight}, {super().extra_repr()}"


class JaccardDistillationLoss(OverlapLoss):
    """Distillation (eq. 15 to 17): cross-entropy and an overlap loss, each against labels and
    against a teacher, from one read of student, teacher and labels.

    Args:
        ce_weight: lambda, the share of cross-entropy, in [0, 1].
        ce_label_weight: mu, the share of the labels in the cross-entropy.
        jaccard_label_weight: nu, the share of the labels in the overlap loss.
        temperature: of the teacher's softmax.
        variant, norm, ce_class_weights, class_weights: as `JaccardCrossEntropyLoss`;
            ce_class_weights are of the cross-entropy against labels.
        **options: those of `options.DistillationOptions`, but reduction.

    Call:
        loss(student_logits, labels, teacher_logits, mask=None), see
        `functional.jaccard_distillation_loss`; labels=None leaves the teacher alone.
    """

    def __init__(
        self,
        ce_weight: float = 0.25,
        ce_label_weight: float = 0.5,
        jaccard_label_weight: float = 0.5,
        temperature: float = 1.0,
        *,
        variant: int | None = None,
        norm: int | None = None,
        ce_class_weights: Tensor | None = None,
        class_weights: Tensor | None = None,
        **options,
    ):
        options = DistillationOptions(
            ce_weight=ce_weight,
            ce_label_weight=ce_label_weight,
            jaccard_label_weight=jaccard_label_weight,
            temperature=temperature,
            **options,
        )
        super().__init__(overlap_of(variant, norm), class_weights, options)
        self.register_buffer("ce_class_weights", ce_class_weights)

    def forward(
        self,
        student_logits: Tensor,
        labels: Tensor | None,
        teacher_logits: Tensor,
        mask: Tensor | None = None,
    ) -> Tensor:
        return distillation_loss(
            student_logits,
            labels,
            teacher_logits,
            mask,
            self.overlap,
            self.options,
            self.ce_class_weights,
            self.class_weights,
        )
