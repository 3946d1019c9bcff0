"""What the loss costs on logits met in training, and whether its naive and its fused form agree."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median

from torch import Tensor

from ...memory import peak_memory
from .batches import Batch
from .objectives import Loss, Run

ROUNDS = 3
"""How often each loss is timed at one step; the losses take turns."""


def forward_backward(loss: Loss, logits: Tensor, batch: Batch) -> tuple[float, Tensor]:
    """The loss and its gradient by the logits."""
    leaf = logits.detach().requires_grad_()
    value = loss(leaf, batch)
    value.backward()
    return value.item(), leaf.grad


@dataclass
class Measurements:
    """What was measured in one run: its objective, and the naive and the fused form of CE + JML.

    Each figure is of forward and backward of a loss, without the network. Memory counts what is
    held at once beyond logits and targets of the batch, so the gradient is in it.

    Attributes:
        run: what is measured.
        milliseconds: loss name -> one time for each step and round.
        peak_bytes: loss name -> bytes.
        loss_differences: |naive - fused| on the same logits, one for each step.
        gradient_differences: ||naive - fused|| / ||naive|| of the gradients.
    """

    run: Run
    milliseconds: dict[str, list[float]] = field(default_factory=dict)
    peak_bytes: dict[str, int] = field(default_factory=dict)
    loss_differences: list[float] = field(default_factory=list)
    gradient_differences: list[float] = field(default_factory=list)

    def losses(self) -> dict[str, Loss]:
        """Loss name -> loss."""
        losses = {"objective": self.run.loss}
        if self.run.target is not None:
            losses |= {"naive": self.run.target.naive, "fused": self.run.target.fused}
        return losses

    def measure_time(self, logits: Tensor, batch: Batch) -> None:
        """Time every loss in turn, and compare the two forms."""
        losses = self.losses()
        results = {name: forward_backward(loss, logits, batch) for name, loss in losses.items()}
        for _ in range(ROUNDS):
            for name, loss in losses.items():
                elapsed = _milliseconds(lambda loss=loss: forward_backward(loss, logits, batch))
                self.milliseconds.setdefault(name, []).append(elapsed)
        if "fused" in results:
            (naive, naive_gradient), (fused, fused_gradient) = results["naive"], results["fused"]
            distance = (naive_gradient - fused_gradient).norm() / naive_gradient.norm()
            self.loss_differences.append(abs(naive - fused))
            self.gradient_differences.append(distance.item())

    def measure_memory(self, logits: Tensor, batch: Batch) -> None:
        """Take the peak of every loss."""
        for name, loss in self.losses().items():
            self.peak_bytes[name] = peak_memory(
                lambda loss=loss: forward_backward(loss, logits, batch)
            )

    def median_milliseconds(self, name: str) -> float:
        return median(self.milliseconds[name])


def _milliseconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return (time.perf_counter() - start) * 1e3
