"""The losses as modules. A constructor checks the options and computes what is constant, the
objective; `forward` hands it to dispatch.py with the tensors of a call.

Everything but a loss's own parameters is one of the options in options.py, which every constructor
takes as keywords, lists in its signature and describes in its docstring.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import Tensor, nn

from . import dispatch, option_checks
from .objective import Objective, distillation_objective, target_objective
from .options import (
    DistillationOptions,
    LossOptions,
    check_reduction_of_objective,
    lists_options,
)
from .overlaps import overlap_name, overlap_of_objective


class OverlapLoss(nn.Module):
    """A loss of the family, by its objective: the base of the classes below, which make one.

    Whoever adds a row to `overlaps.OVERLAPS` has its loss as
    `OverlapLoss(target_objective("name", LossOptions()))`.

    Args:
        objective: see objective.py.
        class_weights: (C,), a tensor or a list, kept as a buffer; multiplies the losses per class.
        ce_class_weights: (C,), a buffer; the weights of the cross-entropy, where there is one.

    Call:
        loss(logits, target, mask=None), see `functional.jaccard_metric_loss` for shapes, dtypes,
        result and errors.
    """

    #: What a constructor sets itself, and does not take.
    _fixed_options: tuple[str, ...] = ()

    def __init__(
        self,
        objective: Objective,
        class_weights: Tensor | Sequence[float] | None = None,
        ce_class_weights: Tensor | Sequence[float] | None = None,
    ):
        super().__init__()
        self.objective = objective
        for name, weights in (
            ("class_weights", class_weights),
            ("ce_class_weights", ce_class_weights),
        ):
            self.register_buffer(name, option_checks.class_weights(name, weights))

    @property
    def options(self) -> LossOptions:
        return self.objective.options

    def forward(self, logits: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
        return dispatch.target_loss(
            self.objective, logits, target, mask, self.ce_class_weights, self.class_weights
        )

    def extra_repr(self) -> str:
        """What differs from the defaults, as it is written in a constructor."""
        shown = dict(self._parameters_shown())
        defaults = vars(type(self.options)())
        for name, value in vars(self.options).items():
            if name in self._fixed_options:
                continue
            if value is not defaults[name] and value != defaults[name]:
                shown.setdefault(name, value)
        for name, weights in self.named_buffers():
            shown[name] = weights.tolist()
        return ", ".join(f"{name}={value!r}" for name, value in shown.items())

    def _parameters_shown(self) -> Iterator[tuple[str, object]]:
        """Those of a loss beside its options."""
        family, number = self.objective.overlap[:-1], self.objective.overlap[-1:]
        parameter = {"metric": "variant", "soft": "norm"}.get(family)
        if parameter is None:
            yield "overlap", self.objective.overlap
        elif number != "1" or parameter == "norm":
            yield parameter, int(number)


@lists_options(LossOptions)
class JaccardMetricLoss(OverlapLoss):
    """Jaccard metric loss (Wang & Blaschko, 2023), eq. 12 (variant 1) or 13 (variant 2).

    A metric on [0, 1]^p, so right for soft targets, and equal to the soft Jaccard loss on hard
    labels (Theorem 2.3).

    Args:
        variant: 1 or 2; keyword-only, as every option.
        class_weights: (C,), a tensor or a list, kept as a buffer; multiplies the losses per class.

    Call:
        loss(logits, target, mask=None), see `functional.jaccard_metric_loss` for shapes, dtypes,
        result and errors.
    """

    def __init__(
        self, *, variant: int = 1, class_weights: Tensor | Sequence[float] | None = None, **options
    ):
        overlap = overlap_name("metric", "variant", variant)
        objective = target_objective(overlap, LossOptions(**options))
        super().__init__(objective, class_weights)


@lists_options(LossOptions)
class SoftJaccardLoss(OverlapLoss):
    """Soft Jaccard loss, eq. 2 (norm 1) or 3 (norm 2); for hard labels.

    Args:
        norm: 1 or 2 (squared L2).
        class_weights: (C,), a tensor or a list, kept as a buffer; multiplies the losses per class.

    Call:
        as `JaccardMetricLoss`.
    """

    def __init__(
        self, *, norm: int = 1, class_weights: Tensor | Sequence[float] | None = None, **options
    ):
        overlap = overlap_name("soft", "norm", norm)
        objective = target_objective(overlap, LossOptions(**options))
        super().__init__(objective, class_weights)


@lists_options(LossOptions, without=("alpha", "beta"))
class DiceSemimetricLoss(OverlapLoss):
    """`JaccardMetricLoss` with alpha = beta = 1/2: the Dice score, right for soft targets.

    Args:
        variant: 1 or 2.
        class_weights: (C,), a tensor or a list, kept as a buffer; multiplies the losses per class.

    Call:
        as `JaccardMetricLoss`.
    """

    _fixed_options = ("alpha", "beta")

    def __init__(
        self, *, variant: int = 1, class_weights: Tensor | Sequence[float] | None = None, **options
    ):
        overlap = overlap_name("metric", "variant", variant)
        options = LossOptions(alpha=0.5, beta=0.5, **options)
        super().__init__(target_objective(overlap, options), class_weights)


@lists_options(LossOptions, without=("alpha", "beta"))
class SoftDiceLoss(OverlapLoss):
    """`SoftJaccardLoss` with alpha = beta = 1/2: the soft Dice loss; for hard labels.

    Args:
        norm: 1 or 2 (squared L2).
        class_weights: (C,), a tensor or a list, kept as a buffer; multiplies the losses per class.

    Call:
        as `JaccardMetricLoss`.
    """

    _fixed_options = ("alpha", "beta")

    def __init__(
        self, *, norm: int = 1, class_weights: Tensor | Sequence[float] | None = None, **options
    ):
        overlap = overlap_name("soft", "norm", norm)
        options = LossOptions(alpha=0.5, beta=0.5, **options)
        super().__init__(target_objective(overlap, options), class_weights)


@lists_options(LossOptions)
class TverskyMetricLoss(OverlapLoss):
    """The general case: (1 - TP / (TP + alpha FP + beta FN))^gamma with the counts of the
    Jaccard metric losses. alpha = beta = 1 is JML, 1/2 is Dice.

    Args:
        alpha, beta: weights of false positives and false negatives, >= 0.
        gamma: focal exponent, > 0.
        variant: 1 or 2.
        class_weights: (C,), a tensor or a list, kept as a buffer; multiplies the losses per class.

    Call:
        as `JaccardMetricLoss`.
    """

    def __init__(
        self,
        alpha: float,
        beta: float,
        *,
        gamma: float = 1.0,
        variant: int = 1,
        class_weights: Tensor | Sequence[float] | None = None,
        **options,
    ):
        overlap = overlap_name("metric", "variant", variant)
        options = LossOptions(alpha=alpha, beta=beta, gamma=gamma, **options)
        super().__init__(target_objective(overlap, options), class_weights)


@lists_options(LossOptions)
class JaccardCrossEntropyLoss(OverlapLoss):
    """Cross-entropy and an overlap loss against the same, maybe smoothed, target:
    lambda CE + (1 - lambda) JML (eq. 14), in one pass over the logits.

    Args:
        ce_weight: lambda, in [0, 1].
        variant: 1 (the default) or 2, of `JaccardMetricLoss`.
        norm: 1 or 2: the overlap loss is `SoftJaccardLoss` of this norm instead.
        ce_class_weights: (C,), a buffer: weights of the cross-entropy, PyTorch's weighted mean.
        class_weights: (C,), a buffer; multiplies the overlap losses per class.

    Call:
        loss(logits, target, mask=None), see `functional.jaccard_cross_entropy_loss`.

    The reduction "none" is refused, since a cross-entropy has no classes.
    """

    def __init__(
        self,
        ce_weight: float = 0.25,
        *,
        variant: int | None = None,
        norm: int | None = None,
        ce_class_weights: Tensor | Sequence[float] | None = None,
        class_weights: Tensor | Sequence[float] | None = None,
        **options,
    ):
        ce_weight = option_checks.share("ce_weight", ce_weight)
        options = LossOptions(**options)
        check_reduction_of_objective(options)
        objective = target_objective(overlap_of_objective(variant, norm), options, ce_weight)
        super().__init__(objective, class_weights, ce_class_weights)

    @property
    def ce_weight(self) -> float:
        return self.objective.of_labels.ce_weight

    def _parameters_shown(self) -> Iterator[tuple[str, object]]:
        yield "ce_weight", self.ce_weight
        yield from super()._parameters_shown()


@lists_options(DistillationOptions)
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

    Call:
        loss(student_logits, labels, teacher_logits, mask=None), see
        `functional.jaccard_distillation_loss`; labels=None leaves the teacher alone.

    The reduction "none" is refused, since a cross-entropy has no classes.
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
        ce_class_weights: Tensor | Sequence[float] | None = None,
        class_weights: Tensor | Sequence[float] | None = None,
        **options,
    ):
        options = DistillationOptions(
            ce_weight=ce_weight,
            ce_label_weight=ce_label_weight,
            jaccard_label_weight=jaccard_label_weight,
            temperature=temperature,
            **options,
        )
        overlap = overlap_of_objective(variant, norm)
        objective = distillation_objective(overlap, options, has_labels=True)
        super().__init__(objective, class_weights, ce_class_weights)
        self.objective_without_labels = distillation_objective(overlap, options, has_labels=False)

    def forward(
        self,
        student_logits: Tensor,
        labels: Tensor | None,
        teacher_logits: Tensor,
        mask: Tensor | None = None,
    ) -> Tensor:
        return dispatch.distillation_loss(
            self.objective if labels is not None else self.objective_without_labels,
            student_logits,
            labels,
            teacher_logits,
            mask,
            self.ce_class_weights,
            self.class_weights,
        )
