"""The Lovász losses as modules, see functional.py for the same as functions."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from .. import option_checks
from ..options import lists_options
from . import call
from .options import WITHOUT, HingeOptions, SoftmaxOptions


class LovaszLoss(nn.Module):
    """What the two losses share."""

    options: HingeOptions

    def extra_repr(self) -> str:
        """What differs from the defaults, as it is written in a constructor."""
        defaults = vars(type(self.options)())
        shown = {
            name: value
            for name, value in vars(self.options).items()
            if name in defaults
            and name not in WITHOUT
            and value is not defaults[name]
            and not (isinstance(value, str) and value == defaults[name])
        }
        shown |= {name: weights.tolist() for name, weights in self.named_buffers()}
        return ", ".join(f"{name}={value!r}" for name, value in shown.items())


@lists_options(SoftmaxOptions, without=WITHOUT)
class LovaszSoftmaxLoss(LovaszLoss):
    """The Lovász-Softmax loss (Berman et al., 2018; appendix A): the convex extension of the
    Jaccard loss of the mispredicted pixels, for integer labels. For soft labels take
    `JaccardMetricLoss`.

    Args:
        class_weights: (C,), a tensor or a list, kept as a buffer; multiplies the losses per class.

    Call:
        loss(logits, target, mask=None), see `functional.lovasz_softmax_loss` for shapes, dtypes,
        result and errors.
    """

    def __init__(self, *, class_weights: Tensor | Sequence[float] | None = None, **options):
        super().__init__()
        self.options = SoftmaxOptions(**options)
        weights = option_checks.class_weights("class_weights", class_weights)
        self.register_buffer("class_weights", weights)

    def forward(self, logits: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
        return call.softmax_loss(logits, target, mask, self.class_weights, self.options)


@lists_options(HingeOptions, without=WITHOUT)
class LovaszHingeLoss(LovaszLoss):
    """The binary Lovász hinge (Yu & Blaschko, 2018) of the Jaccard loss, for labels 0 and 1.

    Call:
        loss(logits, target, mask=None), see `functional.lovasz_hinge_loss`.
    """

    def __init__(self, **options):
        super().__init__()
        # One logit, whose sign predicts: what is checked is what a sigmoid would be.
        self.options = HingeOptions(activation="sigmoid", **options)

    def forward(self, logits: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
        return call.hinge_loss(logits, target, mask, self.options)
