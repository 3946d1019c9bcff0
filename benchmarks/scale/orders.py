"""The orders in which an all-reduce may add what ranks hand to it: (ranks, numbers) to (numbers,).

An element is added up once, and the sum is handed to every rank, in rings and in trees.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Order = Callable[[Tensor], Tensor]

#: GPUs of a node.
PER_NODE = 8


def chain(parts: Tensor) -> Tensor:
    """One rank after the other."""
    total = parts[0].clone()
    for part in parts[1:]:
        total += part
    return total


def ring(parts: Tensor) -> Tensor:
    """As many chunks as ranks; the sum of each starts at another rank and goes round."""
    chunks = parts.tensor_split(len(parts), dim=1)
    return torch.cat([chain(chunk.roll(-start, 0)) for start, chunk in enumerate(chunks)])


def tree(parts: Tensor) -> Tensor:
    """Pairs, and pairs of these; one that is left over waits."""
    while len(parts) > 1:
        pairs = len(parts) // 2
        parts = torch.cat([parts[0 : 2 * pairs : 2] + parts[1 : 2 * pairs : 2], parts[2 * pairs :]])
    return parts[0]


def tree_of_nodes(parts: Tensor) -> Tensor:
    """A chain within each node, and a tree of the nodes, as NCCL's trees are."""
    return tree(torch.stack([chain(node) for node in parts.split(PER_NODE)]))


def shuffled(seed: int) -> Order:
    """A chain of the ranks in an order that is drawn."""

    def order(parts: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return chain(parts[torch.randperm(len(parts), generator=generator)])

    return order


#: Those that have names: what libraries do, and a plain chain.
NAMED: tuple[Order, ...] = (chain, ring, tree, tree_of_nodes)


def every_order(count: int) -> list[Order]:
    """So many, the named ones first."""
    return [*NAMED, *map(shuffled, range(count - len(NAMED)))]
