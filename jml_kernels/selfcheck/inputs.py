"""The tensors of a case: drawn on the CPU, so that every backend and device gets the same."""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from .. import accuracy, reference
from .cases import Case
from .layouts import LAYOUTS

#: A relative distance from ties that steps of finite differences, 1e-6, do not bridge.
FAR = 1e-3


def arguments(case: Case, device: str = "cpu", seed: int = 0) -> tuple[Tensor | None, ...]:
    """What the loss of a case is called with: (logits, target, mask), or of a distillation
    (logits, labels, teacher's logits, mask). New tensors at each call; none requires grad."""
    generator = torch.Generator().manual_seed(seed)
    logits = _logits(case, generator).to(case.dtype)
    labels = _integers(case, generator) if case.target in ("labels", "bits") else None
    dense = _dense(case, generator) if case.target == "soft" or case.has_teacher else None
    mask = None
    if case.masked is not None:
        mask = torch.rand(case.label_shape, generator=generator) >= case.masked
    place = LAYOUTS[case.target_layout]
    logits = LAYOUTS[case.layout](logits.to(device))
    labels, dense, mask = (None if t is None else t.to(device) for t in (labels, dense, mask))
    labels, dense = (None if t is None else place(t) for t in (labels, dense))
    if case.has_teacher:
        return logits, labels, dense, mask
    return logits, dense if labels is None else labels, mask


@functools.cache
def seed_without_ties(case: Case) -> int:
    """The first that leaves no probability near a soft target, where the gradient jumps."""
    for seed in range(100):
        logits, *others = arguments(case, seed=seed)
        targets = soft_targets(case, logits, *others)
        if accuracy.untied(logits, targets, case.activation, FAR).all():
            return seed
    raise ValueError(f"case={case.name!r}: expected one whose probabilities meet no target")


def soft_targets(
    case: Case, logits: Tensor, target: Tensor | None, *others: Tensor | None
) -> list[Tensor]:
    """Those between 0 and 1, float64 (N, C, *spatial)."""
    like, mask, found = logits.detach().double(), others[-1], []
    if case.has_teacher:
        scaled = others[0].double() / case.options.get("temperature", 1.0)
        found.append(reference.probabilities(scaled, case.activation))
    if case.target == "soft":
        found.append(target.double().view(like.shape))
    elif "label_smoothing" in case.options and case.target == "bits":
        rule = (case.options["label_smoothing"], case.ignore_index)
        found.append(reference.dense_target(target, mask, like, *rule)[0])
    elif "label_smoothing" in case.options:
        rule = (case.options["label_smoothing"], case.options.get("boundary_size") or 0)
        found.append(
            reference.label_target(target, mask, like, case.activation, *rule, case.ignore_index)[0]
        )
    return found


def _logits(case: Case, generator: torch.Generator) -> Tensor:
    if case.activation == "none":  # probabilities
        return torch.rand(case.shape, generator=generator, dtype=torch.float64)
    normal = torch.randn(case.shape, generator=generator, dtype=torch.float64)
    return case.scale * normal + case.shift


def _dense(case: Case, generator: torch.Generator) -> Tensor:
    """Probabilities, or a teacher's logits."""
    values = 2 * torch.randn(case.shape, generator=generator, dtype=torch.float64)
    if not case.has_teacher:
        shared = case.activation == "softmax" and case.shape[1] > 1
        values = values.softmax(1) if shared else values.sigmoid()
    return values.to(case.floats or case.dtype)


def _integers(case: Case, generator: torch.Generator) -> Tensor:
    """Labels in blocks of 3 pixels along each longer dimension, so that not every pixel is at a
    boundary; or 0 and 1 of each class."""
    if case.target == "bits":
        found = torch.randint(0, 2, case.shape, generator=generator)
    else:
        n, *spatial = case.label_shape
        edges = [3 if size > 5 else 1 for size in spatial]
        coarse = [-(-size // edge) for size, edge in zip(spatial, edges, strict=True)]
        found = torch.randint(0, case.label_count, (n, *coarse), generator=generator)
        for dim, (size, edge) in enumerate(zip(spatial, edges, strict=True), start=1):
            found = found.repeat_interleave(edge, dim).narrow(dim, 0, size)
        found = found.contiguous()
    ignored = torch.rand(found.shape, generator=generator) < case.ignored
    return found.masked_fill(ignored, case.ignore_index).to(case.integers)
