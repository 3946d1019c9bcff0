"""Pictures of what `metrics.SegmentationMetrics.compute` returns. They need matplotlib, which the
extra "plot" brings along and which is imported when something is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from .extras import import_extra
from .option_checks import check_choice

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Of so many classes each entry of a confusion matrix is written out, and of so many each is named.
WRITTEN, NAMED = 12, 40


def reliability_diagram(
    scores: dict[str, Tensor], axis: Axes | None = None, boundary: bool = False
) -> tuple[Figure, Axes]:
    """Accuracy against confidence, bin by bin. On the diagonal a prediction is as often right as it
    is confident; bars below it are overconfident. The strip beneath has the share of the pixels.

    Args:
        scores: what `compute` has returned.
        axis: to draw into; None: of a new figure.
        boundary: of the pixels at boundaries alone.
    """
    prefix = "boundary_" if boundary else ""
    pixels, accuracy, confidence = _of(scores, f"{prefix}calibration_bins").T.tolist()
    figure, axis = _made(axis, (4.5, 4.5))
    count = len(pixels)
    edges = [i / count for i in range(count)]
    filled = [i for i in range(count) if pixels[i] > 0]
    at = [edges[i] for i in filled]
    style = {"width": 1 / count, "align": "edge", "linewidth": 0.5}
    heights = [accuracy[i] for i in filled]
    axis.bar(at, heights, color="C0", alpha=0.5, edgecolor="white", label="accuracy", **style)
    axis.bar(
        at,
        [confidence[i] - accuracy[i] for i in filled],
        bottom=heights,
        facecolor="none",
        edgecolor="C3",
        hatch="////",
        label="gap to confidence",
        **style,
    )
    axis.plot([0, 1], [0, 1], color="0.3", linestyle="--", linewidth=1)
    axis.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", ylabel="accuracy")
    where = "boundary pixels" if boundary else "all pixels"
    axis.set_title(f"{where}: ECE {float(scores[prefix + 'ece']):.2%}")
    axis.legend(fontsize=7, loc="upper left")
    axis.grid(alpha=0.3)
    axis.set_axisbelow(True)
    axis.tick_params(labelbottom=False)
    strip = axis.inset_axes((0, -0.22, 1, 0.18), sharex=axis)
    shares = [number / max(sum(pixels), 1) for number in pixels]
    strip.bar(edges, shares, color="0.6", edgecolor="white", **style)
    strip.set(xlabel="confidence", ylabel="pixels", ylim=(0, 1), yticks=(0, 1))
    strip.set_yticks((0, 1), ("0", "100 %"), fontsize=7)
    return figure, axis


def confusion_matrix(
    scores: dict[str, Tensor],
    axis: Axes | None = None,
    names: Sequence[str] | None = None,
) -> tuple[Figure, Axes]:
    """The share of each label's pixels (rows) that are predicted as each class (columns).

    Args:
        scores: what `compute` has returned, with a softmax.
        axis: to draw into; None: of a new figure.
        names: of the classes; None: their numbers.
    """
    counts = _of(scores, "confusion_matrix")
    if counts.dim() != 2:
        raise ValueError(
            f"confusion_matrix has shape {tuple(counts.shape)}: expected (C, C), as of a softmax"
        )
    count = len(counts)
    if names is not None and len(names) != count:
        raise ValueError(f"names has {len(names)} entries: expected {count}, one for each class")
    side = min(max(4.5, 1.5 + 0.45 * count), 12)
    figure, axis = _made(axis, (side + 0.8, side))
    shares = (counts / counts.sum(1, keepdim=True).clamp(min=1)).tolist()
    image = axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    if count <= WRITTEN:
        for row in range(count):
            for column in range(count):
                share = shares[row][column]
                if share >= 0.005:
                    color = "white" if share > 0.5 else "black"
                    axis.text(column, row, f"{share:.0%}", ha="center", va="center", fontsize=7,
                              color=color)  # fmt: skip
    if count <= NAMED or names is not None:
        words = [str(i) for i in range(count)] if names is None else list(names)
        axis.set_yticks(range(count), words, fontsize=7)
        rotation = 90 if max(map(len, words)) > 2 else 0
        axis.set_xticks(range(count), words, fontsize=7, rotation=rotation)
    axis.set(xlabel="prediction", ylabel="label")
    axis.set_title(f"mIoU {float(scores['miou_dataset']):.2%}")
    bar = figure.colorbar(
        image, ax=axis, shrink=0.8, aspect=30, format=lambda share, _: f"{share:.0%}"
    )
    bar.ax.tick_params(labelsize=7)
    bar.set_label("share of the label's pixels", fontsize=8)
    return figure, axis


def draw(kind: str, scores: dict[str, Tensor], axis: Axes | None = None) -> tuple[Figure, Axes]:
    """One of these by its name."""
    kinds = {"confusion_matrix": confusion_matrix, "reliability_diagram": reliability_diagram}
    check_choice("kind", kind, tuple(kinds))
    return kinds[kind](scores, axis)


def _of(scores: dict[str, Tensor], name: str) -> Tensor:
    if name not in scores:
        raise ValueError(f"scores lack {name!r}: expected those that `compute` returns with it")
    return scores[name].detach().cpu().double()


def _made(axis: Axes | None, size: tuple[float, float]) -> tuple[Figure, Axes]:
    if axis is not None:
        return axis.figure, axis
    figure = import_extra("matplotlib.figure", "plot").Figure(figsize=size, layout="constrained")
    return figure, figure.subplots()
