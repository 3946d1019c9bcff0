"""The whole step of a network in one graph, collectives included, with shapes that change."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator

import torch
from ranks import Finding
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh

from by_ranks.losses import LOSSES, drawn
from by_ranks.networks import gradient, network


def compare(rank: int, world_size: int) -> Iterator[Finding]:
    mesh = init_device_mesh("cpu", (world_size,), mesh_dim_names=("data",))
    yield from _steps("objective, boundary", True, rank)
    yield from _steps("jml1", mesh.get_group(), rank)


def _steps(name: str, group: object, rank: int) -> Iterator[Finding]:
    aggregation = {"dataset": 0.5, "image": 0.3, "class": 0.2}
    loss = LOSSES[name](aggregation=aggregation, process_group=group)
    model = network(torch.float64, 1)
    compiled = copy.deepcopy(model)

    def step(images: Tensor, *targets: Tensor) -> Tensor:
        return loss(compiled(images), *targets)

    whole_step: Callable = torch.compile(step, fullgraph=True, dynamic=True, backend="aot_eager")
    for count in (2, 3):
        _, *targets = drawn(count + rank, torch.float64)
        generator = torch.Generator().manual_seed(rank)
        images = torch.randn(count + rank, 3, 6, 5, generator=generator, dtype=torch.float64)
        for network_of_step in (model, compiled):
            network_of_step.zero_grad()
        expected = loss(model(images), *targets)
        expected.backward()
        value = whole_step(images, *targets)
        value.backward()
        difference = (gradient(compiled) - gradient(model)).norm() / gradient(model).norm()
        error = (value - expected).abs().item()
        yield Finding(f"{name}, {group}, {count}", error, difference.item(), 1e-12)
