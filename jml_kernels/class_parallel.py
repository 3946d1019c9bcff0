"""Statistics of logits whose classes lie on several ranks, for a head that is too wide for one.

    maxima and sums of exponents, one of each a pixel, over ranks -> x of this rank's classes
    x and y of these classes -> statistics by the kernels, and their share of the cross-entropy
    one sum over ranks       -> statistics of all classes, on every rank

What the kernels are given here is x and y, as tensors of the shard's size: no softmax is fused, and
a step holds several tensors of that size.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from . import checks
from .distributed import SumOverRanks, all_reduced
from .objective import target_lists
from .ops import STATISTICS
from .options import TargetOptions
from .statistics import EXTREMA, SUMS, TOTALS, column_bits
from .targets import boundary_mask

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


class ClassShard(NamedTuple):
    """Which classes a rank has: `count` from `first` on, of `num_classes`."""

    group: ProcessGroup
    num_classes: int
    first: int
    count: int


def class_shard(group: ProcessGroup, num_classes: int, count: int) -> ClassShard:
    """As a DTensor shards: equal pieces, of which the last ones may be smaller or empty."""
    piece = -(-num_classes // group.size())
    return ClassShard(group, num_classes, min(group.rank() * piece, num_classes), count)


class LogSumExpOverRanks(torch.autograd.Function):
    """log sum_c e^z_c over the classes of all ranks: (N, C / ranks, *spatial) -> (N, *spatial)."""

    @staticmethod
    def forward(z: Tensor, group: ProcessGroup) -> Tensor:
        shape = (z.shape[0], *z.shape[2:])
        z_max = z.amax(1) if z.shape[1] else z.new_full(shape, -torch.inf)
        z_max = all_reduced(z_max, group, "max")
        exp_sum = all_reduced(torch.exp(z - z_max.unsqueeze(1)).sum(1), group)
        return z_max + torch.log(exp_sum)

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        z, ctx.group = inputs
        ctx.save_for_backward(z, output)

    @staticmethod
    def backward(ctx, grad: Tensor):
        z, log_sum = ctx.saved_tensors
        # Every rank computes with the same number: its adjoint is the sum of theirs.
        grad = all_reduced(grad, ctx.group)
        return grad.unsqueeze(1) * torch.exp(z - log_sum.unsqueeze(1)), None


def label_statistics(
    logits: Tensor,
    labels: Tensor,
    mask: Tensor | None,
    ce_class_weights: Tensor | None,
    shard: ClassShard,
    columns: int,
    options: TargetOptions,
    backend: str,
) -> tuple[Tensor, Tensor, Tensor]:
    """`reference.statistics` of softmax and integer labels, of all classes, on every rank.

    Args:
        logits: (N, C of this rank, *spatial), at full size.
        labels: (N, *spatial), of all classes.
        ce_class_weights: (C,), of all classes.
        columns: bits of `statistics.COLUMNS` that are asked for.
    """
    dtype = checks.result_dtype(logits)
    logits, index = logits.to(dtype), labels.to(torch.int64)
    counts = torch.ones_like(index, dtype=torch.bool) if mask is None else mask
    if options.ignore_index is not None:
        counts = counts & ~checks.is_ignored(labels, options.ignore_index)
    wrong = counts & ((index < 0) | (index >= shard.num_classes))
    valid = counts & ~wrong
    # A pixel that does not count may hold NaN.
    z = torch.where(valid.unsqueeze(1), logits, 0)
    log_sum = LogSumExpOverRanks.apply(z, shard.group)
    log_x = z - log_sum.unsqueeze(1)

    y, is_argmax = _target_of_own_classes(labels, valid, shard, options, dtype)
    # Where logits are NaN or infinite, so is the sum of exponents, on every rank.
    broken = ~log_sum.isfinite()
    sums, extrema = _of_all_classes(
        log_x.exp(), y, is_argmax, valid, broken, columns, shard, backend
    )
    # A rank without classes calls the backward of the sum of exponents too, a collective.
    sums = sums + log_sum.flatten()[:0].sum()
    totals = dict.fromkeys(TOTALS, extrema.new_zeros(z.shape[0]))
    if columns & column_bits("cross_entropy"):
        totals["cross_entropy"] = _cross_entropy_of_own_classes(
            log_x, y, valid, ce_class_weights, shard
        )
        weights = valid.double()
        if ce_class_weights is not None:
            of_label = ce_class_weights.double()[torch.where(valid, index, 0)]
            weights = torch.where(valid, of_label, 0)
        totals["cross_entropy_weight"] = _of_image(weights).sum(1)
    flat = torch.cat([sums.flatten(), totals["cross_entropy"]])
    flat = SumOverRanks.apply(flat, shard.group, False)
    sums, totals["cross_entropy"] = flat[: sums.numel()].view(sums.shape), flat[sums.numel() :]
    pixels = _of_image(valid).sum(1, dtype=torch.float64)
    totals["valid"] = torch.where(_of_image(wrong).any(1), torch.nan, pixels)
    extrema = all_reduced(extrema, shard.group, "max")
    return sums, extrema, torch.stack([totals[name] for name in TOTALS]).unsqueeze(0)


def _target_of_own_classes(
    labels: Tensor, valid: Tensor, shard: ClassShard, options: TargetOptions, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """(y, is_argmax) of this rank's classes, (N, C of this rank, *spatial): the smoothed labels of
    `targets.smooth_labels`, and where a class is their argmax."""
    epsilon = torch.full(labels.shape, options.label_smoothing, dtype=dtype, device=labels.device)
    if options.boundary_size is not None:
        epsilon *= boundary_mask(labels, options.boundary_size, options.ignore_index)
    classes = torch.arange(shard.first, shard.first + shard.count, device=labels.device)
    classes = classes.view(-1, *[1] * (labels.dim() - 1))
    epsilon, valid = epsilon.unsqueeze(1), valid.unsqueeze(1)
    is_label = valid & (labels.to(torch.int64).unsqueeze(1) == classes)
    elsewhere = epsilon / shard.num_classes
    y = torch.where(is_label, 1 - epsilon + elsewhere, elsewhere)
    # The label's element is the largest. With a smoothing of 1 all are equal: the first counts.
    return y, torch.where(epsilon == 1, valid & (classes == 0), is_label)


def _cross_entropy_of_own_classes(
    log_x: Tensor, y: Tensor, valid: Tensor, ce_class_weights: Tensor | None, shard: ClassShard
) -> Tensor:
    """(N,), this rank's share: the sum of -w_c y_c log x_c over its classes."""
    # As the reference: a class that is ruled out and has no share of the target adds nothing.
    log_x = torch.where((y == 0) & (log_x == -torch.inf), 0, log_x)
    terms = torch.where(valid.unsqueeze(1), -y * log_x, 0)
    terms = terms.unsqueeze(-1).flatten(2).sum(-1, dtype=torch.float64)
    if ce_class_weights is not None:
        terms = terms * ce_class_weights[shard.first : shard.first + shard.count].double()
    return terms.sum(1)


def _of_image(of_pixels: Tensor) -> Tensor:
    """(N, *spatial) -> (N, pixels)."""
    return of_pixels.unsqueeze(-1).flatten(1)


def _of_all_classes(
    x: Tensor,
    y: Tensor,
    is_argmax: Tensor,
    valid: Tensor,
    broken: Tensor,
    columns: int,
    shard: ClassShard,
    backend: str,
) -> tuple[Tensor, Tensor]:
    """This rank's share of the sums and maxima, 0 for the classes of other ranks.

    Args:
        is_argmax: where a class is the argmax of y.
        broken: (N, *spatial), where x is NaN. An image that has such a pixel has NaN for its sums,
            and its classes are active: a loss is NaN then, and no exception of one rank.
    """
    n = x.shape[0]
    if not shard.count:
        return tuple(
            x.new_zeros((1, len(names), n, shard.num_classes), dtype=torch.float64)
            for names in (SUMS, EXTREMA)
        )
    x = torch.where(broken.unsqueeze(1), 0, x)
    sums, extrema = _of_own_classes(x, y, valid, columns, backend)
    extrema[:, EXTREMA.index("present")] = is_argmax.unsqueeze(-1).flatten(2).any(-1).double()
    is_broken = _of_image(broken).any(1).view(-1, 1)
    sums = torch.where(is_broken, torch.nan, 1) * sums
    for name in ("prediction_max", "joint_max"):  # infinite, since a collective may drop NaN
        extrema[:, EXTREMA.index(name)].masked_fill_(is_broken, torch.inf)
    after = shard.num_classes - shard.first - shard.count
    return tuple(F.pad(own, (shard.first, after)) for own in (sums, extrema))


def _of_own_classes(
    x: Tensor, y: Tensor, valid: Tensor, columns: int, backend: str
) -> tuple[Tensor, Tensor]:
    """Sums and maxima of probabilities and a target of the same shape, by the kernels."""
    of_pixels = column_bits("present", "cross_entropy", "cross_entropy_weight", "target_entropy")
    options = TargetOptions(activation="none", ignore_index=None)
    lists = target_lists(options, 0, columns & ~of_pixels)
    # Rounding may leave x a little above 1.
    sums, extrema, _ = STATISTICS[backend](
        x.clamp(max=1), None, y, valid, None, lists.ints, lists.floats, False
    )
    return sums, extrema
