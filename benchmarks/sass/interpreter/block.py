"""A block: its warps take turns, each until the next barrier."""

from __future__ import annotations

import struct
from typing import NamedTuple

import numpy as np

from ..kernels import Kernel
from . import access, conversions, floats, integers  # noqa: F401  # they fill the table of opcodes
from .memory import Memory
from .operands import LANES, U32
from .warp import Warp

#: Where a launch's constants lie in bank 0 on sm_90 (as `ptxas -v` counts them): sizes of the block
#: and the grid, and the argument.
_SIZES, _STACK, _ARGUMENT = 0x0, 0x28, 0x210
#: Bytes of shared memory that belong to the system, in front of the block's own (sm_90).
_SYSTEM_SHARED = 1024


class Launch(NamedTuple):
    kernel: str
    """mangled name"""
    blocks: int
    threads: int
    """of a block"""
    shared: int
    """bytes of a block"""
    argument: bytes


class Block:
    #: Of a thread, more than any kernel here takes.
    LOCAL_BYTES = 4096

    def __init__(
        self, kernel: Kernel, launch: Launch, index: int, memory: Memory, with_trace: bool = False
    ):
        """
        Args:
            memory: the global one.
            with_trace: whether warps keep what they issue.
        """
        self.kernel, self.index, self.memory, self.with_trace = kernel, index, memory, with_trace
        self.shared = Memory(np.full(_SYSTEM_SHARED + launch.shared, 0xFF, np.uint8))
        self.touched: set[int] = set()
        """sectors of global memory, where there is a trace"""
        self._banks = {**kernel.constants, 0: self._bank_of_launch(launch)}
        self._constants: dict[tuple[int, int], np.ndarray] = {}
        self.warps = [Warp(self, n) for n in range(launch.threads // LANES)]

    def _bank_of_launch(self, launch: Launch) -> bytes:
        bank = bytearray(_ARGUMENT) + launch.argument
        struct.pack_into("<6I", bank, _SIZES, launch.threads, 1, 1, launch.blocks, 1, 1)
        struct.pack_into("<I", bank, _STACK, self.LOCAL_BYTES)
        return bytes(bank)

    def constant(self, bank: int, offset: int) -> np.ndarray:
        """A word, for every lane."""
        key = bank, offset
        lanes = self._constants.get(key)
        if lanes is None:
            value = struct.unpack_from("<I", self.bank(bank), offset)[0]
            lanes = self._constants[key] = np.full(LANES, value, U32)
        return lanes

    def bank(self, bank: int) -> bytes:
        return self._banks[bank]

    def run(self) -> None:
        with np.errstate(all="ignore"):
            live = self.warps
            while live:
                for warp in live:
                    warp.run()
                live = [warp for warp in live if not warp.has_ended]
