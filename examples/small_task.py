"""What the examples on several processes share; your own network and data belong in its place.

No example by itself: a network, images, and the comparison of gradients at the end of each of them.
"""

from __future__ import annotations

import os

import torch
from torch import Tensor, nn

NUM_CLASSES = 5


def device_of_process() -> torch.device:
    """A GPU for each process where there are enough, else the CPU for all."""
    if torch.cuda.device_count() < int(os.environ["LOCAL_WORLD_SIZE"]):
        return torch.device("cpu")
    # Convolutions of float32 are else rounded to 10 bits, which would hide what is compared here.
    torch.backends.cudnn.allow_tf32 = False
    torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    return torch.device("cuda", torch.cuda.current_device())


def network(device: torch.device) -> nn.Sequential:
    """Logits of a quarter of the image's size; the same weights every time.

    GroupNorm normalises each image by itself. BatchNorm would take its statistics from the images
    that happen to share a process: SyncBatchNorm is the cure for that, and no loss is.

    Call:
        float32 (N, 3, H, W) -> logits, float32 (N, NUM_CLASSES, H / 4, W / 4).
    """
    torch.manual_seed(0)
    width = 32
    patches = {"kernel_size": 4, "stride": 4}
    blocks = [
        nn.Sequential(
            nn.Conv2d(inputs, width, bias=False, **size), nn.GroupNorm(4, width), nn.ReLU()
        )
        for inputs, size in ((3, patches), (width, {"kernel_size": 3, "padding": 1}))
    ]
    return nn.Sequential(*blocks, nn.Conv2d(width, NUM_CLASSES, kernel_size=1)).to(device)


def batch(size: int, seed: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Noisy squares, each class in a colour of its own; the higher a class, the rarer it is.

    Returns:
        images, float32 (size, 3, 32, 32), and labels, int64 (size, 32, 32).
    """
    generator = torch.Generator().manual_seed(seed)
    squares = torch.randint(NUM_CLASSES, (2, size, 4, 4), generator=generator).amin(dim=0)
    labels = squares.repeat_interleave(8, dim=1).repeat_interleave(8, dim=2)
    colours = torch.tensor([[-1, -1, -1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1], [1, 1, -1]])
    images = colours[labels].permute(0, 3, 1, 2)
    images = images + torch.randn(images.shape, generator=generator)
    return images.to(device), labels.to(device)


def compare(
    of_whole_batch: list[Tensor], of_parts: list[Tensor], loss_function: nn.Module, size: int
) -> None:
    """Print how far the gradients of the first step are from those of a single process.

    Args:
        of_whole_batch: the gradient of each parameter by the loss of the whole batch.
        of_parts: the same by the mean of the losses of its parts.
        loss_function: what a single process computes of all the images.
        size: of the batch.
    """
    device = of_parts[0].device
    model = network(device)
    images, labels = batch(size, 0, device)
    loss_function(model(images), labels).backward()
    expected = [parameter.grad for parameter in model.parameters()]

    def largest_difference(gradients: list[Tensor]) -> float:
        pairs = zip(gradients, expected, strict=True)
        return torch.stack([(ours - its).norm() / its.norm() for ours, its in pairs]).max().item()

    difference = largest_difference(of_whole_batch)
    print("\nHow far gradients are from those of a single process, at most, relative:")
    print(f"  by the loss of the whole batch       {difference:.1e}")
    print(f"  by the mean of the losses of parts   {largest_difference(of_parts):.1e}")
    if not difference <= 1e-6:  # nor NaN
        raise SystemExit("The gradient differs from that of a single process.")
    print("The gradient by the loss of the whole batch equals that of a single process.")
