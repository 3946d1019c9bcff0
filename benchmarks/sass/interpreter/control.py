"""Instructions that say what comes next: branches, barriers, calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from ..disassembly import Instruction
from .opcodes import UnknownInstructionError
from .operands import LANES, Read, predicate, word

if TYPE_CHECKING:
    from .warp import Warp

#: flow(warp, lanes that came, active ones): the address at which all of them go on, None where they
#: were sent elsewhere.
Flow = Callable[["Warp", np.ndarray, np.ndarray], "int | None"]

CONTROL: dict[str, Callable[[Instruction], Flow]] = {}


def _control(*names: str, modifiers: str = "") -> Callable:
    known = frozenset(modifiers.split())

    def add(make: Callable[[Instruction], Flow]) -> Callable[[Instruction], Flow]:
        def checked(instruction: Instruction) -> Flow:
            unknown = [name for name in instruction.modifiers if name not in known]
            if unknown:
                raise UnknownInstructionError(f"{instruction.text}: unknown modifiers {unknown}")
            return make(instruction)

        CONTROL.update(dict.fromkeys(names, checked))
        return make

    return add


def _next(i: Instruction) -> int:
    return i.address + 16


def _divide(warp: Warp, lanes: np.ndarray, taken: np.ndarray, target: int, next_: int):
    """Some to the target, the others to what is next."""
    if not taken.any():
        return next_
    if (taken == lanes).all():
        return target
    warp.send(target, taken)
    warp.send(next_, lanes & ~taken)
    return None


@_control("NOP", "WARPSYNC", "LDGDEPBAR", "DEPBAR", modifiers="ALL LE")
def go_on(i: Instruction) -> Flow:
    """What changes nothing here: copies are done when they are asked for."""
    return lambda warp, lanes, active: _next(i)


@_control("BRA", modifiers="DIV")
def bra(i: Instruction) -> Flow:
    target, next_ = int(i.operands[-1], 16), _next(i)
    if "DIV" in i.modifiers:
        return _branch_if_divided(i, target)
    conditions = [predicate(text) for text in i.operands[:-1]]

    def flow(warp, lanes, active):
        for condition in conditions:
            active = active & condition(warp)
        return _divide(warp, lanes, active, target, next_)

    return flow


def _branch_if_divided(i: Instruction, target: int) -> Flow:
    """Where lanes of the mask are elsewhere."""
    mask, bits = word(i.operands[0]), np.arange(LANES, dtype=np.uint32)

    def flow(warp, lanes, active):
        expected = mask(warp)[0] >> bits & 1 != 0
        divided = active if (expected & ~lanes).any() else np.zeros(LANES, bool)
        return _divide(warp, lanes, divided, target, _next(i))

    return flow


@_control("BRX")
def brx(i: Instruction) -> Flow:
    """To the next instruction + a register + a number."""
    register, offset = i.operands[0].split()
    read: Read = word(register)
    base = _next(i) + int(offset, 16)

    def flow(warp, lanes, active):
        targets = read(warp).astype(np.int64) + base & 0xFFFFFFFF
        for target in np.unique(targets[active]):
            warp.send(int(target), active & (targets == target))
        warp.send(_next(i), lanes & ~active)

    return flow


@_control("CALL", modifiers="REL NOINC")
def call(i: Instruction) -> Flow:
    """The address to come back to is in a register already."""
    target = int(i.operands[-1], 16)
    return lambda warp, lanes, active: _divide(warp, lanes, active, target, _next(i))


@_control("RET", modifiers="REL NODEC")
def ret(i: Instruction) -> Flow:
    read = word(i.operands[0].split()[0])

    def flow(warp, lanes, active):
        targets = read(warp)
        for target in np.unique(targets[active]):
            warp.send(int(target), active & (targets == target))
        warp.send(_next(i), lanes & ~active)

    return flow


@_control("EXIT")
def exit_(i: Instruction) -> Flow:
    def flow(warp, lanes, active):
        rest = lanes & ~active
        warp.send(_next(i), rest)
        warp.end(active)

    return flow


@_control("BSSY")
def bssy(i: Instruction) -> Flow:
    barrier = i.operands[0]

    def flow(warp, lanes, active):
        warp.part(barrier, active)
        return _next(i)

    return flow


@_control("BSYNC")
def bsync(i: Instruction) -> Flow:
    barrier = i.operands[0]

    def flow(warp, lanes, active):
        if not active.any():
            return _next(i)
        warp.send(_next(i), lanes & ~active)
        warp.meet(barrier, i.address, active)
        return None

    return flow


@_control("BREAK")
def break_(i: Instruction) -> Flow:
    barrier = i.operands[-1]
    conditions = [predicate(text) for text in i.operands[:-1]]

    def flow(warp, lanes, active):
        for condition in conditions:
            active = active & condition(warp)
        if active.any():
            warp.leave(barrier, active)
        return _next(i)

    return flow


@_control("BAR", modifiers="SYNC DEFER_BLOCKING")
def bar(i: Instruction) -> Flow:
    """Of all threads of the block."""
    if i.operands != ("0x0",):
        raise UnknownInstructionError(f"{i.text}: a barrier of some threads")

    def flow(warp, lanes, active):
        if not active.any():
            return _next(i)
        if (active != warp.alive).any():
            raise RuntimeError(f"a part of a warp comes to the barrier at {i.address:#x}")
        warp.send(_next(i), active)
        warp.is_at_barrier = True
        return None

    return flow
