"""Distil a large segmentation network into a small one with the Jaccard metric loss.

    python examples/distillation.py

A teacher is trained on land cover seen from space, with boundary smoothing, which leaves it less
certain where classes meet and so more worth learning from. Then a student with a sixteenth of its
weights is trained twice: by itself, and on labels and teacher together (eq. 15 to 17).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import torch
import typer
from torch import Tensor, nn

import jml_kernels as jml
from jml_kernels.cli.train.batches import Batch, batches
from jml_kernels.cli.train.evaluation import evaluate
from jml_kernels.cli.train.land_cover import LandCover, load
from jml_kernels.cli.train.unet import UNet

BATCH_SIZE, CROP = 8, 96
TEACHER_WIDTH, STUDENT_WIDTH = 16, 4  # channels of the first layer

with_boundary_smoothing = jml.JaccardCrossEntropyLoss(label_smoothing=0.5, boundary_size=3)
without_teacher = jml.JaccardCrossEntropyLoss()
# Cross-entropy and JML, each half against the labels and half against the teacher: four terms from
# one read of student, labels and teacher, whose softmax is never written to memory.
with_teacher = jml.JaccardDistillationLoss()


def train(
    width: int,
    objective: Callable[[Tensor, Batch], Tensor],
    data: LandCover,
    steps: int,
    seed: int,
) -> tuple[nn.Module, float]:
    """A trained network, and its mean loss over the last tenth of the steps.

    Args:
        objective: of logits (N, C, H, W) and batch.
    """
    torch.manual_seed(seed)  # both students have the same initial weights and batches
    model = UNet(num_classes=len(data.cover), width=width)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.PolynomialLR(optimizer, total_iters=steps, power=0.9)
    curve = []
    for batch in batches(data, steps, BATCH_SIZE, CROP, seed):
        loss = objective(model(batch.image), batch)
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
    steps: Annotated[
        int, typer.Option(min=1, help="Updates of the weights of each network.")
    ] = 200,
    seed: Annotated[int, typer.Option(min=0, help="Of initial weights and of crops.")] = 0,
) -> None:
    """Train a teacher, then a smaller student without and with it, and compare."""
    data = load()
    rows = []

    def train_and_report(name: str, width: int, objective) -> nn.Module:
        print(f"Training the {name}")
        model, loss = train(width, objective, data, steps, seed)
        _, scores = evaluate(model, data)  # on parts of the map that were held out
        weights = sum(parameter.numel() for parameter in model.parameters())
        rows.append(f"{name:<24}{weights:>10,}{loss:>8.3f}{scores.miou:>8.3f}")
        return model

    teacher = train_and_report(
        "teacher",
        TEACHER_WIDTH,
        lambda logits, batch: with_boundary_smoothing(logits, batch.labels),
    )
    train_and_report(
        "student by itself",
        STUDENT_WIDTH,
        lambda logits, batch: without_teacher(logits, batch.labels),
    )

    teacher.eval()  # from here on it only answers

    def distil(logits: Tensor, batch: Batch) -> Tensor:
        with torch.no_grad():
            teacher_logits = teacher(batch.image)
        return with_teacher(logits, batch.labels, teacher_logits)

    train_and_report("student with teacher", STUDENT_WIDTH, distil)

    print(f"\n{'':<24}{'weights':>10}{'loss':>8}{'mIoU':>8}", *rows, sep="\n")
    print(
        "\nLosses of different objectives cannot be compared, and differences in mIoU this small"
        "\nare within the spread of seeds (see --seed): the map and the networks are tiny."
    )


if __name__ == "__main__":
    typer.run(main)
