"""Train a segmentation network with cross-entropy + Jaccard metric loss + boundary smoothing.

    python examples/cross_entropy_and_jaccard.py

A plain PyTorch loop on land cover seen from space: satellite images, and which of six classes
(water, forest, ...) each pixel is. The network is trained twice, with cross-entropy alone and with
the objective of the paper (eq. 14). Only the loss changes from one to the other.
"""

from __future__ import annotations

from typing import Annotated

import torch
import typer
from torch import nn

import jml_kernels as jml
from jml_kernels.cli.train.batches import batches
from jml_kernels.cli.train.evaluation import evaluate
from jml_kernels.cli.train.land_cover import LandCover, load
from jml_kernels.cli.train.unet import UNet

BATCH_SIZE, CROP = 8, 96

LOSSES = {
    "cross-entropy": nn.CrossEntropyLoss(),
    # 0.25 CE + 0.75 JML, both from one pass over the logits. Where classes meet, labels are
    # uncertain: within a 3 x 3 window of another class half of the label is spread over all
    # classes, in both terms. The smoothed labels are never written to memory.
    "CE + JML, boundary smoothing": jml.JaccardCrossEntropyLoss(
        ce_weight=0.25, label_smoothing=0.5, boundary_size=3
    ),
}


def train(
    loss_function: nn.Module, data: LandCover, steps: int, seed: int
) -> tuple[nn.Module, float]:
    """A trained network, and its mean loss over the last tenth of the steps."""
    torch.manual_seed(seed)  # the same initial weights for every loss; the batches have it too
    model = UNet(num_classes=len(data.cover))
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.PolynomialLR(optimizer, total_iters=steps, power=0.9)
    curve = []
    for batch in batches(data, steps, BATCH_SIZE, CROP, seed):
        logits = model(batch.image)  # (N, C, H, W); the loss takes the softmax itself
        loss = loss_function(logits, batch.labels)  # integer labels, (N, H, W)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        curve.append(loss.item())
        if len(curve) % 50 == 0:
            print(f"  step {len(curve)} of {steps}: loss {curve[-1]:.3f}")
    last = curve[-max(1, steps // 10) :]
    return model, sum(last) / len(last)


def main(
    steps: Annotated[int, typer.Option(min=1, help="Updates of the weights, for each loss.")] = 200,
    seed: Annotated[int, typer.Option(min=0, help="Of initial weights and of crops.")] = 0,
) -> None:
    """Train with cross-entropy, then with CE + JML + boundary smoothing, and compare."""
    data = load()
    rows = []
    for name, loss_function in LOSSES.items():
        print(f"Training with {name}")
        model, loss = train(loss_function, data, steps, seed)
        # mIoU: the mean over classes of intersection over union, on parts of the map that were
        # held out, against the labels as they are.
        _, scores = evaluate(model, data)
        rows.append(f"{name:<30}{loss:>8.3f}{scores.miou:>8.3f}")

    print(f"\n{'':<30}{'loss':>8}{'mIoU':>8}", *rows, sep="\n")
    print(
        "\nLosses of different objectives cannot be compared. Differences in mIoU at this size are"
        "\nwithin the spread of seeds, which is about 0.1 (try --seed), and rank nothing."
    )


if __name__ == "__main__":
    typer.run(main)
