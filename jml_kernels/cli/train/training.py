"""The training run, the same for every objective."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .batches import batches
from .evaluation import Scores, evaluate
from .land_cover import LandCover
from .measurements import Measurements
from .objectives import Run
from .unet import UNet


@dataclass(frozen=True)
class Settings:
    """Everything that a run depends on besides data and objective.

    Attributes:
        steps: updates of the weights.
        seed: of initial weights and of crops.
        batch_size, crop: crops per step, and their edge in pixels.
        width: channels of the U-Net at full resolution.
        learning_rate: at the start; it decays by (1 - step / steps)^0.9 as in section 3.1.
        measured_steps: how many steps, evenly spread, the loss is timed at.
    """

    steps: int = 300
    seed: int = 0
    batch_size: int = 8
    crop: int = 96
    width: int = 16
    learning_rate: float = 2e-3
    measured_steps: int = 20


@dataclass(frozen=True)
class Result:
    """What came of a run.

    Attributes:
        run: what was run.
        curve: the objective at each step.
        scores: on the held-out stripes.
        predictions: uint8 (H, columns held out).
        measurements: time and memory of the loss.
        seconds: of training, without the time that measuring took.
    """

    run: Run
    curve: list[float]
    scores: Scores
    predictions: Tensor
    measurements: Measurements
    seconds: float


def steps_to_measure(settings: Settings) -> set[int]:
    """The last step of each of `measured_steps` equal parts of the run."""
    parts = min(settings.measured_steps, settings.steps)
    return {settings.steps * (part + 1) // parts - 1 for part in range(parts)}


def train_run(
    data: LandCover,
    run: Run,
    settings: Settings,
    on_step: Callable[[int, float], None] = lambda _step, _loss: None,
) -> Result:
    """Train a U-Net from scratch. Only the objective differs from run to run: initial weights and
    batches follow from the seed, and measuring draws no random numbers.

    Args:
        on_step: called after each step with the number of steps done and the loss.
    """
    torch.manual_seed(settings.seed)
    model = UNet(len(data.cover), settings.width)
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings.learning_rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: (1 - step / settings.steps) ** 0.9
    )
    measurements, measured, curve = Measurements(run), steps_to_measure(settings), []
    measuring = 0.0
    start = time.perf_counter()
    stream = batches(data, settings.steps, settings.batch_size, settings.crop, settings.seed)
    for step, batch in enumerate(stream):
        optimizer.zero_grad()
        logits = model(batch.image)
        loss = run.loss(logits, batch)
        loss.backward()
        optimizer.step()
        schedule.step()
        curve.append(loss.item())
        if step in measured:
            before = time.perf_counter()
            measurements.measure_time(logits.detach(), batch)
            if step == settings.steps - 1:
                measurements.measure_memory(logits.detach(), batch)
            measuring += time.perf_counter() - before
        on_step(step + 1, curve[-1])
    seconds = time.perf_counter() - start - measuring

    predictions, scores = evaluate(model, data)
    return Result(run, curve, scores, predictions, measurements, seconds)
