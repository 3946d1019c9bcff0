"""`accumulate` on several ranks: DDP, where ranks may have different numbers of micro-batches, and
FSDP2."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from ranks import TOLERANCE, Finding
from torch import nn
from torch.distributed import device_mesh

import jml_kernels as jml
from by_ranks.losses import AGGREGATIONS, LOSSES, SIZE, drawn
from by_ranks.networks import WRAPPERS, data_parallel, gradient, network, step


def compare(rank: int, world_size: int) -> Iterator[Finding]:
    mesh = device_mesh.init_device_mesh("cpu", (world_size,), mesh_dim_names=("data",))
    counts = [2 + 2 * r for r in range(world_size)]
    own = slice(sum(counts[:rank]), sum(counts[: rank + 1]))
    for dtype, tolerance in TOLERANCE.items():
        _, *targets = drawn(sum(counts), dtype)
        generator = torch.Generator().manual_seed(1)
        images = torch.randn(sum(counts), 3, *SIZE, generator=generator, dtype=dtype)
        alone = network(dtype, 1)
        for wrap, gradients in WRAPPERS.items():
            model = wrap(copy.deepcopy(alone), mesh)
            # Each of two images, but with FSDP2, whose forward communicates: two for each rank.
            pieces = [2] * (counts[rank] // 2)
            if wrap is not data_parallel:
                pieces = [1, counts[rank] - 1]
            of_rank = [part[own].split(pieces) for part in (images, *targets)]
            for name in ("jml1", "objective", "distillation"):
                make = LOSSES[name]
                for aggregation in AGGREGATIONS:
                    alone.zero_grad()
                    value = step(alone, make(aggregation=aggregation), images, targets)
                    expected = gradient(alone)
                    model.zero_grad()
                    loss = make(process_group=mesh, gradients=gradients, aggregation=aggregation)
                    total = jml.accumulate(loss, model, list(zip(*of_rank, strict=True)))
                    difference = (gradient(model) - expected).norm() / expected.norm()
                    where = f"{name}, {aggregation}, {dtype}, {wrap.__name__}"
                    error = (total - value).abs().item()
                    yield Finding(where, error, difference.item(), tolerance)
    yield _broadcast_buffers(rank, world_size)


def _broadcast_buffers(rank: int, world_size: int) -> Finding:
    """DDP gives all ranks the buffers of the first one, before a step: both passes have them."""
    _, *targets = drawn(2 * world_size, torch.float64)
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(2 * world_size, 3, *SIZE, generator=generator, dtype=torch.float64)
    own = slice(2 * rank, 2 * rank + 2)
    alone = nn.Sequential(nn.BatchNorm2d(3), network(torch.float64, 1)).double().eval()
    expected_value = step(alone, LOSSES["jml1"](), images, targets)
    model = copy.deepcopy(alone)
    together = data_parallel(model, None)
    model[0].running_mean += rank  # as after steps of training, where each rank has its images
    loss = LOSSES["jml1"](process_group=True)
    parts = [part[own].split(1) for part in (images, *targets)]
    value = jml.accumulate(loss, together, list(zip(*parts, strict=True)))
    error = (gradient(model) - gradient(alone)).norm() / gradient(alone).norm()
    stale = (model[0].running_mean - alone[0].running_mean).abs().max().item()
    return Finding("buffers", (value - expected_value).abs().item() + stale, error.item(), 1e-12)
