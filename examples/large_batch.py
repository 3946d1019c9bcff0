"""Train on a batch that memory does not hold: in micro-batches, and on several processes as well.

    torchrun --nproc-per-node 2 examples/large_batch.py
    python examples/large_batch.py    # starts two processes too

The usual way is to add up the gradients of the micro-batches' losses, but the mean of these is no
Jaccard loss of the batch. `jml.accumulate` goes through the micro-batches twice, first for the sums
that the loss of the whole batch needs, then for its gradient. On a single process leave out DDP and
the option `process_group`.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable

import torch
from small_task import batch, compare, device_of_process, network
from torch import Tensor, distributed
from torch.distributed.run import main as torchrun
from torch.nn.parallel import DistributedDataParallel

import jml_kernels as jml

BATCH_SIZE, MICRO_BATCH_SIZE, STEPS = 9, 2, 10

OF_WHOLE_BATCH = jml.JaccardCrossEntropyLoss(upsample="bilinear", process_group=True)
OF_PART = jml.JaccardCrossEntropyLoss(upsample="bilinear")

MicroBatches = list[tuple[Tensor, Tensor]]


def backward_of_whole_batch(model: DistributedDataParallel, micro_batches: MicroBatches) -> Tensor:
    # A GradScaler goes in through `backward`, and its step and update follow as ever:
    #
    #     with torch.autocast("cuda", torch.float16):
    #         return jml.accumulate(
    #             OF_WHOLE_BATCH,
    #             model,
    #             micro_batches,
    #             backward=lambda loss: scaler.scale(loss).backward(),
    #         )
    return jml.accumulate(OF_WHOLE_BATCH, model, micro_batches)


def backward_of_mean(model: DistributedDataParallel, micro_batches: MicroBatches) -> Tensor:
    """The usual way, for comparison."""
    total = 0.0
    for k, (images, labels) in enumerate(micro_batches, start=1):
        # Gradients go over to the other processes with the last one only.
        with contextlib.nullcontext() if k == len(micro_batches) else model.no_sync():
            loss = OF_PART(model(images), labels) / len(micro_batches)
            loss.backward()
        total = total + loss.detach()
    return total


def train(
    backward: Callable[[DistributedDataParallel, MicroBatches], Tensor],
    steps: int,
    device: torch.device,
) -> list[Tensor]:
    """Train a network; returns the gradient of each parameter in the first step."""
    rank, processes = distributed.get_rank(), distributed.get_world_size()
    model = DistributedDataParallel(network(device))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    first = []
    for step in range(steps):
        images, labels = batch(BATCH_SIZE, step, device)
        images, labels = images[rank::processes], labels[rank::processes]  # 5 and 4 of 9
        # 2, 2 and 1 of 5, 2 and 2 of 4: processes need not have the same number of micro-batches.
        parts = zip(images.split(MICRO_BATCH_SIZE), labels.split(MICRO_BATCH_SIZE), strict=True)
        optimizer.zero_grad()
        loss = backward(model, list(parts))
        optimizer.step()
        first = first or [parameter.grad.clone() for parameter in model.parameters()]
        if rank == 0:
            print(f"  step {step + 1} of {steps}: loss {loss.item():.3f}")
    return first


def main() -> None:
    device = device_of_process()
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    is_first = distributed.get_rank() == 0
    if is_first:
        print("Training with the loss of the whole batch")
    of_whole_batch = train(backward_of_whole_batch, STEPS, device)
    if is_first:
        print("One step with the mean of the losses of micro-batches, for comparison")
    of_parts = train(backward_of_mean, 1, device)
    distributed.destroy_process_group()
    if is_first:
        compare(of_whole_batch, of_parts, OF_PART, BATCH_SIZE)


if __name__ == "__main__":
    if "LOCAL_RANK" in os.environ:  # torchrun has started this process
        main()
    else:
        torchrun(["--standalone", "--local-addr=localhost", "--nproc-per-node=2", __file__])
