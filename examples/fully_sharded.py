"""Train with FSDP2, which shards weights over processes, and the loss of the whole batch.

    torchrun --nproc-per-node 2 examples/fully_sharded.py
    python examples/fully_sharded.py    # starts two processes too

`fully_shard` takes the mean of the processes' gradients, as DDP does; data_parallel.py says what
that means with a loss of each process's images. A loss takes the mesh as its `process_group`. Of a
larger mesh it takes the dimension that the images are spread over: `process_group=mesh["data"]`.
"""

from __future__ import annotations

import os

import torch
from small_task import batch, compare, device_of_process, network
from torch import Tensor, distributed, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.run import main as torchrun

import jml_kernels as jml

BATCH_SIZE, STEPS = 7, 10


def train(loss_function: nn.Module, steps: int, mesh: DeviceMesh) -> list[Tensor]:
    """Train a network; returns the gradient of each parameter in the first step."""
    rank, processes, device = mesh.get_local_rank(), mesh.size(), torch.device(mesh.device_type)
    model = network(device)
    for block in model:  # its weights are gathered by themselves, and let go of afterwards
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    first = []
    for step in range(steps):
        images, labels = batch(BATCH_SIZE, step, device)
        images, labels = images[rank::processes], labels[rank::processes]  # 4 and 3 of 7
        loss = loss_function(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        # Each process has a part of each gradient, and here all of them want it whole.
        first = first or [parameter.grad.full_tensor() for parameter in model.parameters()]
        if rank == 0:
            print(f"  step {step + 1} of {steps}: loss {loss.item():.3f}")
    return first


def main() -> None:
    # Makes the process group too: of NCCL for GPUs, of gloo for the CPU.
    mesh = init_device_mesh(device_of_process().type, (int(os.environ["WORLD_SIZE"]),))
    is_first = mesh.get_local_rank() == 0
    loss_of_whole_batch = jml.JaccardCrossEntropyLoss(upsample="bilinear", process_group=mesh)
    loss_of_part = jml.JaccardCrossEntropyLoss(upsample="bilinear")
    if is_first:
        print("Training with the loss of the whole batch")
    of_whole_batch = train(loss_of_whole_batch, STEPS, mesh)
    if is_first:
        print("One step with the mean of the losses of processes, for comparison")
    of_parts = train(loss_of_part, 1, mesh)
    distributed.destroy_process_group()
    if is_first:
        compare(of_whole_batch, of_parts, loss_of_part, BATCH_SIZE)


if __name__ == "__main__":
    if "LOCAL_RANK" in os.environ:  # torchrun has started this process
        main()
    else:
        torchrun(["--standalone", "--local-addr=localhost", "--nproc-per-node=2", __file__])
