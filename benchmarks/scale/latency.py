"""The time of a small all-reduce of NCCL: a tree of the nodes, a chain within each, up and down.

base + 2 * ((GPUs of a node - 1) * hop + log2(nodes) * hop of the network) + bytes * byte
"""

from __future__ import annotations

import math
from typing import Any

from .published import BASE, BYTE, ELSEWHERE, HOP, MEASURED, NETWORK_HOP, NVLINK, Measured

PER_NODE = 8
RANKS = (8, 64, 256, 1024)
#: The largest number of GPUs that the model is held against; what is beyond is extrapolated.
HELD_UP_TO = max(point.ranks for point in MEASURED)


def all_reduce_time(size: int, ranks: int, per_node: int = PER_NODE, link: str = NVLINK) -> float:
    """Microseconds.

    Args:
        size: of the message, bytes.
        per_node: GPUs of a node.
        link: between the GPUs of a node, a key of `HOP`.
    """
    nodes = math.ceil(ranks / per_node)
    within = (min(ranks, per_node) - 1) * HOP[link]
    between = math.ceil(math.log2(nodes)) * NETWORK_HOP
    return BASE + 2 * (within + between) + size * BYTE


def step_time(handed: list[int], ranks: int) -> float:
    """Of the all-reduces of a step, whose bytes are `handed`."""
    return sum(all_reduce_time(size, ranks) for size in handed)


def _held(point: Measured) -> dict[str, Any]:
    model = all_reduce_time(point.bytes, point.ranks, point.per_node, point.link)
    return {
        "gpus": point.gpus,
        "ranks": point.ranks,
        "nodes": point.ranks // point.per_node,
        "link": point.link,
        "network": point.network,
        "bytes": point.bytes,
        "published": point.time,
        "model": model,
        "source": point.source.where,
    }


def held_out() -> dict[str, list[dict[str, Any]]]:
    """Published times, none of which went into the model, beside what it gives."""
    return {
        "measured": [_held(point) for point in MEASURED],
        "elsewhere": [_held(point) for point in ELSEWHERE],
    }
