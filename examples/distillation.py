"""Distil a segmentation network into a small one with the Jaccard metric loss.

    python examples/distillation.py

A teacher is trained on land cover seen from space, with boundary smoothing, which leaves it less
certain where classes meet and so more worth learning from. Then a student with a sixteenth of its
weights is trained twice: by itself, and on labels and teacher together (eq. 15 to 17).
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
TEACHER_WIDTH, STUDENT_WIDTH = 16, 4  # channels of the first layer

WITH_BOUNDARY_SMOOTHING = jml.JaccardCrossEntropyLoss(label_smoothing=0.5, boundary_size=3)
WITHOUT_TEACHER = jml.JaccardCrossEntropyLoss()
# Cross-entropy and JML, each half against the labels and half against the teacher: four terms from
# one read of student, labels and teacher, whose softmax is never written to memory.
WITH_TEACHER = jml.JaccardDistillationLoss()


def train(
    model: nn.Module,
    loss_function: nn.Module,
    data: LandCover,
    steps: int,
    seed: int,
    teacher: nn.Module | None = None,
) -> float:
    """Train a network in place; returns its mean loss over the last tenth of the steps."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.PolynomialLR(optimizer, total_iters=steps, power=0.9)
    curve = []
    for batch in batches(data, steps, BATCH_SIZE, CROP, seed):
        logits = model(batch.image)  # (N, C, H, W); the loss takes the softmax itself
        if teacher is None:
            loss = loss_function(logits, batch.labels)
        else:
            with torch.no_grad():  # the teacher is not trained any more
                teacher_logits = teacher(batch.image)
            loss = loss_function(logits, batch.labels, teacher_logits)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        curve.append(loss.item())
        if len(curve) % 50 == 0:
            print(f"  step {len(curve)} of {steps}: loss {curve[-1]:.3f}")
    last = curve[-max(1, steps // 10) :]
    return sum(last) / len(last)


def main(
    steps: Annotated[int, typer.Option(min=1, help="Updates of each network.")] = 200,
    seed: Annotated[int, typer.Option(min=0, help="Of initial weights and of crops.")] = 0,
) -> None:
    """Train a teacher, then a smaller student without and with it, and compare."""
    data = load()

    def network(width: int) -> nn.Module:
        torch.manual_seed(seed)  # both students start from the same weights
        return UNet(num_classes=len(data.cover), width=width)

    teacher = network(TEACHER_WIDTH)
    student, taught_student = network(STUDENT_WIDTH), network(STUDENT_WIDTH)
    rows = []
    for name, model, loss_function, its_teacher in (
        ("teacher", teacher, WITH_BOUNDARY_SMOOTHING, None),
        ("student by itself", student, WITHOUT_TEACHER, None),
        ("student with teacher", taught_student, WITH_TEACHER, teacher),
    ):
        print(f"Training: {name}")
        loss = train(model, loss_function, data, steps, seed, its_teacher)
        # mIoU on parts of the map that were held out. `evaluate` also leaves the network in
        # evaluation mode, as a teacher must be.
        _, scores = evaluate(model, data)
        weights = sum(parameter.numel() for parameter in model.parameters())
        rows.append(f"{name:<24}{weights:>10,}{loss:>8.3f}{scores.miou:>8.3f}")

    print(f"\n{'':<24}{'weights':>10}{'loss':>8}{'mIoU':>8}", *rows, sep="\n")
    print(
        "\nLosses of different objectives cannot be compared. Differences in mIoU at this size are"
        "\nwithin the spread of seeds, which is about 0.1 (try --seed), and rank nothing."
    )


if __name__ == "__main__":
    typer.run(main)
