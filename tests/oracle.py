"""What the right answer is, twice over.

`expected_*` is the reference backend in float64, which judges every backend in its own dtype.
`plain_*` judges the reference itself: pixel by pixel in plain Python, from the paper's norms
(eq. 2, 3, 12 and 13), sharing no code with the package.
"""

from __future__ import annotations

import functools
import itertools
import math

import torch
import torch.nn.functional as F
from torch import Tensor

import jml_kernels as jml
from jml_kernels import accuracy
from jml_kernels.selfcheck.corpus.case import LossCase
from jml_kernels.selfcheck.corpus.drawing import shared
from jml_kernels.selfcheck.corpus.losses import OVERLAPS
from jml_kernels.statistics import SUMS, ClassStatistics

POOL = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}


def reached(one_hot: Tensor, size: int) -> Tensor:
    """How many classes' max-pooled one-hot maps reach each pixel."""
    pool = POOL[one_hot.dim() - 2]
    return pool(one_hot, size, stride=1, padding=size // 2).sum(dim=1)


#: The columns that have a gradient.
DIFFERENTIABLE = (*SUMS, "cross_entropy")


def column_weights(case: LossCase) -> dict[str, Tensor]:
    """A gradient for every column that takes one, float64: away from 0, of both signs.

    Of the cross-entropy only where it has one: the logarithm of a probability that is given as 0
    has none.
    """
    generator = torch.Generator().manual_seed(1)

    def draw(*shape: int) -> Tensor:
        weights = 0.5 + torch.rand(shape, generator=generator, dtype=torch.float64)
        return weights * (2 * torch.randint(0, 2, shape, generator=generator) - 1)

    weights = {name: draw(*case.shape[:2]) for name in SUMS}
    if case.activation != "none" or case.values != "ties":
        weights["cross_entropy"] = draw(case.shape[0])
    return weights


def weighted_columns(statistics: ClassStatistics, weights: dict[str, Tensor]) -> Tensor:
    return sum((getattr(statistics, name).double() * w).sum() for name, w in weights.items())


@functools.cache
def expected_loss(case: LossCase, overlap: str) -> accuracy.Answer:
    """In float64."""
    logits, target, _, mask = shared(case)
    loss = functools.partial(OVERLAPS[overlap], backend="reference", **case.options)
    return accuracy.answer(loss, logits.double().requires_grad_(), target, mask)


@functools.cache
def expected_columns(case: LossCase) -> tuple[ClassStatistics, Tensor]:
    """(statistics, gradient of the logits under `column_weights`), float64."""
    logits, target, _, mask = shared(case)
    leaf = logits.double().requires_grad_()
    options = {**case.target_options, "backend": "reference"}
    statistics = jml.class_statistics(leaf, target, mask, **options)
    loss = weighted_columns(statistics, column_weights(case))
    gradient = torch.autograd.grad(loss, leaf)[0]
    return ClassStatistics(*(column.detach() for column in statistics)), gradient


# ---- interpolation -------------------------------------------------------------------------------


def upsampled(case: LossCase, logits: Tensor) -> Tensor:
    """Logits of a case at full size: one dimension after the other, from the definition."""
    if not case.upsamples:
        return logits
    for dim, full in enumerate(case.target_shape[2:], start=2):
        low = logits.shape[dim]
        first, second, share = (
            zip(
                *(
                    _corners(i, low, full, case.options.get("align_corners", False))
                    for i in range(full)
                ),
                strict=True,
            )
            if full
            else ((), (), ())
        )
        weight = torch.tensor(share, dtype=logits.dtype).view(-1, *[1] * (logits.dim() - 1 - dim))
        one, other = (
            logits.index_select(dim, torch.tensor(i, dtype=torch.int64)) for i in (first, second)
        )
        logits = (1 - weight) * one + weight * other
    return logits


def _corners(i: int, low: int, full: int, align_corners: bool) -> tuple[int, int, float]:
    """Between which of `low` pixels the pixel i of `full` lies, and what share the second has."""
    if align_corners:
        position = i * (low - 1) / (full - 1) if full > 1 else 0.0
    else:
        position = max((i + 0.5) * low / full - 0.5, 0.0)
    first = min(int(position), low - 1)
    return first, min(first + 1, low - 1), position - first


# ---- the reference's own judge -------------------------------------------------------------------


def _plain_probabilities(logits: list[float], activation: str) -> list[float]:
    if activation == "none":
        return logits
    if activation == "sigmoid":
        return [0.0 if z < -700 else 1 / (1 + math.exp(-z)) for z in logits]
    powers = [math.exp(z - max(logits)) for z in logits]
    return [power / sum(powers) for power in powers]


def _plain_logarithms(
    logits: list[float], activation: str, independent: bool
) -> tuple[list[float], list[float | None]]:
    """log x and, where classes are independent, log(1 - x), of large logits too."""

    def log(x: float) -> float:
        return math.log(x) if x > 0 else -math.inf

    def log_sigmoid(z: float) -> float:
        return -math.log1p(math.exp(-z)) if z >= 0 else z - math.log1p(math.exp(z))

    if activation == "softmax":
        largest = max(logits)
        scale = largest + math.log(math.fsum(math.exp(z - largest) for z in logits))
        return [z - scale for z in logits], [None] * len(logits)
    if activation == "sigmoid":
        return [log_sigmoid(z) for z in logits], [log_sigmoid(-z) for z in logits]
    others = [log(1 - x) if independent else None for x in logits]
    return [log(x) for x in logits], others


def _plain_cross_entropy(y: float, log_x: float, log_other: float | None) -> float:
    """-y log x - (1 - y) log(1 - x); 0 log 0 = 0."""
    shares = [(y, log_x)] if log_other is None else [(y, log_x), (1 - y, log_other)]
    return math.fsum(-share * log for share, log in shares if share > 0)


def _window(position: tuple[int, ...], spatial: tuple[int, ...], size: int):
    reach = size // 2
    return itertools.product(
        *(
            range(max(p - reach, 0), min(p + reach + 1, s))
            for p, s in zip(position, spatial, strict=True)
        )
    )


def _plain_pixels(case: LossCase):
    """Yield (n, c, x, y, cross-entropy) of every element that counts."""
    logits, target, _, mask = shared(case)
    n_images, n_classes, *spatial = case.target_shape
    activation = case.activation
    epsilon = case.options.get("label_smoothing", 0.0)
    size = case.options.get("boundary_size")
    ignore = case.ignore_index
    binary = n_classes == 1 and activation != "softmax"
    independent = binary or activation == "sigmoid"
    dense = target.is_floating_point() or case.target == "bits"
    if n_classes == 1 and target.dim() == logits.dim() and not target.is_floating_point():
        target, dense = target.squeeze(1), False
    elif target.is_floating_point() and target.dim() < logits.dim():
        target = target.unsqueeze(1)
    logits = upsampled(case, logits.double())
    logits, integers = logits.tolist(), not target.is_floating_point()
    target = (target.to(torch.int64) if integers else target.double()).tolist()

    def at(nested, *index):
        for i in index:
            nested = nested[i]
        return nested

    def hidden(n, p):
        return mask is not None and not mask[(n, *p)]

    def label(n, p):
        """Of a neighbour: None where it is ignored, or no label at all."""
        value = at(target, n, *p)
        in_range = 0 <= value < (2 if binary else n_classes)
        return value if value != ignore and in_range else None

    for n in range(n_images):
        for p in itertools.product(*map(range, spatial)):
            if hidden(n, p):
                continue
            z = [at(logits, n, c, *p) for c in range(n_classes)]
            x = _plain_probabilities(z, activation)
            logs, others = _plain_logarithms(z, activation, independent)

            def element(n, c, y, x=x, logs=logs, others=others):
                return n, c, x[c], y, _plain_cross_entropy(y, logs[c], others[c])

            if dense:
                for c in range(n_classes):
                    y = at(target, n, c, *p)
                    if not integers:
                        yield element(n, c, y)
                    elif y != ignore:
                        yield element(n, c, (1 - epsilon) * y + epsilon / 2)
                continue
            own = label(n, p)
            if own is None:
                continue
            smoothed = epsilon
            if size is not None:
                around = {label(n, q) for q in _window(p, spatial, size)}
                smoothed = epsilon if len(around) > 1 and None not in around else 0.0
            labels = [1] if binary else range(n_classes)
            n_labels = 2 if binary else n_classes
            for c, name in enumerate(labels):
                yield element(n, c, (1 - smoothed) * (name == own) + smoothed / n_labels)


def plain_norms(case: LossCase) -> dict[str, list[list[float]]]:
    """The paper's norms, per image and class, the largest y and the cross-entropy (eq. 14)."""
    n_images, n_classes = case.shape[:2]
    terms = {
        "x": lambda x, y, _: x,
        "y": lambda x, y, _: y,
        "x+y": lambda x, y, _: x + y,
        "x-y": lambda x, y, _: abs(x - y),
        "xy": lambda x, y, _: x * y,
        "xx": lambda x, y, _: x * x,
        "yy": lambda x, y, _: y * y,
        "cross-entropy": lambda x, y, entropy: entropy,
    }
    summands = {name: [[[] for _ in range(n_classes)] for _ in range(n_images)] for name in terms}
    largest = [[0.0] * n_classes for _ in range(n_images)]
    for n, c, x, y, entropy in _plain_pixels(case):
        for name, term in terms.items():
            summands[name][n][c].append(term(x, y, entropy))
        largest[n][c] = max(largest[n][c], y)
    norms = {
        name: [[math.fsum(values) for values in row] for row in rows]
        for name, rows in summands.items()
    }
    return {**norms, "largest y": largest}


def plain_loss(case: LossCase, overlap: str) -> float:
    """The mean over classes whose y exceeds 0.01 somewhere in the batch; 0/0 is 0."""
    norms = plain_norms(case)
    losses = []
    for c in range(case.shape[1]):
        if max((row[c] for row in norms["largest y"]), default=0.0) <= 0.01:
            continue
        total = {name: math.fsum(row[c] for row in rows) for name, rows in norms.items()}
        numerator, denominator = {
            "metric1": (total["x+y"] - total["x-y"], total["x+y"] + total["x-y"]),
            "metric2": (total["xy"], total["xy"] + total["x-y"]),
            "soft1": (total["xy"], total["x"] + total["y"] - total["xy"]),
            "soft2": (total["xy"], total["xx"] + total["yy"] - total["xy"]),
        }[overlap]
        losses.append(1 - numerator / denominator if denominator else 0.0)
    return sum(losses) / len(losses) if losses else 0.0
