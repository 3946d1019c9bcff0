"""What takes part in a benchmark."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from .cases import BenchmarkCase

#: A function of (logits, *targets), see `cases.build`, that returns a 0-dim loss.
Loss = Callable[..., Tensor]


class NotAvailableError(Exception):
    """Why a competitor is left out, in words."""


@dataclass(frozen=True)
class Competitor:
    """A loss that takes part in a benchmark.

    Attributes:
        what: it computes, in a few words.
        make: the loss for a case; may raise `NotAvailableError`.
        same: whether it is the same loss as ours, so that values must agree.
        upsamples: whether the loss that it makes takes logits of lower resolution as they are; for
            others PyTorch interpolates them, see `competitors.make`.
    """

    what: str
    make: Callable[[BenchmarkCase], Loss]
    same: bool = False
    upsamples: bool = False
