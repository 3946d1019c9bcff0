"""Logits that are a DTensor, sharded over images, pixels or classes: value and gradient on each
rank. With an even number of ranks a mesh of two dimensions shards two of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from ranks import TOLERANCE, Finding, relative
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import Placement, Replicate, Shard, distribute_tensor

import jml_kernels as jml
from by_ranks.losses import AGGREGATIONS, LOSSES, WEIGHTS, drawn

IMAGES, ROWS, COLUMNS, CLASSES = Shard(0), Shard(2), Shard(3), Shard(1)
PIXELS = (ROWS, COLUMNS)
#: Losses of labels alone: of these classes may be sharded.
OF_LABELS = ("jml1", "soft jaccard, L2", "dice", "weights", "classes", "objective")


def beside(placements: list[Placement], tensor: Tensor) -> list[Placement]:
    """Where labels lie, and what has classes, beside logits of these placements."""
    if tensor.dim() == 4:
        return placements
    labels = {IMAGES: Shard(0), ROWS: Shard(1), COLUMNS: Shard(2), CLASSES: Replicate()}
    return [labels.get(placement, placement) for placement in placements]


def meshes(world_size: int) -> Iterator[tuple[DeviceMesh, list[Placement]]]:
    line = init_device_mesh("cpu", (world_size,), mesh_dim_names=("one",))
    for placement in (IMAGES, ROWS, COLUMNS, CLASSES, Replicate()):
        yield line, [placement]
    if world_size % 2 == 0:
        plane = init_device_mesh("cpu", (2, world_size // 2), mesh_dim_names=("one", "two"))
        for placements in ([IMAGES, ROWS], [IMAGES, CLASSES], [ROWS, COLUMNS], [ROWS, CLASSES]):
            yield plane, placements


def with_halo(labels: Tensor, halo: int, mesh: DeviceMesh, placements: list[Placement]) -> Tensor:
    """A rank's labels with those around them, as its neighbours would have sent them."""
    for mesh_dimension, placement in enumerate(placements):
        if placement not in (*PIXELS, IMAGES):
            continue
        around = halo if placement in PIXELS else 0
        dimension = max(placement.dim - 1, 0)
        count = labels.shape[dimension]
        piece = -(-count // mesh.size(mesh_dimension))
        first = min(mesh.get_local_rank(mesh_dimension) * piece, count)
        index = torch.arange(first - around, min(first + piece, count) + around)
        labels = labels.index_select(dimension, index.clamp(0, count - 1))
    return labels


def differences(
    mesh: DeviceMesh,
    placements: list[Placement],
    tensors: tuple[Tensor, ...],
    make: Callable,
    labels_of_rank: Tensor | None = None,
    **options: object,
) -> tuple[float, float]:
    logits, *targets = tensors
    whole = logits.clone().requires_grad_()
    expected = make(**options)(whole, *targets)
    expected.backward()
    shard = distribute_tensor(logits, mesh, placements).requires_grad_()
    parts = [distribute_tensor(t, mesh, beside(placements, t)) for t in targets]
    if labels_of_rank is not None:
        parts[0] = labels_of_rank
    value = make(**options)(shard, *parts)
    value.backward()
    assert shard.grad.placements == tuple(placements)
    error = relative(shard.grad.full_tensor(), whole.grad)
    return (value - expected).abs().item(), error


def compare(rank: int, world_size: int) -> Iterator[Finding]:
    for mesh, placements in meshes(world_size):
        for dtype, tolerance in TOLERANCE.items():
            tensors = drawn(4, dtype)
            names = OF_LABELS if CLASSES in placements else [n for n in LOSSES if "bound" not in n]
            for name in names:
                aggregations = AGGREGATIONS if dtype == torch.float64 else AGGREGATIONS[-1:]
                for aggregation in aggregations:
                    errors = differences(
                        mesh, placements, tensors, LOSSES[name], aggregation=aggregation
                    )
                    where = f"{name}, {aggregation}, {dtype}, {placements}"
                    yield Finding(where, *errors, tolerance)
            yield from _boundaries(mesh, placements, tensors, tolerance)
        if not set(placements) & set(PIXELS):
            names = ("jml1", "objective") if CLASSES in placements else ("jml1", "distillation")
            for name in names:
                tensors = drawn(4, torch.float64, lower=2)
                errors = differences(mesh, placements, tensors, LOSSES[name], upsample="bilinear")
                yield Finding(f"{name}, upsample, {placements}", *errors, 1e-12)
    yield from _statistics(rank, world_size)
    yield from _fewer_classes_than_ranks(world_size)


def _boundaries(
    mesh: DeviceMesh, placements: list[Placement], tensors: tuple[Tensor, ...], tolerance: float
) -> Iterator[Finding]:
    """Boundary smoothing, where the caller has the neighbours' labels; 3 x 3 and 5 x 5 windows."""
    for size in (3, 5):

        def make(size: int = size, **options: object) -> Callable:
            loss = jml.JaccardCrossEntropyLoss(
                label_smoothing=0.3, boundary_size=size, ce_class_weights=WEIGHTS, **options
            )
            return lambda logits, labels, probabilities, teacher: loss(logits, labels)

        halo = with_halo(tensors[1], size // 2, mesh, placements)
        for aggregation in AGGREGATIONS:
            errors = differences(mesh, placements, tensors, make, halo, aggregation=aggregation)
            yield Finding(f"boundary {size}, {aggregation}, {placements}", *errors, tolerance)


def _statistics(rank: int, world_size: int) -> Iterator[Finding]:
    """class_statistics has those of whole images, of the rank's own ones."""
    logits, labels, *_ = drawn(4, torch.float64)
    expected = jml.class_statistics(logits, labels)
    mesh = init_device_mesh("cpu", (world_size,))
    for placement in PIXELS:
        actual = jml.class_statistics(
            distribute_tensor(logits, mesh, [placement]),
            distribute_tensor(labels, mesh, beside([placement], labels)),
        )
        for name, column in expected._asdict().items():
            error = (getattr(actual, name).double() - column.double()).abs().max().item()
            yield Finding(f"{name}, {placement}", error, 0.0, 1e-12)
    pieces = torch.arange(4).chunk(world_size)
    own = pieces[rank] if rank < len(pieces) else []
    actual = jml.class_statistics(
        distribute_tensor(logits, mesh, [IMAGES]), distribute_tensor(labels, mesh, [Shard(0)])
    )
    error = (actual.true_positive - expected.true_positive[own]).abs().sum().item()
    yield Finding("statistics of images", error, 0.0, 1e-12)


def _fewer_classes_than_ranks(world_size: int) -> Iterator[Finding]:
    """Of three ranks and more the last ones have no class, and wait for nobody."""
    mesh = init_device_mesh("cpu", (world_size,))
    logits, labels, *others = drawn(4, torch.float64)
    tensors = (logits[:, :2], labels.clamp(max=1), *others)
    for name in ("jml1", "objective"):
        errors = differences(mesh, [CLASSES], tensors, LOSSES[name])
        yield Finding(f"{name}, two classes", *errors, 1e-12)
