"""Train on several processes with DistributedDataParallel and the loss of the whole batch.

    torchrun --nproc-per-node 2 examples/data_parallel.py
    python examples/data_parallel.py    # starts two processes too

Each process has images of its own, and need not have as many as the others. DDP takes the mean of
the processes' gradients: with a loss of each process's images that is the gradient of the mean of
these losses, which is no Jaccard loss of the batch. With `process_group=True` every process has the
loss of the whole batch, and the gradient is its gradient. That takes an all-reduce of a few numbers
for each class in the forward, and one in the backward.
"""

from __future__ import annotations

import os

import torch
from small_task import batch, compare, device_of_process, network
from torch import Tensor, distributed, nn
from torch.distributed.run import main as torchrun
from torch.nn.parallel import DistributedDataParallel

import jml_kernels as jml

BATCH_SIZE, STEPS = 7, 10

OF_WHOLE_BATCH = jml.JaccardCrossEntropyLoss(upsample="bilinear", process_group=True)
# What comes of leaving the option out: the loss of the images that a process has.
OF_PART = jml.JaccardCrossEntropyLoss(upsample="bilinear")


def train(loss_function: nn.Module, steps: int, device: torch.device) -> list[Tensor]:
    """Train a network; returns the gradient of each parameter in the first step."""
    rank, processes = distributed.get_rank(), distributed.get_world_size()
    model = DistributedDataParallel(network(device))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    first = []
    for step in range(steps):
        images, labels = batch(BATCH_SIZE, step, device)
        images, labels = images[rank::processes], labels[rank::processes]  # 4 and 3 of 7
        loss = loss_function(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        first = first or [parameter.grad.clone() for parameter in model.parameters()]
        if rank == 0:  # with the loss of the whole batch all processes would print the same
            print(f"  step {step + 1} of {steps}: loss {loss.item():.3f}")
    return first


def main() -> None:
    device = device_of_process()
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    is_first = distributed.get_rank() == 0
    if is_first:
        print("Training with the loss of the whole batch")
    of_whole_batch = train(OF_WHOLE_BATCH, STEPS, device)
    if is_first:
        print("One step with the mean of the losses of processes, for comparison")
    of_parts = train(OF_PART, 1, device)
    distributed.destroy_process_group()
    if is_first:
        compare(of_whole_batch, of_parts, OF_PART, BATCH_SIZE)


if __name__ == "__main__":
    if "LOCAL_RANK" in os.environ:  # torchrun has started this process
        main()
    else:
        torchrun(["--standalone", "--local-addr=localhost", "--nproc-per-node=2", __file__])
