"""How far the loss and its gradient are from those of one process, and from those of another order
of adding: the same ranks' sums, added in every order that a collective may take."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, distributed

from .cases import AGGREGATIONS, OBJECTIVES, Objective, uneven_batch, whole
from .orders import every_order
from .ranks import Part, loss_of_ranks, sums_of_ranks

#: Of float64.
UNIT_ROUNDOFF = 2.0**-53


def bound(ranks: int) -> float:
    """Relative, of a sum of numbers of one sign, in two orders of adding: in each of them R - 1
    additions round (Higham, Accuracy and Stability of Numerical Algorithms, section 4.2)."""
    additions = (ranks - 1) * UNIT_ROUNDOFF
    return 2 * additions / (1 - additions)


def _relative(difference: Tensor, of: Tensor) -> float:
    """Length of a difference, as a share of that of a vector."""
    length = of.norm()
    return 0.0 if length == 0 else (difference.norm() / length).item()


def _spread(totals: Tensor) -> float:
    """The largest difference of an element over the orders, relative."""
    least, most = totals.amin(0), totals.amax(0)
    largest = totals.abs().amax(0)
    return torch.where(largest == 0, 0, (most - least) / largest).max().item()


def agreement(
    objective: Objective,
    aggregation: str,
    parts: list[Part],
    group: distributed.ProcessGroup,
    orders: int,
    orders_of_gradients: int,
) -> dict[str, Any]:
    """Largest relative differences: between orders of the same ranks, and from one process."""
    loss = objective.loss(aggregation, process_group=group, gradients="summed")
    arguments = [objective.arguments(part) for part in parts]
    sums = sums_of_ranks(loss, arguments)
    totals = torch.stack([order(sums) for order in every_order(orders)])
    values = torch.stack([loss_of_ranks(loss, arguments[:1], total)[0] for total in totals])
    gradients = [loss_of_ranks(loss, arguments, total)[1] for total in totals[:orders_of_gradients]]
    logits, *others = whole(arguments)
    leaf = logits.requires_grad_()
    value = objective.loss(aggregation)(leaf, *others)
    (gradient,) = torch.autograd.grad(value, leaf)
    value = value.detach()
    return {
        "objective": objective.name,
        "aggregation": aggregation,
        "numbers": sums.shape[1],
        "orders": len(totals),
        "orders of gradients": len(gradients),
        "between orders": {
            "sums": _spread(totals),
            "loss": _spread(values.unsqueeze(1)),
            "gradient": max(_relative(other - gradients[0], gradient) for other in gradients),
        },
        "from one process": {
            "loss": max(_relative(other - value, value) for other in values),
            "gradient": max(_relative(other - gradient, gradient) for other in gradients),
        },
        "losses in float32": len(torch.cat([values, value[None]]).float().unique()),
    }


def every_agreement(
    group: distributed.ProcessGroup,
    classes: int = 19,
    size: int = 32,
    orders: int = 64,
    orders_of_gradients: int = 6,
) -> list[dict[str, Any]]:
    """For every objective and aggregation.

    Args:
        size: of the images.
        orders_of_gradients: the first of `orders`, since a gradient needs every rank again.
    """
    parts = uneven_batch(group.size(), classes, size)
    return [
        agreement(objective, aggregation, parts, group, orders, orders_of_gradients)
        for objective in OBJECTIVES
        for aggregation in AGGREGATIONS
    ]
