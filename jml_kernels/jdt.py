"""JDTLoss, for users of the loss that the paper's authors publish under that name."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor, nn

from . import option_checks
from .checks import Names
from .dispatch import target_loss
from .objective import Objective, target_objective
from .options import LossOptions, names_nearest
from .overlaps import overlap_name

if TYPE_CHECKING:
    from torch.distributed import DeviceMesh, ProcessGroup

_ACTIVE = {"ALL": "all", "PRESENT": "label"}
_NAMES = Names("logits", "label", "label", "keep_mask")


@names_nearest
class JDTLoss(nn.Module):
    """The Jaccard, Dice or Tversky loss of (Wang & Blaschko, 2023) and its sequels, with the
    constructor, the defaults, the call and the values of the class that the authors publish: one
    import line moves a user over.

    Per image and class, over the pixels that count, with probabilities p and labels y:
    TP = (||p|| + ||y|| - ||p - y||) / 2, FP = ||p|| - TP, FN = ||y|| - TP (eq. 9), norms squared
    for norm 2; score = (TP + s) / (TP + alpha FP + beta FN + s); the loss of a class is 1 - score
    or -log(score), to the power gamma, times the class's weight. The mean is over the number of
    active classes, whatever the weights; no active class gives 0.

    Args:
        mIoUD: weight of the loss whose TP, FP and FN are summed over the batch.
        mIoUI: weight of the mean over active classes per image, then over images that have any.
        mIoUC: weight of the mean over images where a class is active, then over classes that are
            active in any.
        alpha, beta: weights of FP and FN, >= 0; both 1 for Jaccard, both 0.5 for Dice.
        gamma: >= 1.
        smooth: s >= 0.
        threshold: what a class's largest label must exceed in active class mode "PRESENT".
        norm: 1 or 2 (squared).
        log_loss: -log(score) in place of 1 - score.
        ignore_index: integer label that counts nowhere; None: none. Soft labels know no such.
        class_weights: C numbers, or None.
        active_classes_mode_hard, active_classes_mode_soft: "ALL" or "PRESENT", for integer and
            for soft labels.

    Call:
        loss(logits, label, keep_mask=None): logits (N, C, *spatial) with 0 to 3 spatial
        dimensions; label integers (N, *spatial), or probabilities (N, C, *spatial); keep_mask bool
        (N, *spatial), True where a pixel counts, takes the place of ignore_index. Returns a 0-dim
        tensor, float64 for float64 logits, else float32.

    Where theirs breaks, this differs:
        - sums are taken of min(p, y), max(p - y, 0) and max(y - p, 0) themselves, and in double
          precision: small classes and nearly perfect soft predictions keep their digits, no loss
          of norm 1 is negative, and gamma > 1 gives no NaN;
        - labels of any integer dtype are hard labels, not only int64;
        - an integer label out of range that counts raises an IndexError (on a GPU: NaN), and is
          not taken for the nearest class;
        - logits and labels of any strides are taken: slices, channels_last;
        - NaN in a pixel that does not count goes nowhere, and 0 / 0 with smooth=0 counts as 0;
        - class_weights is a buffer: it follows .to();
        - soft labels get no gradient; detach labels that require one.

    Raises:
        as `functional.jaccard_metric_loss`.
    """

    def __init__(
        self,
        mIoUD: float = 1.0,  # noqa: N803
        mIoUI: float = 0.0,  # noqa: N803
        mIoUC: float = 0.0,  # noqa: N803
        alpha: float = 1.0,
        beta: float = 1.0,
        gamma: float = 1.0,
        smooth: float = 1e-3,
        threshold: float = 0.01,
        norm: int = 1,
        log_loss: bool = False,
        ignore_index: int | None = None,
        class_weights: Sequence[float] | Tensor | None = None,
        active_classes_mode_hard: str = "PRESENT",
        active_classes_mode_soft: str = "ALL",
        *,
        process_group: ProcessGroup | DeviceMesh | bool | None = None,
        gradients: str = "averaged",
    ):
        super().__init__()
        for name, weight in (("mIoUD", mIoUD), ("mIoUI", mIoUI), ("mIoUC", mIoUC)):
            option_checks.non_negative(name, weight)
        if not option_checks.number("gamma", gamma) >= 1:
            raise ValueError(f"gamma={gamma!r}: expected a number >= 1")
        option_checks.non_negative("threshold", threshold)
        for name, mode in (
            ("active_classes_mode_hard", active_classes_mode_hard),
            ("active_classes_mode_soft", active_classes_mode_soft),
        ):
            option_checks.check_choice(name, mode, tuple(_ACTIVE))
        if class_weights is not None:
            class_weights = option_checks.class_weights("class_weights", class_weights).float()
        self.register_buffer("class_weights", class_weights)
        # TP of norm 1 is the sum of min(p, y), of norm 2 that of p y.
        overlap = overlap_name("metric" if norm == 1 else "soft", "norm", norm)

        def objective(mode: str, ignored: int | None) -> Objective:
            options = LossOptions(
                alpha=alpha,
                beta=beta,
                gamma=gamma,
                smooth=smooth,
                log_loss=log_loss,
                active_classes=_ACTIVE[mode],
                active_threshold=threshold,
                aggregation={"dataset": mIoUD, "image": mIoUI, "class": mIoUC},
                ignore_index=ignored,
                process_group=process_group,
                gradients=gradients,
            )
            # Theirs floors no logarithm: this floor is below every index that is not 0.
            return target_objective(overlap, options, index_floor=1e-300)

        self.hard = objective(active_classes_mode_hard, ignore_index)
        self.hard_masked = objective(active_classes_mode_hard, None)
        self.soft = objective(active_classes_mode_soft, None)

    def forward(self, logits: Tensor, label: Tensor, keep_mask: Tensor | None = None) -> Tensor:
        if not isinstance(label, Tensor):
            raise TypeError(f"label is a {type(label).__name__}: expected a Tensor")
        if label.is_floating_point():
            objective = self.soft
        else:
            objective = self.hard if keep_mask is None else self.hard_masked
        return target_loss(objective, logits, label, keep_mask, None, self.class_weights, _NAMES)

    def extra_repr(self) -> str:
        """What differs from the defaults, as it is written in the constructor."""
        options = self.hard.options
        modes = {ours: theirs for theirs, ours in _ACTIVE.items()}
        values = {
            **dict(zip(("mIoUD", "mIoUI", "mIoUC"), options.aggregation.values(), strict=True)),
            **{name: getattr(options, name) for name in ("alpha", "beta", "gamma", "smooth")},
            "threshold": options.active_threshold,
            "norm": int(self.hard.overlap[-1]),
            "log_loss": options.log_loss,
            "ignore_index": options.ignore_index,
            "class_weights": None if self.class_weights is None else self.class_weights.tolist(),
            "active_classes_mode_hard": modes[options.active_classes],
            "active_classes_mode_soft": modes[self.soft.options.active_classes],
        }
        defaults = inspect.signature(JDTLoss).parameters
        shown = (f"{k}={v!r}" for k, v in values.items() if v != defaults[k].default)
        return ", ".join(shown)
