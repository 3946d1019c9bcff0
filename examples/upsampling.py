"""Train a segmentation network whose logits have a quarter of the labels' size.

    python examples/upsampling.py

SegFormer, UPerNet and DeepLabV3+ classify at a quarter of the image's size, and their logits are
interpolated right before the loss. Full-size logits and their gradient are then the largest tensors
of a step. With `upsample` the loss takes the logits as the network gives them. Here a network with
such a head is trained twice on land cover seen from space, in both ways: the losses coincide, and
only the memory differs, where the kernels of the backend interpolate.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import torch
import torch.nn.functional as F
import typer
from torch import Tensor, nn

import jml_kernels as jml
from jml_kernels.cli.train.batches import batches
from jml_kernels.cli.train.evaluation import evaluate
from jml_kernels.cli.train.land_cover import LandCover, load

BATCH_SIZE, CROP = 8, 96
OPTIONS = {"label_smoothing": 0.5, "boundary_size": 3}

FULL_SIZE = jml.JaccardCrossEntropyLoss(**OPTIONS)
# Labels have the full size, and so has the window of their boundaries.
FROM_A_QUARTER = jml.JaccardCrossEntropyLoss(upsample="bilinear", **OPTIONS)


class QuarterNetwork(nn.Module):
    """Two convolutions of stride 2, and all that follows at a quarter of the image's size.

    Call:
        float32 (N, 3, H, W) -> logits, float32 (N, num_classes, H / 4, W / 4), rounded up.
    """

    def __init__(self, num_classes: int, width: int = 32):
        super().__init__()
        layers = []
        for inputs, stride in ((3, 2), (width, 2), (width, 1), (width, 1)):
            layers += [
                nn.Conv2d(inputs, width, kernel_size=3, stride=stride, padding=1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(inplace=True),
            ]
        self.layers = nn.Sequential(*layers, nn.Conv2d(width, num_classes, kernel_size=1))

    def forward(self, image: Tensor) -> Tensor:
        return self.layers(image)


class AtFullSize(nn.Module):
    """A network whose logits are interpolated to the size of its images, to be evaluated."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        return interpolated(self.network(image), image.shape[-2:])


def interpolated(logits: Tensor, size: torch.Size) -> Tensor:
    return F.interpolate(logits, size=size, mode="bilinear")


def interpolate_first(logits: Tensor, labels: Tensor) -> Tensor:
    """The usual way."""
    return FULL_SIZE(interpolated(logits, labels.shape[-2:]), labels)


def train(
    loss_function: Callable[[Tensor, Tensor], Tensor], data: LandCover, steps: int, seed: int
) -> tuple[nn.Module, list[float]]:
    """A trained network, and its loss at each step."""
    torch.manual_seed(seed)  # the same initial weights both times; the batches have it too
    model = QuarterNetwork(num_classes=len(data.cover))
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.PolynomialLR(optimizer, total_iters=steps, power=0.9)
    curve = []
    for batch in batches(data, steps, BATCH_SIZE, CROP, seed):
        logits = model(batch.image)  # (N, C, H / 4, W / 4)
        loss = loss_function(logits, batch.labels)  # integer labels, (N, H, W)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        curve.append(loss.item())
        if len(curve) % 50 == 0:
            print(f"  step {len(curve)} of {steps}: loss {curve[-1]:.3f}")
    return model, curve


def main(
    steps: Annotated[int, typer.Option(min=1, help="Updates of the weights, each time.")] = 200,
    seed: Annotated[int, typer.Option(min=0, help="Of initial weights and of crops.")] = 0,
) -> None:
    """Train with interpolation before the loss and with interpolation in it, and compare."""
    data = load()
    curves, rows = [], []
    for name, loss_function in (
        ("interpolate, then the loss", interpolate_first),
        ('upsample="bilinear"', FROM_A_QUARTER),
    ):
        print(f"Training with {name}")
        model, curve = train(loss_function, data, steps, seed)
        curves.append(curve)
        _, scores = evaluate(AtFullSize(model), data)
        last = curve[-max(1, steps // 10) :]
        rows.append(f"{name:<30}{sum(last) / len(last):>8.3f}{scores.miou:>8.3f}")

    # Rounding grows from step to step: what shows that the two are one loss is how it begins.
    differences = [abs(one - other) for one, other in zip(*curves, strict=True)]
    print(f"\n{'':<30}{'loss':>8}{'mIoU':>8}", *rows, sep="\n")
    print(
        f"\nThe losses differ by {differences[0]:.1e} at the first step, and by at most "
        f"{max(differences):.1e}\nin {steps} steps: rounding, which training makes grow."
    )


if __name__ == "__main__":
    typer.run(main)
