"""Networks that are trained data-parallel, with DDP and with FSDP2: the gradient of every parameter
after one step on ranks with different numbers of images."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator

import torch
from ranks import TOLERANCE, Finding
from torch import Tensor, nn
from torch.distributed import device_mesh, fsdp
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from by_ranks.losses import AGGREGATIONS, LOSSES, SIZE, C, Loss, drawn

#: The losses of every kind of target and objective; by_ranks/losses.py has all.
NAMES = (
    *("jml1", "jml2, soft target", "tversky", "objective", "objective, boundary"),
    *("objective, soft", "distillation", "divergence"),
)


def network(dtype: torch.dtype, lower: int) -> nn.Module:
    """From images (N, 3, *SIZE) to logits (N, C, *SIZE / lower)."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, stride=lower),
        nn.GroupNorm(2, 8),
        nn.GELU(),
        nn.Conv2d(8, C, 1),
    ).to(dtype)


def data_parallel(model: nn.Module, mesh: device_mesh.DeviceMesh) -> nn.Module:
    return DistributedDataParallel(model)


def fully_sharded(model: nn.Module, mesh: device_mesh.DeviceMesh) -> nn.Module:
    for layer in model:
        if list(layer.parameters()):
            fsdp.fully_shard(layer, mesh=mesh)
    return fsdp.fully_shard(model, mesh=mesh)


def fully_sharded_and_summed(model: nn.Module, mesh: device_mesh.DeviceMesh) -> nn.Module:
    model = fully_sharded(model, mesh)
    for module in model.modules():
        if isinstance(module, fsdp.FSDPModule):
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)
    return model


#: wrapper -> how it has gradients meet.
WRAPPERS: dict[Callable, str] = {
    data_parallel: "averaged",
    fully_sharded: "averaged",
    fully_sharded_and_summed: "summed",
}


def gradient(model: nn.Module) -> Tensor:
    """Of all parameters, as one vector."""
    gradients = [parameter.grad for parameter in model.parameters()]
    return torch.cat(
        [(g.full_tensor() if isinstance(g, DTensor) else g).flatten().double() for g in gradients]
    )


def step(model: nn.Module, loss: Loss, images: Tensor, targets: list[Tensor]) -> Tensor:
    value = loss(model(images), *targets)
    value.backward()
    return value.detach()


def compare(rank: int, world_size: int) -> Iterator[Finding]:
    mesh = device_mesh.init_device_mesh("cpu", (world_size,), mesh_dim_names=("data",))
    counts = [1 + 2 * r for r in range(world_size)]
    own = slice(sum(counts[:rank]), sum(counts[: rank + 1]))
    for dtype, tolerance in TOLERANCE.items():
        for upsample, lower in ((None, 1), ("bilinear", 2)):
            if upsample and dtype == torch.float32:
                continue
            _, *targets = drawn(sum(counts), dtype, lower)
            generator = torch.Generator().manual_seed(1)
            images = torch.randn(sum(counts), 3, *SIZE, generator=generator, dtype=dtype)
            own_targets = [target[own] for target in targets]
            alone = network(dtype, lower)
            together = {wrap: wrap(copy.deepcopy(alone), mesh) for wrap in WRAPPERS}
            for name in NAMES:
                make = LOSSES[name]
                for aggregation in AGGREGATIONS:
                    options = {"aggregation": aggregation, "upsample": upsample}
                    alone.zero_grad()
                    value = step(alone, make(**options), images, targets)
                    expected = gradient(alone)
                    for wrap, model in together.items():
                        loss = make(process_group=mesh, gradients=WRAPPERS[wrap], **options)
                        model.zero_grad()
                        error = (step(model, loss, images[own], own_targets) - value).abs().item()
                        # The norm of the last layers' part is the largest: of each by itself
                        # rounding in the convolutions would be what is measured.
                        difference = (gradient(model) - expected).norm() / expected.norm()
                        where = f"{name}, {aggregation}, {dtype}, {upsample}, {wrap.__name__}"
                        yield Finding(where, error, difference.item(), tolerance)


def local_losses(rank: int, world_size: int) -> float:
    """How far the mean of the ranks' own losses is from the loss of the batch, in the gradient of
    the parameters: what a process_group is for."""
    counts = [1 + 2 * r for r in range(world_size)]
    own = slice(sum(counts[:rank]), sum(counts[: rank + 1]))
    _, *targets = drawn(sum(counts), torch.float64)
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(sum(counts), 3, *SIZE, generator=generator, dtype=torch.float64)
    alone = network(torch.float64, 1)
    together = DistributedDataParallel(copy.deepcopy(alone))
    loss = LOSSES["jml1"]()
    step(alone, loss, images, targets)
    step(together, loss, images[own], [target[own] for target in targets])
    return ((gradient(together) - gradient(alone)).norm() / gradient(alone).norm()).item()
