"""What is known of a backend."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch


@dataclass(frozen=True)
class StandIn:
    """How a backend's kernels run without its hardware: on tensors of the CPU, slowly, as a test.

    The environment asks for it before the package is imported, so that another process has to be
    started.
    """

    environment: Mapping[str, str]
    """the variables that ask for it"""
    is_active: bool
    """whether this process has asked for it"""
    how: str
    """what happens to the kernels, in a word"""
    reason: str | None = None
    """why no process can be started with `environment` here, in words; None if one can"""


@dataclass(frozen=True)
class Backend:
    """One of the ways to compute statistics, see `ops`.

    A backend whose stand-in is active runs on the CPU, and only where it is asked for by name.
    """

    name: str
    device: str | None
    """the type of the device that its tensors lie on, for example "cuda"; None: any"""
    device_in_words: str
    reason: str | None = None
    """why it cannot be loaded here, in words; None where it is loaded. No GPU is asked for."""
    finishes_loss: bool = False
    """whether it has the operator that computes the formula too"""
    upsamples: bool = False
    """whether its operators interpolate logits of lower resolution themselves (the target int
    `upsample`); for others dispatch.py interpolates before"""
    tallies: bool = False
    """whether it has the operator that counts for metrics, with a softmax (tally.py)"""
    stand_in: StandIn | None = None
    register: Callable[[torch.library.Library], None] | None = field(default=None, repr=False)
    """registers kernels written in Python; a library registers its own when it is loaded"""

    @property
    def is_compiled(self) -> bool:
        """Whether it has operators of its own; the reference is plain PyTorch."""
        return self.name != "reference"

    @property
    def is_stand_in(self) -> bool:
        return self.stand_in is not None and self.stand_in.is_active

    @property
    def needs_gpu(self) -> bool:
        return self.device == "cuda"
