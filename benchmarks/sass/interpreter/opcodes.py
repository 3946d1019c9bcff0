"""The table of opcodes: each has a function that takes an instruction, and returns what it does to
the active lanes of a warp."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ..disassembly import Instruction

if TYPE_CHECKING:
    import numpy as np

    from .warp import Warp

#: run(warp, active): active is a mask of 32 lanes.
Run = Callable[["Warp", "np.ndarray"], None]
Decode = Callable[[Instruction], Run]

_TABLE: dict[str, tuple[Decode, frozenset[str]]] = {}


class UnknownInstructionError(NotImplementedError):
    """An opcode, a modifier or an operand that the interpreter does not know."""


def opcode(*names: str, modifiers: str = "") -> Callable[[Decode], Decode]:
    """Puts a function into the table.

    Args:
        modifiers: those that it knows, with spaces between.
    """

    def add(decode: Decode) -> Decode:
        for name in names:
            assert name not in _TABLE, name
            _TABLE[name] = decode, frozenset(modifiers.split())
        return decode

    return add


def decode(instruction: Instruction) -> Run:
    """What an instruction does.

    Raises:
        UnknownInstructionError: where that is not known.
    """
    entry = _TABLE.get(instruction.opcode)
    if entry is None:
        raise UnknownInstructionError(f"{instruction.text}: unknown opcode {instruction.opcode}")
    function, known = entry
    unknown = [modifier for modifier in instruction.modifiers if modifier not in known]
    if unknown:
        raise UnknownInstructionError(f"{instruction.text}: unknown modifiers {unknown}")
    try:
        return function(instruction)
    except (ValueError, IndexError, KeyError, TypeError) as error:
        raise UnknownInstructionError(f"{instruction.text}: {error}") from error
