"""A batch whose images lie on several ranks: its sums over a process group.

    sums of this rank's images -> one all-reduce -> sums of the whole batch (the same on every rank)
    gradient by the whole sums -> as GRADIENTS say -> gradient by this rank's sums

A set loss is no mean over images or pixels: the mean of the ranks' own losses is another loss. The
sums of `formulas.Sums` are all that the loss needs of the batch, and they do not grow with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, distributed

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

    from .formulas import Sums

#: How the gradients of the ranks meet after the backward. Let S be the sum of the ranks' S_r, and
#: L(S) the loss, which every rank computes. The gradient of the parameters is
#: sum over r of dL/dS * dS_r/dparameters.
#:     averaged  the mean over ranks is taken, as DDP and FSDP do. The adjoint of a sum that R ranks
#:               read is the sum of their R adjoints: each rank's gradient is R times its share, and
#:               the mean of those is the gradient above.
#:     summed    the sum over ranks is taken (tensor, context and spatial parallelism, FSDP2 with a
#:               divide factor of 1), or none is wanted: each rank's gradient is its share.
GRADIENTS = ("averaged", "summed")


def group_of(process_group: Any) -> ProcessGroup:
    """The group that an option stands for; True is the default group, which must be there now."""
    if process_group is True:
        if not distributed.is_initialized():
            raise RuntimeError(
                "process_group=True: expected a default process group, which "
                "torch.distributed.init_process_group() makes"
            )
        return distributed.group.WORLD
    if isinstance(process_group, distributed.DeviceMesh):
        return process_group.get_group()
    return process_group


def check_process_group(name: str, value: Any) -> Any:
    """None, True, a group of this rank, or a mesh of one dimension."""
    if value is None:
        return value
    expected = "expected a process group, a DeviceMesh of one dimension, True or None"
    if not distributed.is_available():
        raise ValueError(f"{name}={value!r}: expected None, since PyTorch has no distributed here")
    if value is True:
        return value
    if isinstance(value, distributed.DeviceMesh):
        if value.ndim != 1:
            names = value.mesh_dim_names or ()
            cure = f", such as mesh[{names[0]!r}]" if names else ""
            raise ValueError(f"{name}={value!r}: {expected}{cure}")
        return value
    if value is distributed.GroupMember.NON_GROUP_MEMBER:
        raise ValueError(f"{name}={value!r}: this rank is not in the group: {expected}")
    if not isinstance(value, distributed.ProcessGroup):
        raise TypeError(f"{name}={value!r}: {expected}")
    return value


def world_size(process_group: Any) -> int:
    return group_of(process_group).size()


def all_reduced(tensor: Tensor, group: ProcessGroup, how: str = "sum") -> Tensor:
    """The sum (or "max") over ranks, by a collective that compiled graphs hold too."""
    # Imported here, as most processes have no use for it, and it takes a while.
    from torch.distributed import _functional_collectives as functional  # noqa: PLC0415

    return functional.wait_tensor(functional.all_reduce(tensor, how, group))


class SumOverRanks(torch.autograd.Function):
    """The sum of a tensor over ranks; `is_averaged` is of `GRADIENTS`.

    Without the average its adjoint is the identity, since every rank has the same one. That does
    not hold for a function of the gradients, such as a penalty, which is of a rank's own share.
    """

    @staticmethod
    def forward(tensor: Tensor, group: ProcessGroup, is_averaged: bool) -> Tensor:
        return all_reduced(tensor, group)

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        _, ctx.group, ctx.is_averaged = inputs

    @staticmethod
    def backward(ctx, grad: Tensor):
        if ctx.is_averaged:
            return all_reduced(grad, ctx.group), None, None
        is_double = torch.is_grad_enabled() and not torch.compiler.is_compiling()
        if is_double and ctx.group.size() > 1:
            raise RuntimeError(
                "gradients='summed', and logits that are a DTensor, have no double backward over "
                "ranks: expected gradients='averaged' and plain logits with create_graph=True"
            )
        return grad, None, None


def sums_over_ranks(sums: list[Sums], process_group: Any, gradients: str) -> list[Sums]:
    """The sums of the whole batch, of those of this rank's part: with one all-reduce of float64
    numbers, however many images there are."""
    group = group_of(process_group)
    if group.size() == 1:
        return sums
    parts = [part for of_target in sums for part in of_target.values()]
    flat = torch.cat([part.reshape(-1).double() for part in parts])
    total = SumOverRanks.apply(flat, group, gradients == "averaged")
    whole = iter(total.split([part.numel() for part in parts]))
    return [
        {name: next(whole).view(part.shape) for name, part in of_target.items()}
        for of_target in sums
    ]
