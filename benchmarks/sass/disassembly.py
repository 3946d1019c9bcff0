"""Machine code as `cuobjdump --dump-sass` prints it, read: instructions with their control codes.

A line of it, with the encoding of 128 bits, of which the second half stands on the next line:

    /*0070*/  @P0 IADD3 R2, P1, -R3, c[0x0][0x210], RZ ;   /* 0x8000... */
                                                           /* 0x000fc... */

The upper 23 bits are not printed in words: how many cycles the warp waits before its next
instruction, which of six barriers the instruction sets when it has written its result and when it
has read its operands, and for which of them it waits (Jia et al., "Dissecting the NVIDIA Volta GPU
Architecture via Microbenchmarking", 2018, section 2.1; the same up to now).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

#: In place of a barrier's number.
NO_BARRIER = 7


@dataclass(frozen=True, slots=True)
class Instruction:
    address: int
    text: str
    predicate: str | None
    """as P0 or !UP1; None: it is always executed"""
    opcode: str
    modifiers: tuple[str, ...]
    """behind the opcode's dots"""
    operands: tuple[str, ...]
    stall: int
    """cycles before the next instruction of the warp"""
    write_barrier: int
    read_barrier: int
    wait_mask: int
    """bits of the barriers that are waited for first"""

    def has(self, *modifiers: str) -> bool:
        return any(modifier in self.modifiers for modifier in modifiers)


#: By address.
Code = dict[int, Instruction]

_FUNCTION = re.compile(r"^\s*Function : (\S+)")
_FIRST = re.compile(r"^\s+/\*([0-9a-f]{4,})\*/\s+(.*?)\s*;\s*/\* 0x([0-9a-f]{16}) \*/")
_SECOND = re.compile(r"^\s+/\* 0x([0-9a-f]{16}) \*/")
_CONTROL_SHIFT = 41  # of the upper 64 bits


def parse(lines: Iterable[str]) -> dict[str, Code]:
    """The functions by their mangled names."""
    functions: dict[str, Code] = {}
    code: Code = {}
    first = None
    for line in lines:
        if match := _FUNCTION.match(line):
            code = functions[match[1]] = {}
        elif match := _FIRST.match(line):
            first = match
        elif (match := _SECOND.match(line)) and first is not None:
            address = int(first[1], 16)
            code[address] = _instruction(address, first[2], int(match[1], 16) >> _CONTROL_SHIFT)
            first = None
    return functions


def _instruction(address: int, text: str, control: int) -> Instruction:
    predicate, rest = None, text
    if text.startswith("@"):
        predicate, rest = text[1:].split(None, 1)
    name, _, operands = rest.partition(" ")
    opcode, *modifiers = name.split(".")
    return Instruction(
        address=address,
        text=text,
        predicate=predicate,
        opcode=opcode,
        modifiers=tuple(modifiers),
        operands=tuple(split(operands)),
        stall=control & 15,
        write_barrier=control >> 5 & 7,
        read_barrier=control >> 8 & 7,
        wait_mask=control >> 11 & 63,
    )


def split(operands: str) -> list[str]:
    """At commas outside of brackets; `.reuse`, which keeps a register in a cache, changes nothing
    of what is computed."""
    found = re.split(r",\s*(?![^\[]*\])", operands.replace(".reuse", "").strip())
    return [operand.strip() for operand in found if operand.strip()]
