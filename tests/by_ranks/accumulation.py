"""`accumulate` on several ranks: DDP, where ranks may have different numbers of micro-batches, and
FSDP2."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from ranks import TOLERANCE, Finding
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
