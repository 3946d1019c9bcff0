"""A warp: its registers, and how its lanes go through the instructions.

Lanes that stand at the same instruction go together. Of several such groups the one that is
furthest behind goes first, until it meets another: where lanes part and meet is the program's doing
(BSSY and BSYNC), and the order in which a GPU takes parted lanes changes no result.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..disassembly import Instruction
from .control import CONTROL, Flow
from .memory import LocalMemory
from .opcodes import Run, decode
from .operands import LANES, PREDICATES, REGISTERS, TRUE, U32, UNIFORM_TRUE, Read, predicate
from .trace import Access, Event

if TYPE_CHECKING:
    from .block import Block

_SIZE = 16  # bytes of an instruction


class Step(NamedTuple):
    """An instruction as it is executed: `run`, or `flow` where it says what comes next."""

    instruction: Instruction
    predicate: Read | None
    run: Run | None
    flow: Flow | None
    of_all_lanes: Event


def _step(instruction: Instruction) -> Step:
    control = CONTROL.get(instruction.opcode)
    return Step(
        instruction,
        predicate(instruction.predicate) if instruction.predicate else None,
        None if control else decode(instruction),
        control(instruction) if control else None,
        Event(instruction.address, LANES),
    )


class Warp:
    def __init__(self, block: Block, index: int):
        self.block = block
        self.registers = np.zeros((REGISTERS, LANES), U32)
        self.predicates = np.zeros((PREDICATES, LANES), bool)
        self.predicates[[TRUE, UNIFORM_TRUE]] = True
        lanes = np.arange(LANES, dtype=U32)
        self.special = {
            "SR_TID.X": lanes + U32(LANES * index),
            "SR_CTAID.X": np.full(LANES, block.index, U32),
            "SR_LANEID": lanes,
            "SR_CgaCtaId": np.zeros(LANES, U32),
        }
        self.local = LocalMemory(block.LOCAL_BYTES)
        self.alive = np.ones(LANES, bool)
        self.paths: dict[int, np.ndarray] = {0: self.alive.copy()}
        """lanes by the address of their next instruction"""
        self.parted: dict[str, np.ndarray] = {}
        """by barrier of lanes: those that meet again, (lane, lane)"""
        self.waiting: dict[tuple[str, int], np.ndarray] = {}
        """lanes that have come to where they meet, by barrier and address"""
        self.is_at_barrier = False
        self.access: Access | None = None
        """of the instruction that is executed"""
        self.trace: list[Event] = []

    @property
    def has_ended(self) -> bool:
        return not self.paths

    def run(self) -> None:
        """Until the block's next barrier, or the end."""
        self.is_at_barrier = False
        while self.paths and not self.is_at_barrier:
            address = min(self.paths)
            self._follow(address, self.paths.pop(address))
        if not self.paths and self.waiting:
            raise RuntimeError(f"lanes wait for ever, at {sorted(self.waiting)}")

    def _follow(self, address: int, lanes: np.ndarray) -> None:
        steps, code, trace = self.block.kernel.decoded, self.block.kernel.code, self.trace
        with_trace = self.block.with_trace
        next_: int | None = address
        while True:
            step = steps.get(address)
            if step is None:
                step = steps[address] = _step(code[address])
            active = lanes if step.predicate is None else lanes & step.predicate(self)
            count = np.count_nonzero(active)
            if step.flow is not None:
                next_ = step.flow(self, lanes, active)
            else:
                if count:
                    step.run(self, active)
                next_ = address + _SIZE
            if with_trace:
                if self.access is not None or count != LANES:
                    trace.append(Event(address, count, self.access))
                    self.access = None
                else:
                    trace.append(step.of_all_lanes)
            if next_ is None:
                return
            address = next_
            if self.paths and min(self.paths) <= address:
                self.send(address, lanes)
                return

    # ---- where lanes go --------------------------------------------------------------------------

    def send(self, address: int, lanes: np.ndarray) -> None:
        if lanes.any():
            there = self.paths.get(address)
            self.paths[address] = lanes if there is None else there | lanes

    def part(self, barrier: str, lanes: np.ndarray) -> None:
        """These meet again at the barrier."""
        matrix = self.parted.setdefault(barrier, np.zeros((LANES, LANES), bool))
        matrix[lanes] = lanes

    def leave(self, barrier: str, lanes: np.ndarray) -> None:
        """These are not waited for any more."""
        self.parted[barrier][:, lanes] = False
        self.release()

    def meet(self, barrier: str, address: int, lanes: np.ndarray) -> None:
        key = barrier, address
        there = self.waiting.get(key)
        self.waiting[key] = lanes if there is None else there | lanes
        self.release()

    def end(self, lanes: np.ndarray) -> None:
        self.alive &= ~lanes
        self.release()

    def release(self) -> None:
        """Lanes go on whose whole group has come."""
        for (barrier, address), lanes in list(self.waiting.items()):
            groups = self.parted[barrier]
            left = lanes.copy()
            for lane in np.flatnonzero(lanes):
                expected = groups[lane] & self.alive
                if left[lane] and not (expected & ~lanes).any():
                    group = expected & left
                    self.send(address + _SIZE, group)
                    left &= ~group
            if left.any():
                self.waiting[barrier, address] = left
            else:
                del self.waiting[barrier, address]
