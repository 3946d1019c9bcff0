"""What is counted of a kernel, from the block that was interpreted: the same numbers on every
machine."""

from __future__ import annotations

import math
import re
from collections import Counter

from . import pipes
from .devices import Device
from .kernels import Kernel
from .rows import Row
from .steps import Recorded, Step

_LANES, _SECTOR = 32, 32
#: Pipes whose accesses are counted.
_GLOBAL = (pipes.GLOBAL_LOAD, pipes.GLOBAL_STORE, pipes.COPY)
_SHARED = (pipes.SHARED_LOAD, pipes.SHARED_STORE)


def tile_of(kernel: Kernel) -> tuple[int, int]:
    """(classes, pixels) of a thread, as Config has them: they are in the kernel's name."""
    classes, pixels = re.findall(r"Li(\d+)E", kernel.name)[:2]
    return int(classes), int(pixels)


def counts(step: Step, name: str, row: Row, device: Device) -> dict[str, object]:
    """Of the forward or the backward.

    Returns:
        what the launch is, how evenly tiles are shared out, and what the block's warps issued and
        asked of memory: instructions of a thread for each element of the block, bytes of its
        sectors that come from memory or go there, bytes of a lane and sectors (global) or turns of
        the banks (shared) of a request; "code bytes", what is executed of the kernel's code.

        Of logits of lower resolution elements are those of the full size, each counted once though
        two blocks may compute it, and all blocks are taken for one tile each.
    """
    recorded = step.kernels[name]
    launch, kernel = recorded.launch, recorded.kernel
    images, classes, *spatial = row.case.shape
    parts = launch.blocks // images
    if row.case.upsample > 1:
        pixels_of_tile = math.prod(spatial) / parts
        tiles = parts
    else:
        pixels_of_tile = tile_of(kernel)[1] * _LANES
        tiles = -(-math.prod(spatial) // pixels_of_tile)
    tiles_of_block = -(-tiles // parts)
    elements = classes * tiles_of_block * pixels_of_tile
    busiest = -(-launch.blocks // device.multiprocessors)
    issued, requests = Counter(), {}
    footprint = set()
    for event in _events(recorded):
        instruction = kernel.code[event.address]
        pipe = pipes.pipe(instruction)
        issued[pipe] += 1
        footprint.add(event.address)
        if event.access is not None:
            of_pipe = requests.setdefault(pipe, Counter())
            of_pipe.update(
                requests=1,
                bytes=event.access.bytes,
                lanes=event.lanes,
                sectors=event.access.sectors,
                memory_bytes=event.access.new_sectors
                * _SECTOR
                * step.is_in_memory(event.access.address),
            )
    per_element = _LANES / elements
    return {
        "kernel": kernel.name,
        "registers": kernel.registers,
        "threads": launch.threads,
        "shared bytes": launch.shared,
        "blocks": launch.blocks,
        "resident blocks": recorded.resident,
        "tiles of a block": tiles_of_block,
        "balance": images * tiles / (device.multiprocessors * busiest * tiles_of_block),
        "instructions": sum(issued.values()) * per_element,
        "by pipe": {pipe: issued[pipe] * per_element for pipe in pipes.PIPES if issued[pipe]},
        "code bytes": 16 * len(footprint),
        "memory bytes": sum(of["memory_bytes"] for of in requests.values()) / elements,
        "global": {
            pipe: {
                "bytes of a lane": of["bytes"] / of["lanes"],
                "sectors of a request": of["sectors"] / of["requests"],
            }
            for pipe, of in requests.items()
            if pipe in _GLOBAL
        },
        "shared": {
            pipe: {
                "bytes of a lane": of["bytes"] / of["lanes"],
                "turns of a request": of["sectors"] / of["requests"],
            }
            for pipe, of in requests.items()
            if pipe in _SHARED
        },
    }


def _events(recorded: Recorded):
    for warp in recorded.block.warps:
        yield from warp.trace
