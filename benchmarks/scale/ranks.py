"""Ranks that are simulated in one process: everything runs but the collective itself."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, distributed
from torch.testing._internal.distributed.fake_pg import FakeStore
from torch.utils._python_dispatch import TorchDispatchMode

#: Logits, and the other arguments of a loss.
Part = tuple[Tensor, ...]
Loss = Callable[..., Tensor]

_ALL_REDUCE = torch.ops._c10d_functional.all_reduce.default


@contextlib.contextmanager
def simulated_group(size: int) -> Iterator[distributed.ProcessGroup]:
    """A group of so many ranks, of which this process is one, and the others are not there."""
    distributed.init_process_group("fake", store=FakeStore(), rank=0, world_size=size)
    try:
        yield distributed.group.WORLD
    finally:
        distributed.destroy_process_group()


class Collective(TorchDispatchMode):
    """Stands where all-reduces would run: keeps what is handed to each, and answers `total`, or
    what was handed. Counts the operations of PyTorch that compute something, which on a GPU are
    launches, too."""

    def __init__(self, total: Tensor | None = None):
        super().__init__()
        self.total = total
        self.handed: list[Tensor] = []
        self.operations = 0

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        if function is _ALL_REDUCE:
            self.handed.append(arguments[0].clone())
            return (arguments[0] if self.total is None else self.total).clone()
        self.operations += function.namespace == "aten" and not function.is_view
        return function(*arguments, **(keywords or {}))


def sums_of_ranks(loss: Loss, parts: Sequence[Part]) -> Tensor:
    """What each rank hands to the all-reduce of the forward: float64, (ranks, numbers)."""
    rows = []
    for part in parts:
        with torch.no_grad(), Collective() as collective:
            loss(*part)
        (handed,) = collective.handed
        rows.append(handed)
    return torch.stack(rows)


def loss_of_ranks(loss: Loss, parts: Sequence[Part], total: Tensor) -> tuple[Tensor, Tensor]:
    """The loss, which is the same on every rank, and the gradients of the ranks' logits, one rank
    after the other, as the batch would have them in one process.

    Args:
        loss: with gradients="summed": each rank's gradient is its share.
        total: what the all-reduce gives to every rank.
    """
    values, gradients = [], []
    for logits, *others in parts:
        leaf = logits.detach().requires_grad_()
        with Collective(total):
            value = loss(leaf, *others)
            (gradient,) = torch.autograd.grad(value, leaf)
        values.append(value.detach())
        gradients.append(gradient)
    if any(not torch.equal(value, values[0]) for value in values):
        raise AssertionError("ranks have different losses of the same sums")
    return values[0], torch.cat(gradients)
