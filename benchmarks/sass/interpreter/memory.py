"""Memory as arrays: a block's shared memory, a warp's local one, and the process's own memory,
which stands in for the GPU's.

Every access is checked for its alignment, and for lying inside.
"""

from __future__ import annotations

import bisect

import numpy as np

from .operands import LANES, U32, U64


class OutsideError(MemoryError):
    """An access outside of memory, or not aligned."""


class Memory:
    """Loads and stores of lanes, of 1 to 16 bytes each."""

    def __init__(self, bytes_: np.ndarray, first: int = 0):
        """
        Args:
            bytes_: what it holds; uint8.
            first: the address of its first byte.
        """
        self.first = first
        self.size = bytes_.size
        self._views = {size: bytes_.view(f"<u{size}") for size in (1, 2, 4)}

    def check(self, low: int, high: int) -> None:
        if low < self.first or high > self.first + self.size:
            raise OutsideError(f"access to {low:#x}..{high:#x} outside of {self.size} bytes")

    def load(self, addresses: np.ndarray, size: int) -> list[np.ndarray]:
        """The words of each lane; less than a word is extended by zeros."""
        view, at = self._at(addresses, size)
        return [view[at + k].astype(U32, copy=False) for k in range(max(size // 4, 1))]

    def store(self, addresses: np.ndarray, size: int, words: list[np.ndarray]) -> None:
        view, at = self._at(addresses, size)
        for k, word in enumerate(words):
            view[at + k] = word.astype(view.dtype)

    def _at(self, addresses: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
        self.check(int(addresses.min()), int(addresses.max()) + size)
        if (addresses & U64(size - 1)).any():
            raise OutsideError(f"access of {size} bytes at {int(addresses[0]):#x}: not aligned")
        unit = min(size, 4)
        return self._views[unit], (addresses.astype(np.int64) - self.first) // unit


class LocalMemory(Memory):
    """Of a warp: that of 32 lanes, one after the other."""

    def __init__(self, lane_bytes: int):
        super().__init__(np.full(LANES * lane_bytes, 0xFF, np.uint8))
        self._lane_bytes = lane_bytes

    def places(self, addresses: np.ndarray, active: np.ndarray, size: int) -> np.ndarray:
        """Where the active lanes have what each of them has at an address of its own."""
        if int(addresses.max()) + size > self._lane_bytes:
            raise OutsideError(f"local access at {int(addresses[0]):#x}")
        return addresses + np.flatnonzero(active).astype(addresses.dtype) * U64(self._lane_bytes)


class _Everything:
    """The address space of this process as one array, of which nothing is touched at first."""

    first = 4096
    __array_interface__ = {  # noqa: RUF012
        "version": 3,
        "typestr": "|u1",
        "shape": (2**47 - 2 * first,),
        "data": (first, False),
    }


class ProcessMemory(Memory):
    """What this process may read and write: its tensors, and whatever else, which is not told
    apart; the sanitizers see what a kernel's source does beyond its tensors."""

    def __init__(self) -> None:
        super().__init__(np.asarray(_Everything()), _Everything.first)
        self._starts: list[int] = []
        self._ends: list[int] = []

    def check(self, low: int, high: int) -> None:
        if self._is_mapped(low, high):
            return
        self._read_map()
        if not self._is_mapped(low, high):
            raise OutsideError(f"global access to {low:#x}..{high:#x}, where there is no memory")

    def _is_mapped(self, low: int, high: int) -> bool:
        n = bisect.bisect_right(self._starts, low) - 1
        return n >= 0 and high <= self._ends[n]

    def _read_map(self) -> None:
        """Neighbouring ranges become one."""
        self._starts, self._ends = [], []
        with open("/proc/self/maps") as file:
            for line in file:
                range_, access = line.split(None, 2)[:2]
                if not access.startswith("rw"):
                    continue
                start, end = (int(text, 16) for text in range_.split("-"))
                if self._ends and self._ends[-1] == start:
                    self._ends[-1] = end
                else:
                    self._starts.append(start)
                    self._ends.append(end)
