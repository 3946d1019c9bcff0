"""Who takes part, by the names of the command line: our backends, the loss as it is usually
written, what PyTorch has, other libraries (peers.py), and losses of the user's own."""

from __future__ import annotations

import functools
import importlib
import inspect
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

import jml_kernels as jml

from .. import naive
from ..backend import NAMES as BACKENDS
from . import metrics
from .cases import CE_JACCARD, DISTILLATION, JACCARD, LOVASZ, METRICS, BenchmarkCase
from .competitor import Competitor, Loss, NotAvailableError
from .lovasz_peers import LOVASZ_PEERS
from .peers import PEERS, in_float32

EAGER = "eager"
COMPILED = "compile"
CROSS_ENTROPY = "cross-entropy"
DICE = "soft-dice"
#: Stands behind the name of a backend that writes the gradient over the logits.
IN_PLACE = "-in-place"
#: Stands behind that of one whose loss does not interpolate logits: PyTorch does before.
INTERPOLATED = "-interpolated"
#: Stands behind that of one that gets the logits at full size, as if nothing had to interpolate.
FULL_SIZE = "-full-size"
#: Stands for the names of all peers.
ALL_PEERS = "peers"

_MODULES = {
    JACCARD: jml.JaccardMetricLoss,
    CE_JACCARD: jml.JaccardCrossEntropyLoss,
    DISTILLATION: jml.JaccardDistillationLoss,
    LOVASZ: jml.LovaszSoftmaxLoss,
}
_NAIVE = {
    JACCARD: naive.naive_jaccard_metric_loss,
    CE_JACCARD: naive.naive_jaccard_cross_entropy_loss,
    DISTILLATION: naive.naive_jaccard_distillation_loss,
    LOVASZ: naive.naive_lovasz_softmax_loss,
}


def fused(case: BenchmarkCase, backend: str = "auto", **options) -> Loss:
    if case.objective == METRICS:
        return metrics.fused(case, backend)
    options = {**case.options, **case.upsampling, **options}
    return _MODULES[case.objective](backend=backend, **options)


def _fused(case: BenchmarkCase, backend: str, **options) -> Loss:
    reason = jml.backends()[backend]
    if reason is not None:
        raise NotAvailableError(f"backend {backend}: {reason}")
    return fused(case, backend, **options)


def _in_place(case: BenchmarkCase, backend: str) -> Loss:
    if case.upsample > 1:
        raise NotAvailableError("a gradient of lower resolution is not written over its logits")
    if case.objective == METRICS:
        raise NotAvailableError("metrics have no gradient")
    if case.objective == LOVASZ:
        raise NotAvailableError("the Lovász loss has no inplace_backward")
    return _fused(case, backend, inplace_backward=True)


def _of_full_size(case: BenchmarkCase, backend: str) -> Loss:
    """The loss of logits of the target's size."""
    if case.upsample == 1:
        raise NotAvailableError(f"the logits have their full size, as for {backend}")
    return _fused(replace(case, upsample=1), backend)


def interpolating(case: BenchmarkCase, loss: Loss) -> Loss:
    """A loss of full-size logits as one of those of a case: PyTorch interpolates these, and a
    teacher's, right before."""
    if case.upsample == 1:
        return loss

    def resized(logits: Tensor) -> Tensor:
        return F.interpolate(logits, size=case.full_size, mode=case.mode)

    def interpolated(logits: Tensor, target: Tensor, *teacher: Tensor) -> Tensor:
        return loss(resized(logits), target, *map(resized, teacher))

    return in_float32(interpolated)


def make(name: str, case: BenchmarkCase) -> Loss:
    """The loss of a competitor, which takes the logits of a case.

    Raises:
        NotAvailableError: where there is none.
    """
    competitor = find(name)
    loss = competitor.make(case)
    return loss if competitor.upsamples else interpolating(case, loss)


def eager(case: BenchmarkCase) -> Loss:
    if case.objective == DISTILLATION and case.target == "boundary":
        raise NotAvailableError("the naive distillation has no boundary smoothing")
    if case.objective == METRICS:
        return in_float32(metrics.naive(case))
    return in_float32(functools.partial(_NAIVE[case.objective], **case.options))


def compiled(case: BenchmarkCase) -> Loss:
    torch.compiler.reset()
    return torch.compile(interpolating(case, eager(case)), fullgraph=True, dynamic=False)


def _check_has_loss(case: BenchmarkCase) -> None:
    if case.objective == METRICS:
        raise NotAvailableError("it computes no scores")


def cross_entropy(case: BenchmarkCase) -> Loss:
    _check_has_loss(case)
    return in_float32(lambda logits, target, *teacher: F.cross_entropy(logits, target))


def dice(case: BenchmarkCase) -> Loss:
    """A soft Dice that saves memory: one softmax, a boolean one-hot encoding by scatter outside
    of autograd, and sums of the probabilities under it."""
    _check_has_loss(case)
    if case.target == "soft":
        raise NotAvailableError("it takes labels only")

    def loss(logits: Tensor, labels: Tensor, *teacher: Tensor) -> Tensor:
        dims = (0, *range(2, logits.dim()))
        prob = torch.softmax(logits, dim=1)
        with torch.no_grad():
            one_hot = torch.zeros(logits.shape, dtype=torch.bool, device=logits.device)
            one_hot.scatter_(1, labels.unsqueeze(1), True)
            target_sum = one_hot.sum(dim=dims)
        intersection = (prob * one_hot).sum(dim=dims)
        total = prob.sum(dim=dims) + target_sum
        return 1 - ((2 * intersection + 1) / (total + 1)).mean()

    return in_float32(loss)


def _our_own() -> dict[str, Competitor]:
    ours = {}
    for name in BACKENDS:
        of_backend = functools.partial(functools.partial, backend=name)
        ours[name] = Competitor(
            f"this package's loss, backend {name}", of_backend(_fused), same=True, upsamples=True
        )
        ours[name + IN_PLACE] = Competitor(
            "the same, its gradient written over the logits", of_backend(_in_place), same=True
        )
        ours[name + INTERPOLATED] = Competitor(
            "the same of logits that PyTorch has interpolated", of_backend(_of_full_size), same=True
        )
        ours[name + FULL_SIZE] = Competitor(
            "the same alone, of logits that have the full size",
            of_backend(_of_full_size),
            upsamples=True,
        )
    return ours


#: All competitors by name, in the order of the tables.
COMPETITORS: dict[str, Competitor] = {
    **_our_own(),
    EAGER: Competitor("this loss as it is usually written", eager, same=True),
    COMPILED: Competitor(
        "this loss as it is usually written, under torch.compile",
        compiled,
        same=True,
        upsamples=True,
    ),
    CROSS_ENTROPY: Competitor("torch.nn.functional.cross_entropy, no overlap", cross_entropy),
    DICE: Competitor("soft Dice written to save memory, over the batch, smooth 1", dice),
    **PEERS,
    **LOVASZ_PEERS,
}


def named(names: list[str]) -> list[str]:
    """Names with `ALL_PEERS` spelt out, each once.

    Raises:
        ValueError: for a name that is none, and for an import path that leads nowhere.
    """
    peers = [*PEERS, *LOVASZ_PEERS]
    every = [one for name in names for one in (peers if name == ALL_PEERS else [name])]
    for name in every:
        find(name)
    return list(dict.fromkeys(every))


def is_import_path(name: str) -> bool:
    """Whether a name is the `module:function` of a loss of the user's own."""
    return name not in COMPETITORS and ":" in name


def find(name: str) -> Competitor:
    """A competitor by its name, or by the import path `module:function` of a loss.

    Raises:
        ValueError: where there is none.
    """
    if name in COMPETITORS:
        return COMPETITORS[name]
    if not is_import_path(name):
        expected = ", ".join([*COMPETITORS, ALL_PEERS])
        raise ValueError(f"{name!r}: expected one of {expected}, or module:function")
    loss = _imported(name)
    return Competitor("a loss given by its import path", lambda case: loss)


def _imported(path: str) -> Loss:
    """What an import path leads to; a class is called without arguments first."""
    module, _, attributes = path.partition(":")
    try:
        loss = importlib.import_module(module)
        for attribute in attributes.split("."):
            loss = getattr(loss, attribute)
        loss = loss() if inspect.isclass(loss) else loss
    except (Exception, SystemExit) as error:  # whatever a module of the user's does
        why = f"{type(error).__name__}: {error}"
        raise ValueError(f"{path!r}: expected module:function, and it fails: {why}") from error
    if not callable(loss):
        raise ValueError(f"{path!r} is a {type(loss).__name__}: expected a function")
    return loss
