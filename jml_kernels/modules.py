"""The losses as modules: options kept, functional.py does the work."""

from __future__ import annotations

from torch import Tensor, nn

from .functional import LossOptions, overlap_loss, overlap_name


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
        defaults = LossOptions()
        changed = {
            name: value
            for name, value in vars(self.options).items()
            if value != getattr(defaults, name)
        }
        return ", ".join([self.overlap, *(f"{k}={v!r}" for k, v in changed.items())])


class JaccardMetricLoss(OverlapLoss):
    """Jaccard metric loss (Wang & Blaschko, 2023), eq. 12 (variant 1) or 13 (variant 2).

    A metric on [0, 1]^p, so right for soft targets, and equal to the soft Jaccard loss on hard
    labels (Theorem 2.3).

    Args:
        variant: 1 or 2; keyword-only, as every option.
        class_weights: (C,), a buffer; multiplies the losses per class.
        **options: those of `functional.LossOptions`.
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
