"""The backends: which there are, which of them run here, and for each that does not, why.

A new backend is one file with a `Backend` record, and its place in `ALL`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from . import cpu, cuda, reference, triton
from .record import Backend, StandIn

__all__ = [
    "ALL",
    "BY_NAME",
    "COMPILED",
    "NAMES",
    "Backend",
    "StandIn",
    "backends",
    "choose",
    "why_not",
]

#: In the order in which "auto" tries them.
ALL: tuple[Backend, ...] = (cuda.BACKEND, triton.BACKEND, cpu.BACKEND, reference.BACKEND)
NAMES = tuple(backend.name for backend in ALL)
BY_NAME = {backend.name: backend for backend in ALL}
#: Those with operators of their own.
COMPILED = tuple(backend for backend in ALL if backend.is_compiled)


def automatic(backends: Sequence[Backend]) -> dict[str, str]:
    """device type -> the first of some backends that runs there, stand-ins left out."""
    found: dict[str, str] = {}
    for backend in backends:
        if backend.device is not None and backend.reason is None and not backend.is_stand_in:
            found.setdefault(backend.device, backend.name)
    return found


_AUTOMATIC = automatic(ALL)


def backends() -> dict[str, str | None]:
    """The backends, in the order in which "auto" tries them.

    Returns:
        name -> None where it can run on this machine, else why it cannot, in words.
    """
    reasons = {backend.name: backend.reason for backend in ALL}
    on_gpu = [b.name for b in ALL if b.needs_gpu and b.reason is None]
    if on_gpu and torch.cuda.device_count() == 0:
        reasons |= dict.fromkeys(on_gpu, "PyTorch finds no GPU for it here")
    return reasons


def why_not(name: str, device: torch.device) -> str | None:
    """Why a backend cannot run on tensors of a device, in words; None if it can."""
    backend = BY_NAME[name]
    if _runs_on(backend, device):
        return None
    where = f"its kernels run on {backend.device_in_words} and the tensors are on {device}"
    return backends()[name] or where


def _runs_on(backend: Backend, device: torch.device) -> bool:
    return backend.reason is None and backend.device in (None, device.type)


def choose(name: str, device: torch.device) -> str:
    """The backend to run: "auto" is the first of `ALL` that can.

    Raises:
        ValueError: for a name that is none.
        RuntimeError: for a backend that cannot run here, saying why.
    """
    if name == "auto":
        return _AUTOMATIC.get(device.type, "reference")
    if name not in BY_NAME:
        expected = ", ".join(map(repr, ("auto", *NAMES)))
        raise ValueError(f"backend={name!r}: expected one of {expected}")
    reason = why_not(name, device)
    if reason is not None:
        raise RuntimeError(f"backend={name!r} cannot run here: {reason}")
    return name
