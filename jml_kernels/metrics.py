"""Scores of segmentation as a metric of torchmetrics, which synchronises them over ranks, and logs
them in Lightning. It needs the extra "metrics"; evaluation.py, which computes them, needs none."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from . import plots
from .evaluation import Evaluation, State
from .extras import import_extra

torchmetrics = import_extra("torchmetrics", "metrics")


class SegmentationMetrics(torchmetrics.Metric):
    """Accuracy, overlap, calibration and boundaries of a dataset, in one pass over the logits.

        metric = jml.metrics.SegmentationMetrics(num_classes=19, ignore_index=255)
        metric.update(logits, labels)  # for each batch
        scores = metric.compute()      # a dict: scores["miou_dataset"], scores["ece"], ...

    docs/metrics.md has every score with its formula. Counts are int64 and sums float64, and the
    state does not grow with the number of images. `update` does not make the host wait for a GPU.

    Args:
        num_classes: C, of logits (N, C, *spatial).
        ignore_index: integer label of pixels that count nowhere; None: every pixel counts.
        bins: how many bins of equal width probabilities are sorted into; None: no calibration.
        boundary_size: k, odd: a pixel is at a boundary where its k x k window (k x k x k in a
            volume) holds another label; None: no boundaries.
        activation: "softmax"; or "sigmoid" for independent classes, where labels are integers 0
            and 1, (N, C, *spatial).
        active_classes: which classes count in the scores of images: "label", those that the
            image's labels have; "both", those that labels or predictions have; "all", where a
            class that neither has counts 1.
        worst: the share of the images whose mean IoU `worst_miou_image` averages.
        upsample, align_corners: logits of lower resolution than the labels are interpolated, as
            those of the losses are.
        validate: look for labels out of range at once also where that makes the host wait for a
            GPU; else `compute` raises.
        backend: "auto", or a name of `backends()`.
        options: of `torchmetrics.Metric`, as `process_group`.
    """

    is_differentiable = False
    higher_is_better = None
    full_state_update = False

    def __init__(
        self,
        num_classes: int,
        *,
        ignore_index: int | None = -100,
        bins: int | None = 10,
        boundary_size: int | None = 3,
        activation: str = "softmax",
        active_classes: str = "label",
        worst: float = 0.05,
        upsample: str | None = None,
        align_corners: bool = False,
        validate: bool = False,
        backend: str = "auto",
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.evaluation = Evaluation(
            num_classes=num_classes,
            ignore_index=ignore_index,
            bins=bins,
            boundary_size=boundary_size,
            activation=activation,
            active_classes=active_classes,
            worst=worst,
            upsample=upsample,
            align_corners=align_corners,
            validate=validate,
            backend=backend,
        )
        for name, tensor in self.evaluation.empty()._asdict().items():
            self.add_state(name, tensor, dist_reduce_fx="sum")

    @property
    def state(self) -> State:
        return State(*(getattr(self, name) for name in State._fields))

    def update(self, logits: Tensor, labels: Tensor, mask: Tensor | None = None) -> None:
        """Count a batch.

        Args:
            logits: (N, C, *spatial) with 0 to 3 spatial dimensions, any floating dtype.
            labels: (N, *spatial) of any integer dtype; see `activation`.
            mask: bool (N, *spatial), True where a pixel counts.

        Raises:
            TypeError, ValueError: for an argument of the wrong kind, naming it.
            IndexError: for a label out of range, on the CPU or with `validate`.
        """
        state = self.evaluation.updated(self.state, logits, labels, mask)
        for name, tensor in state._asdict().items():
            setattr(self, name, tensor)

    def compute(self) -> dict[str, Tensor]:
        """The scores of all images so far, of all ranks.

        Raises:
            IndexError: where labels were out of range.
        """
        return self.evaluation.computed(self.state)

    def plot(
        self, val: dict[str, Tensor] | None = None, ax: Any = None, kind: str = "confusion_matrix"
    ) -> tuple[Any, Any]:
        """A picture of `compute`'s result, or of one that is given.

        Args:
            val: what `compute` has returned.
            ax: of matplotlib, to draw into.
            kind: "confusion_matrix" or "reliability_diagram"; plots.py has them with more options.

        Returns:
            Figure and axes.
        """
        return plots.draw(kind, self.compute() if val is None else val, ax)
