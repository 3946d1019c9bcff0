"""Replays what the warps of a block issue on a model of one multiprocessor: how many cycles its
blocks take.

Each cycle a scheduler issues one instruction, of the oldest warp that is ready: whose stall count
is over, whose barriers are set, and whose pipe is free. Memory is a queue that serves the
multiprocessor's share of the bandwidth, with a latency; the first level of cache, and shared
memory, are a queue of 128 bytes a cycle. All blocks of a multiprocessor issue what the one that was
interpreted issues, and begin one after another.

What is not modelled: the cache for instructions, which the larger kernels do not fit into; the
turns of memory between reads and writes, and its pages; what multiprocessors take from each other
in the second level of cache; and the time between a step's call and its first kernel.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from typing import NamedTuple

from . import pipes
from .devices import L2_BYTES_PER_CYCLE, SCHEDULERS, SHARED_BYTES_PER_CYCLE, UNITS, Device
from .disassembly import Instruction
from .interpreter.trace import Event
from .kernels import Kernel

#: Cycles: from a multiprocessor's second block to the next, as they are handed out; from the end of
#: a block to the start of the one that takes its place; from the last warp at a barrier to the next
#: instruction of all; after a branch.
BLOCK_SKEW, BLOCK_START, BARRIER, BRANCH = 30, 300, 12, 6
#: Cycles of a load that the second and the first level of cache answer (microbenchmarks, see
#: devices.py).
L2_LATENCY, L1_LATENCY = 270, 35
#: Cycles after which operands have been read, where an instruction says when; and of one that is
#: executed for no lane.
READ, NOTHING = 14, 4
#: Cycles that the queue of the first level of cache, and of stores to memory, may be behind before
#: who comes next waits.
QUEUE, STORE_QUEUE = 24, 6000
_SECTOR = 32

_PLAIN, _SHARED, _LOAD, _STORE, _COPY, _WAIT_FOR_COPIES, _BARRIER = range(7)
_KINDS = {
    pipes.SHARED_LOAD: _SHARED,
    pipes.SHARED_STORE: _SHARED,
    pipes.GLOBAL_LOAD: _LOAD,
    pipes.GLOBAL_STORE: _STORE,
    pipes.COPY: _COPY,
}
_UNIT_NAMES = sorted({unit.name for unit in UNITS.values()})
_FP32, _HEAVY = _UNIT_NAMES.index("fp32"), _UNIT_NAMES.index("fp32 heavy")


class Issue(NamedTuple):
    """An event of a trace as the replay takes it."""

    unit: int
    cycles: int
    latency: int
    stall: int
    write_barrier: int
    read_barrier: int
    waits_for: tuple[int, ...]
    kind: int
    lanes: int
    queue_cycles: float
    """of the first level of cache"""
    memory_bytes: int
    """that come from memory, or go there"""
    is_cached: bool
    """whether the first level of cache has them"""


def issues(
    kernel: Kernel, trace: Sequence[Event], is_in_memory: Callable[[int], bool]
) -> list[Issue]:
    """
    Args:
        is_in_memory: whether what lies at an address is read once or written, and so comes from
            memory; else the second level of cache has it.
    """
    known: dict[Event, Issue] = {}
    found = []
    for event in trace:
        issue = known.get(event)
        if issue is None:
            issue = known[event] = _issue(kernel.code[event.address], event, is_in_memory)
        found.append(issue)
    return found


def _issue(i: Instruction, event: Event, is_in_memory: Callable[[int], bool]) -> Issue:
    pipe = pipes.pipe(i)
    unit = UNITS[pipe]
    kind, queue_cycles, memory_bytes, is_cached = _KINDS.get(pipe, _PLAIN), 0.0, 0, True
    access = event.access
    if i.opcode == "BAR":
        kind = _BARRIER
    elif i.opcode == "DEPBAR":
        kind = _WAIT_FOR_COPIES
    elif access is None:
        kind = _PLAIN
    elif kind == _SHARED:
        queue_cycles = access.sectors
    else:
        queue_cycles = max(1.0, access.sectors * _SECTOR / SHARED_BYTES_PER_CYCLE)
        is_cached = access.new_sectors == 0
        if is_in_memory(access.address):
            memory_bytes = access.new_sectors * _SECTOR
    if pipe == pipes.SHUFFLE:
        queue_cycles = 1.0
    return Issue(
        unit=_UNIT_NAMES.index(unit.name),
        cycles=unit.cycles,
        latency=unit.latency if event.lanes else NOTHING,
        stall=max(i.stall, BRANCH if i.opcode in ("BRA", "BRX", "CALL", "RET") else 1),
        write_barrier=i.write_barrier,
        read_barrier=i.read_barrier,
        waits_for=tuple(n for n in range(6) if i.wait_mask >> n & 1),
        kind=kind,
        lanes=event.lanes,
        queue_cycles=queue_cycles,
        memory_bytes=memory_bytes,
        is_cached=is_cached,
    )


class Replay(NamedTuple):
    cycles: float
    issued: int

    @property
    def cycles_per_slot(self) -> float:
        """Of a scheduler: 1 where it issues in every cycle."""
        return self.cycles * SCHEDULERS / self.issued


class _Warp:
    __slots__ = ("barriers", "block", "copies", "next", "scheduler", "trace")

    def __init__(self, trace: list[Issue], block: int, scheduler: int):
        self.trace, self.block, self.scheduler = trace, block, scheduler
        self.next = 0
        self.barriers = [0.0] * 8
        self.copies = 0.0
        """when the last copy to shared memory is done"""


class _Memory:
    """Two queues: of the first level of cache and shared memory, and of what lies behind it."""

    def __init__(self, device: Device, share: float):
        of_device = device.copy_bytes_per_second / (device.gigahertz * 1e9)
        self.bytes_per_cycle = min(of_device * share, L2_BYTES_PER_CYCLE)
        self.latency = device.memory_latency
        self.near = self.far = 0.0
        """when each has served all that was asked of it"""

    def serve(self, issue: Issue, at: float) -> float:
        """When it is done."""
        self.near = max(self.near, at) + issue.queue_cycles
        if not issue.memory_bytes:
            is_near = issue.is_cached or issue.kind not in (_LOAD, _COPY)
            return self.near + (issue.latency if is_near else L2_LATENCY)
        self.far = max(self.far, at) + issue.memory_bytes / self.bytes_per_cycle
        return self.near + issue.latency if issue.kind == _STORE else self.far + self.latency


class _Multiprocessor:
    def __init__(self, traces: list[list[Issue]], blocks: int, resident: int, memory: _Memory):
        self.traces, self.blocks, self.memory = traces, blocks, memory
        self.units = [[0.0] * len(_UNIT_NAMES) for _ in range(SCHEDULERS)]
        self.schedulers = [0.0] * SCHEDULERS
        """when each of them can issue again"""
        self.heap: list[tuple[float, int, _Warp]] = []
        """(when it is ready, age, warp)"""
        self.arrived: list[list[tuple[float, int, _Warp]]] = [[] for _ in range(blocks)]
        """at the barrier of a block"""
        self.left = [len(traces)] * blocks
        self.started = self.issued = 0
        self.end = 0.0
        for n in range(min(resident, blocks)):
            self.start(n * BLOCK_SKEW)

    def start(self, at: float) -> None:
        """The next block."""
        for n, trace in enumerate(self.traces):
            age = self.started * len(self.traces) + n
            heapq.heappush(self.heap, (at, age, _Warp(trace, self.started, age % SCHEDULERS)))
        self.started += 1

    def run(self) -> None:
        heap, memory, schedulers = self.heap, self.memory, self.schedulers
        while heap:
            at, age, warp = heapq.heappop(heap)
            issue, scheduler = warp.trace[warp.next], warp.scheduler
            units, unit = self.units[scheduler], issue.unit
            if unit == _FP32 and units[_HEAVY] < units[_FP32]:
                unit = _HEAVY  # either half of the lanes takes it, each for two cycles
            ready = max(at, schedulers[scheduler], units[unit])
            if issue.queue_cycles:
                ready = max(ready, memory.near - QUEUE)
            if ready > at:
                heapq.heappush(heap, (ready, age, warp))
                continue
            self.issued += 1
            schedulers[scheduler] = at + 1
            units[unit] = at + (2 if issue.unit == _FP32 else issue.cycles)
            next_ = self.issue(issue, warp, at)
            warp.next += 1
            if warp.next == len(warp.trace):
                self.finish(warp, next_)
                continue
            for barrier in warp.trace[warp.next].waits_for:
                next_ = max(next_, warp.barriers[barrier])
            if issue.kind == _BARRIER and issue.lanes and len(self.traces) > 1:
                self.meet(next_, age, warp)
            else:
                heapq.heappush(heap, (next_, age, warp))

    def issue(self, issue: Issue, warp: _Warp, at: float) -> float:
        """Sets the barriers; returns when the warp may go on."""
        next_, done, read = at + issue.stall, at + issue.latency, at + READ
        if issue.queue_cycles:
            done = self.memory.serve(issue, at)
            if issue.kind == _STORE:
                next_ = max(next_, self.memory.far - STORE_QUEUE)
                read = max(read, self.memory.near)
            elif issue.kind == _COPY:
                warp.copies = max(warp.copies, done)
        elif issue.kind == _WAIT_FOR_COPIES:
            next_ = max(next_, warp.copies)
        barriers = warp.barriers
        barriers[issue.write_barrier] = max(barriers[issue.write_barrier], done)
        barriers[issue.read_barrier] = max(barriers[issue.read_barrier], read)
        return next_

    def meet(self, at: float, age: int, warp: _Warp) -> None:
        waiting = self.arrived[warp.block]
        waiting.append((at, age, warp))
        if len(waiting) == len(self.traces):
            last = max(time for time, _, _ in waiting) + BARRIER
            for _, of, other in waiting:
                heapq.heappush(self.heap, (last, of, other))
            waiting.clear()

    def finish(self, warp: _Warp, at: float) -> None:
        last = max(at, *warp.barriers)
        self.end = max(self.end, last)
        self.left[warp.block] -= 1
        if self.left[warp.block] == 0 and self.started < self.blocks:
            self.start(last + BLOCK_START)


def replay(
    traces: list[list[Issue]], blocks: int, resident: int, device: Device, share: float
) -> Replay:
    """
    Args:
        traces: of the warps of a block.
        blocks: of the multiprocessor, one after another.
        resident: how many of them at a time.
        share: of the device's bandwidth that is the multiprocessor's.
    """
    multiprocessor = _Multiprocessor(traces, blocks, resident, _Memory(device, share))
    multiprocessor.run()
    return Replay(multiprocessor.end, multiprocessor.issued)
