"""Logits that are a DTensor: the local shard is the work, and the mesh gives the groups.

A dimension of the mesh over which the logits are sharded by
    images (dim 0)        adds to the batch: sums over images are added over its ranks;
    pixels (dim 2, ...)   adds to each image: its statistics are added, its maxima are taken;
    classes (dim 1)       adds classes: class_parallel.py;
and one over which they are replicated adds nothing. The gradient is a DTensor of the same
placements: each rank's is that of its own shard, as the adjoint of `to_local` expects.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .distributed import SumOverRanks, all_reduced, sums_over_ranks
from .options import TargetOptions

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup
    from torch.distributed.tensor import Placement

    from .formulas import Sums, SumsOfBatch


class Shards(NamedTuple):
    """The groups over which a call's logits are sharded."""

    images: tuple[ProcessGroup, ...] = ()
    pixels: tuple[ProcessGroup, ...] = ()
    classes: tuple[ProcessGroup, ...] = ()


NO_SHARDS = Shards()


def is_sharded(tensor: object) -> bool:
    """Whether it is a DTensor. Their module takes seconds to import: where nobody has, there is
    none."""
    if tensor is None or type(tensor) in (Tensor, torch.nn.Parameter):
        return False
    tensors = sys.modules.get("torch.distributed.tensor")
    return tensors is not None and isinstance(tensor, tensors.DTensor)


def local_shards(
    logits: Tensor,
    others: dict[str, Tensor | None],
    options: TargetOptions,
    name: str = "logits",
) -> tuple[tuple[Tensor | None, ...], Shards]:
    """What this rank computes: its shard of the logits, the same part of the other tensors of the
    call, and over which groups the logits are sharded.

    Args:
        others: by their names in the user's call. A DTensor is brought to the logits' placements; a
            plain tensor is this rank's part already. Of smoothed boundaries the labels, which are
            then plain, need what lies around the shard, a halo of boundary_size // 2 pixels on both
            sides of each dimension that is sharded; beyond the image's edge it repeats the edge.
    """
    if not is_sharded(logits):
        for other, tensor in others.items():
            if is_sharded(tensor):
                raise TypeError(f"{other} is a DTensor: expected a plain tensor, as {name}")
        return (logits, *others.values()), NO_SHARDS
    if options.inplace_backward:
        raise ValueError(f"inplace_backward=True: expected False with {name} that are a DTensor")
    from torch.distributed.tensor import Shard  # noqa: PLC0415

    mesh, placements = logits.device_mesh, logits.placements
    groups: dict[str, list[ProcessGroup]] = {"images": [], "pixels": [], "classes": []}
    dimensions = []  # spatial ones that are sharded
    for mesh_dimension, placement in enumerate(placements):
        if placement.is_replicate():
            continue
        if type(placement) is not Shard:  # a strided one lies in another order
            raise ValueError(
                f"{name} has the placement {placement}: expected Shard or Replicate; "
                f"{name}.redistribute(placements=...) gives them others"
            )
        dimension = placement.dim % logits.dim()
        what = {0: "images", 1: "classes"}.get(dimension, "pixels")
        groups[what].append(mesh.get_group(mesh_dimension))
        if what == "pixels":
            dimensions.append(dimension)
    shards = Shards(**{what: tuple(found) for what, found in groups.items()})
    if dimensions and options.upsample is not None:
        raise ValueError(
            f"upsample={options.upsample!r}: expected None with {name} that are sharded over "
            f"dimension {dimensions[0]}, whose neighbours lie on another rank"
        )
    rank, local = logits.dim(), logits.to_local()
    has_halo = bool(dimensions) and (options.boundary_size or 1) > 1 and options.label_smoothing > 0
    parts = dict(others)
    for other, tensor in others.items():
        if is_sharded(tensor):
            if tensor.device_mesh != mesh:
                raise ValueError(f"{other} is on {tensor.device_mesh}: expected {mesh}, as {name}")
            if has_halo and not tensor.is_floating_point() and other != "mask":
                raise _no_halo(other, tensor.shape, local, dimensions, options)
            wanted = [_placement_beside(p, rank, tensor.dim()) for p in placements]
            parts[other] = tensor.redistribute(mesh, wanted).to_local()
    if has_halo:
        local, parts = _with_halo(local, parts, dimensions, options)
    return (local, *parts.values()), shards


def _placement_beside(placement: Placement, rank: int, own_rank: int) -> Placement:
    """Where a tensor lies that goes with logits of this placement: labels and masks, of one rank
    less, have no classes."""
    from torch.distributed.tensor import Replicate, Shard  # noqa: PLC0415

    if not isinstance(placement, Shard) or own_rank == rank:
        return placement
    dimension = placement.dim % rank
    return Replicate() if dimension == 1 else Shard(max(dimension - 1, 0))


def _no_halo(
    name: str,
    shape: tuple[int, ...],
    local: Tensor,
    dimensions: list[int],
    options: TargetOptions,
) -> ValueError:
    halo = options.boundary_size // 2
    expected = [local.shape[0], *local.shape[2:]]
    for dimension in dimensions:
        expected[dimension - 1] += 2 * halo
    return ValueError(
        f"boundary_size={options.boundary_size}: {name} has shape {tuple(shape)}, expected a plain "
        f"tensor {tuple(expected)}: this rank's labels and {halo} pixels around them in each "
        f"dimension that the logits are sharded over, taken from its neighbours, and repeated "
        "beyond the image's edge"
    )


def _with_halo(
    logits: Tensor, others: dict[str, Tensor | None], dimensions: list[int], options: TargetOptions
) -> tuple[Tensor, dict[str, Tensor | None]]:
    """The labels come with their halo; all else gets one of pixels that do not count."""
    halo, rank = options.boundary_size // 2, logits.dim()
    # As `pad` takes it: the last dimension first.
    pad = [halo if d in dimensions else 0 for d in range(rank - 1, 1, -1) for _ in range(2)]
    padded = F.pad(logits, pad)
    expected = (padded.shape[0], *padded.shape[2:])
    mask = others.get("mask")
    if mask is None:
        mask = torch.ones(
            (logits.shape[0], *logits.shape[2:]), dtype=torch.bool, device=logits.device
        )
    result = {}
    for name, tensor in others.items():
        if tensor is None or name == "mask":
            continue
        if tensor.dim() == rank:  # a teacher's logits
            result[name] = F.pad(tensor, pad)
            continue
        if tuple(tensor.shape) != expected:
            raise _no_halo(name, tensor.shape, logits, dimensions, options)
        result[name] = tensor
    return padded, {**others, **result, "mask": F.pad(mask, pad)}


def whole_images(
    sums: Tensor, extrema: Tensor, totals: Tensor, groups: tuple[ProcessGroup, ...]
) -> tuple[Tensor, Tensor, Tensor]:
    """The statistics of images whose pixels lie on several ranks, of those of each rank's pixels;
    see `reference.statistics`. Their size is that of the images' statistics, N x C."""
    # A collective may drop NaN from a maximum, and a class whose maximum is NaN is active.
    extrema = torch.nan_to_num(extrema, nan=torch.inf, posinf=torch.inf)
    for group in groups:
        flat = torch.cat([sums.flatten(), totals.flatten()])
        flat = SumOverRanks.apply(flat, group, False)
        sums = flat[: sums.numel()].view(sums.shape)
        totals = flat[sums.numel() :].view(totals.shape)
        extrema = all_reduced(extrema, group, "max")
    return sums, extrema, totals


def whole_batch(
    sums: list[Sums], groups: tuple[ProcessGroup, ...], then: SumsOfBatch | None
) -> list[Sums]:
    """The sums of the batch of those of a shard of it.

    Args:
        then: what makes the sums of the whole batch of those of the logits.
    """
    for group in groups:
        sums = sums_over_ranks(sums, group, "summed")
    return sums if then is None else then(sums)
