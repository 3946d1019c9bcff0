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
from .objectives import Run
from .probe import Probe
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
        probes: steps, evenly spread, at which the loss is timed.
    """

    steps: int = 300
    seed: int = 0
    batch_size: int = 8
    crop: int = 96
    width: int = 16
    learning_rate: float = 2e-3
    probes: int = 20


@dataclass(frozen=True)
class Result:
    """What came of a run.

    Attributes:
        run: what was run.
        curve: the objective at each step.
        scores: on the held-out stripes.
        predictions: uint8 (H, columns held out).
        probe: time and memory of the loss.
        seconds: of training, without the probes.
    """

    run: Run
    curve: list[float]
    scores: Scores
    predictions: Tensor
    probe: Probe
    seconds: float


def probe_steps(settings: Settings) -> set[int]:
    """The steps at which to measure: the last of each of `probes` equal parts."""
    parts = min(settings.probes, settings.steps)
    return {settings.steps * (part + 1) // parts - 1 for part in range(parts)}


def train_run(
    data: LandCover,
    run: Run,
    settings: Settings,
    on_step: Callable[[int, float], None] = lambda _step, _loss: None,
) -> Result:
    """Train a U-Net from scratch. Only the objective differs from run to run: initial weights and
    batches follow from the seed, and the probes draw no random numbers.

    Args:
        on_step: called after each step with the number of steps done and the loss.
    """
    torch.manual_seed(settings.seed)
    model = UNet(len(data.cover), settings.width)
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings.learning_rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: (1 - step / settings.steps) ** 0.9
    )
    probe, measured, curve, probing = Probe(run), probe_steps(settings), [], 0.0
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
            probe.measure_time(logits.detach(), batch)
            if step == settings.steps - 1:
                probe.measure_memory(logits.detach(), batch)
            probing += time.perf_counter() - before
        on_step(step + 1, curve[-1])
    seconds = time.perf_counter() - start - probing

    predictions, found = evaluate(model, data)
    return Result(run, curve, found, predictions, probe, seconds)
