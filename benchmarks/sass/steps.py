"""A step of a loss, forward and backward, of which one block of each kernel is interpreted."""

from __future__ import annotations

import ctypes
import re
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from jml_kernels.bench.cases import build
from jml_kernels.bench.competitors import fused
from jml_kernels.bench.timing import BACKWARD, FORWARD

from .interpreter.block import Block, Launch
from .interpreter.memory import ProcessMemory
from .kernels import Kernel
from .launches import Launches
from .pipes import GLOBAL_STORE, pipe
from .rows import Row

#: The kernels between forward and backward, which make the loss of a pass's sums.
FINISH, FORMULA = "finish", "formula"


@dataclass(frozen=True)
class Recorded:
    """A launch, and what one of its blocks did."""

    launch: Launch
    kernel: Kernel
    resident: int
    """blocks of a multiprocessor at a time"""
    block: Block


@dataclass(frozen=True)
class Step:
    kernels: dict[str, Recorded]
    tensors: list[tuple[int, int]]
    """addresses of the first and behind the last byte of logits, targets and gradient"""

    def is_in_memory(self, address: int) -> bool:
        """Not of sums and coefficients, which the second level of cache holds."""
        return any(start <= address < end for start, end in self.tensors)


def kernel_of(launch: Launch) -> str:
    """Its name among those of a step."""
    return re.search(r"(forward|finish|formula|backward)_kernel", launch.kernel)[1]


def record(row: Row, launches: Launches) -> Step:
    """One image of the batch has numbers, in the middle of it; of the others no page is touched.
    The block that is interpreted is one of this image."""
    images = row.case.shape[0]
    image = images // 2
    logits, *targets = (_batch(one, images, image) for one in _one_image(row))
    logits.requires_grad_()
    memory, kernels = ProcessMemory(), {}

    def on_launch(launch: Launch) -> None:
        name, kernel = kernel_of(launch), launches.kernel(launch)
        parts = launch.blocks // images
        index = image * parts + parts // 2 if name in (FORWARD, BACKWARD) else 0
        block = Block(kernel, launch, index, memory, with_trace=True)
        block.run()
        if name == FORWARD:
            _repeat_sums(block, launch)
        kernels[name] = Recorded(launch, kernel, launches.resident_blocks(launch), block)

    launches.on_launch = on_launch
    loss = fused(row.case, "cuda", **row.options)(logits, *targets)
    launches.raise_error()
    loss.backward()
    launches.raise_error()
    tensors = (logits, *targets, logits.grad)
    return Step(kernels, [_range(tensor) for tensor in tensors])


def _repeat_sums(block: Block, launch: Launch) -> None:
    """Gives the block's sums to all others, which did not run: each has a row of memory, one after
    the other."""
    stores = [
        event.access
        for warp in block.warps
        for event in warp.trace
        if event.access and pipe(block.kernel.code[event.address]) == GLOBAL_STORE
    ]
    start = min(access.address for access in stores)
    size = max(access.address + access.bytes for access in stores) - start
    row = ctypes.string_at(start, size)
    ctypes.memmove(start - block.index * size, row * launch.blocks, size * launch.blocks)


def _one_image(row: Row) -> tuple[Tensor, ...]:
    return build(replace(row.case, shape=(1, *row.case.shape[1:])))


def _batch(one: Tensor, images: int, image: int) -> Tensor:
    """A tensor of that many images, of which one has numbers."""
    batch = torch.empty_strided(
        (images, *one.shape[1:]), (one[0].numel(), *one.stride()[1:]), dtype=one.dtype
    )
    batch[image] = one[0]
    return batch


def _range(tensor: Tensor) -> tuple[int, int]:
    start = tensor.data_ptr()
    return start, start + tensor.numel() * tensor.element_size()
