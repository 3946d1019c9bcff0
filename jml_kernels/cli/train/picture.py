"""The picture: image, mask, predictions of the runs, and their loss curves."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from ...extras import import_extra
from .evaluation import stripes
from .land_cover import CLASS_NAMES, LandCover
from .training import Result

CLASS_COLOURS = ("#2b5c8a", "#1f6b3a", "#a8b545", "#d9cf8b", "#d9822b", "#b9aea4")
EXAMPLES = 3
TILE = 1.6
"""Inches along the edge of an example."""
DPI = 150

#: Rows and columns of a map.
Window = tuple[slice, slice]


def example_windows(labels: Tensor, columns: list[slice], count: int) -> list[Window]:
    """Square windows as wide as their stripe, the most varied of each stripe first.

    Args:
        labels: int64 (H, W).
        columns: stripes of the map.

    Returns:
        at most `count` pairs (rows, columns), at most one from a stripe.
    """
    best = []
    for stripe in columns:
        size = min(stripe.stop - stripe.start, labels.shape[0])
        tops = range(0, labels.shape[0] - size + 1, max(1, size // 4))
        top = max(tops, key=lambda top: _entropy(labels[top : top + size, stripe]))
        window = (slice(top, top + size), stripe)
        best.append((_entropy(labels[window]), window))
    best.sort(key=lambda pair: -pair[0])
    return [window for _, window in best[:count]]


def smooth_curve(values: list[float], span: int) -> list[float]:
    """The mean of the last `span` values (fewer at the start)."""
    return [
        sum(part) / len(part)
        for part in (values[max(0, i - span + 1) : i + 1] for i in range(len(values)))
    ]


def brighten(image: Tensor) -> Tensor:
    """The image for the eye: uint8 of the same shape, dark land lifted by a power of 0.6."""
    return ((image.float() / 255) ** 0.6 * 255).to(torch.uint8)


def save_picture(data: LandCover, results: list[Result], path: Path) -> None:
    """Draw and write a PNG: above the examples, below the curves.

    Raises:
        MissingPackageError: without matplotlib.
    """
    windows = example_windows(data.labels, stripes(data.held_out), EXAMPLES)
    size = (TILE * (3 + len(results)), TILE * len(windows) + 4.2)
    figure = import_extra("matplotlib.figure", "demo").Figure(figsize=size, layout="constrained")
    figure.get_layout_engine().set(h_pad=0.06, w_pad=0.03)
    examples, curves = figure.subfigures(2, 1, height_ratios=[size[1] - 3.3, 3.3])
    _draw_examples(examples, data, results, windows)
    _draw_curves(curves.subplots(1, 2), results)
    figure.savefig(path, dpi=DPI)


def _draw_examples(figure, data: LandCover, results: list[Result], windows: list[Window]) -> None:
    """A row for each window: image, mask, how mixed the pixels are, predictions."""
    palette = {
        "cmap": import_extra("matplotlib.colors", "demo").ListedColormap(CLASS_COLOURS),
        "vmin": 0,
        "vmax": len(CLASS_COLOURS) - 1,
        "interpolation": "nearest",
    }
    gray = {"cmap": "gray", "vmin": 0.25, "vmax": 1}
    columns = [
        ("image", brighten(data.image).movedim(0, -1), {}),
        ("mask", data.labels, palette),
        ("soft label:\nthe largest share", data.cover.amax(dim=0), gray),
        *((_heading(result), _on_the_map(result, data), palette) for result in results),
    ]
    axes = figure.subplots(len(windows), len(columns), squeeze=False)
    for row, window in zip(axes, windows, strict=True):
        for axis, (_, values, options) in zip(row, columns, strict=True):
            axis.imshow(values[window].numpy(), **options)
            axis.set(xticks=[], yticks=[])
    for axis, (heading, _, _) in zip(axes[0], columns, strict=True):
        axis.set_title(heading, fontsize=8)
    patch = import_extra("matplotlib.patches", "demo").Patch
    handles = [
        patch(color=colour, label=name)
        for colour, name in zip(CLASS_COLOURS, CLASS_NAMES, strict=True)
    ]
    figure.legend(
        handles=handles, loc="outside lower center", ncols=len(handles), fontsize=8, frameon=False
    )


def _draw_curves(axes, results: list[Result]) -> None:
    """Left the objectives, right the distance between the runs with naive and fused loss."""
    curves = {result.run.key: result for result in results}
    span = max(1, len(results[0].curve) // 30)
    title = "Objective" if span == 1 else f"Objective, mean of {span} steps"
    for index, result in enumerate(results):
        steps = range(1, len(result.curve) + 1)
        # The two that must coincide: a broad line under a thin, broken one.
        style = {"naive": {"linewidth": 4, "alpha": 0.45}, "fused": {"linestyle": "--"}}
        options = {"color": f"C{index}", "linewidth": 1.2} | style.get(result.run.key, {})
        axes[0].plot(steps, smooth_curve(result.curve, span), label=result.run.title, **options)
    axes[0].set(xlabel="steps", title=title)
    axes[0].set_ylim(bottom=0)
    axes[0].legend(fontsize=7)

    naive, fused = curves["naive"].curve, curves["fused"].curve
    distance = [abs(a - b) for a, b in zip(naive, fused, strict=True)]
    steps = range(1, len(distance) + 1)
    axes[1].semilogy(steps, naive, color="C1", linewidth=1, label="the loss itself")
    # Equal losses have no logarithm: they lie on the axis below.
    floor = 1e-9
    axes[1].semilogy(
        steps, [max(d, floor) for d in distance], color="C2", linewidth=1, label="|naive - fused|"
    )
    axes[1].set_ylim(bottom=floor)
    axes[1].set(xlabel="steps", title="CE + JML, naive against fused")
    axes[1].legend(fontsize=7)
    for axis in axes:
        axis.grid(alpha=0.3)
        axis.title.set_fontsize(9)
        axis.xaxis.label.set_fontsize(8)
        axis.tick_params(labelsize=7)


def _on_the_map(result: Result, data: LandCover) -> Tensor:
    """The predictions, uint8 (H, W); class 0 outside the stripes held out."""
    full = torch.zeros_like(data.labels, dtype=torch.uint8)
    full[:, data.held_out] = result.predictions
    return full


def _heading(result: Result) -> str:
    first, *rest = result.run.title.split(", ")
    return "\n".join([first, *rest, f"mIoU {result.scores.miou:.3f}"])


def _entropy(labels: Tensor) -> float:
    """The entropy of the classes in a window, in nats."""
    share = labels.flatten().bincount().double()
    return torch.special.entr(share / share.sum()).sum().item()
