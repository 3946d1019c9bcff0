"""Operands as functions: those that are read give an array of 32 lanes, those that are written take
one. Registers are bits; the same word is read as an integer or as a float.

    word, wide        32 and 64 bits, of which the latter are two registers
    real, double      the same as float32 and float64
    predicate         bool
    to_word, ...      where a result goes, of the active lanes

Uniform registers are a warp's own and are kept as 32 equal lanes, behind the others.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from .warp import Warp

LANES = 32
U32, U64, I32, I64, F32, F64 = np.uint32, np.uint64, np.int32, np.int64, np.float32, np.float64
LOW = 0xFFFFFFFF

#: Places of registers and predicates in a warp: R0 to R254, RZ, UR0 to UR62, URZ; P0 to P6, PT,
#: UP0 to UP6, UPT.
ZERO, UNIFORM, UNIFORM_ZERO, REGISTERS = 255, 256, 319, 320
TRUE, UNIFORM_PREDICATE, UNIFORM_TRUE, PREDICATES = 7, 8, 15, 16

Read = Callable[["Warp"], np.ndarray]
Write = Callable[["Warp", np.ndarray, np.ndarray], None]

_OPERAND = re.compile(
    r"(?P<minus>-?)(?P<inverse>~?)(?P<bar>\|?)"
    r"(?:(?P<uniform>U?)R(?P<register>\d+|Z)|c\[0x(?P<bank>[0-9a-f]+)\]\[0x(?P<at>[0-9a-f]+)\])"
    r"(?P<part>\.\w+)?\|?(?P<part_behind>\.\w+)?"
)
_PREDICATE = re.compile(r"(?P<inverse>!?)(?P<uniform>U?)P(?P<number>\d|T)")
_HALVES = {".H0_H0": (0, 0xFFFF), ".H1_H1": (16, 0xFFFF)}
_PARTS = {**_HALVES, **{f".B{n}": (8 * n, 0xFF) for n in range(4)}}


def constant(value: int | float, dtype=U32) -> Read:
    lanes = np.full(LANES, value, dtype)
    return lambda warp: lanes


def row(uniform: str, number: str) -> int:
    if uniform:
        return UNIFORM_ZERO if number == "Z" else UNIFORM + int(number)
    return ZERO if number == "Z" else int(number)


# ---- read ----------------------------------------------------------------------------------------


def is_negative(text: str) -> bool:
    """Whether a register or constant has a minus."""
    match = _OPERAND.fullmatch(text)
    return bool(match and match["minus"])


def word(text: str) -> Read:
    """An integer of 32 bits."""
    match = _OPERAND.fullmatch(text)
    if match is None:
        return constant(_integer(text) & LOW)
    if match["bar"]:
        raise ValueError(f"magnitude of an integer {text!r}")
    read = _bits(match)
    if match["minus"]:
        return lambda warp: (~read(warp)) + U32(1)
    if match["inverse"]:
        return lambda warp: ~read(warp)
    return read


def bits_of_real(text: str) -> Read:
    """The bits of a float32, with its sign and magnitude taken."""
    match = _OPERAND.fullmatch(text)
    if match is None:
        return constant(struct.unpack("<I", struct.pack("<f", _floating(text)))[0])
    read, minus, bar = _bits(match), match["minus"], match["bar"]
    if bar and minus:
        return lambda warp: read(warp) | U32(1 << 31)
    if bar:
        return lambda warp: read(warp) & U32(LOW >> 1)
    if minus:
        return lambda warp: read(warp) ^ U32(1 << 31)
    return read


def real(text: str) -> Read:
    read = bits_of_real(text)
    return lambda warp: read(warp).view(F32)


def half(text: str) -> Read:
    """One half of a register, R2.H1_H1, as float32."""
    match = _OPERAND.fullmatch(text)
    if match is None or not (match["part"] or match["register"] == "Z"):
        raise ValueError(f"half {text!r}")
    read, minus, bar = _bits(match), match["minus"], match["bar"]

    def number(warp: Warp) -> np.ndarray:
        value = read(warp).astype(np.uint16).view(np.float16).astype(F32)
        value = np.abs(value) if bar else value
        return -value if minus else value

    return number


def wide(text: str) -> Read:
    """An integer of 64 bits."""
    match = _OPERAND.fullmatch(text)
    if match is None:
        return constant(_integer(text) & (2**64 - 1), U64)
    if match["bar"] or match["inverse"]:
        raise ValueError(f"wide integer {text!r}")
    read = _wide_bits(match)
    return (lambda warp: (~read(warp)) + U64(1)) if match["minus"] else read


def double(text: str) -> Read:
    match = _OPERAND.fullmatch(text)
    if match is None:
        # An immediate holds the upper half, in words or in bits.
        is_hex = text.lstrip("-").startswith("0x")
        number = int(text, 16) << 32 if is_hex else 0
        value = struct.unpack("<d", struct.pack("<Q", number))[0] if is_hex else _floating(text)
        return constant(value, F64)
    read, minus, bar = _wide_bits(match), match["minus"], match["bar"]

    def number_of(warp: Warp) -> np.ndarray:
        value = read(warp).view(F64)
        value = np.abs(value) if bar else value
        return -value if minus else value

    return number_of


def predicate(text: str) -> Read:
    match = _PREDICATE.fullmatch(text)
    if match is None:
        raise ValueError(f"predicate {text!r}")
    at = _predicate_row(match)
    if match["inverse"]:
        return lambda warp: ~warp.predicates[at]
    return lambda warp: warp.predicates[at]


def is_predicate(text: str) -> bool:
    return _PREDICATE.fullmatch(text) is not None


def _bits(match: re.Match) -> Read:
    if match["bank"] is not None:
        bank, at = int(match["bank"], 16), int(match["at"], 16)
        read = lambda warp: warp.block.constant(bank, at)  # noqa: E731
    else:
        register = row(match["uniform"], match["register"])
        read = lambda warp: warp.registers[register]  # noqa: E731
    part = match["part"] or match["part_behind"]
    if part is None:
        return read
    shift, mask = _PARTS[part]
    return lambda warp: read(warp) >> U32(shift) & U32(mask)


def _wide_bits(match: re.Match) -> Read:
    if match["part"] not in (None, ".64"):
        raise ValueError(f"part of 64 bits {match[0]!r}")
    if match["bank"] is not None:
        bank, at = int(match["bank"], 16), int(match["at"], 16)
        return lambda warp: _joined(
            warp.block.constant(bank, at), warp.block.constant(bank, at + 4)
        )
    low = row(match["uniform"], match["register"])
    if match["register"] == "Z":
        return constant(0, U64)
    return lambda warp: _joined(warp.registers[low], warp.registers[low + 1])


def _joined(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    return low.astype(U64) | high.astype(U64) << U64(32)


def _integer(text: str) -> int:
    if re.fullmatch(r"-?0x[0-9a-f]+", text):
        return int(text, 16)
    if re.fullmatch(r"-?\d+", text):
        return int(text)
    # Where an integer instruction moves a float, it is printed as one.
    return struct.unpack("<I", struct.pack("<f", _floating(text)))[0]


def _floating(text: str) -> float:
    if re.fullmatch(r"[+-]?[QS]NAN", text):
        return float("nan")
    return float(text.replace("INF", "inf"))


def _predicate_row(match: re.Match) -> int:
    if match["number"] == "T":
        return UNIFORM_TRUE if match["uniform"] else TRUE
    return (UNIFORM_PREDICATE if match["uniform"] else 0) + int(match["number"])


# ---- write ---------------------------------------------------------------------------------------


def _nowhere(warp: Warp, values: np.ndarray, active: np.ndarray) -> None:
    pass


def to_word(text: str) -> Write:
    match = _OPERAND.fullmatch(text)
    if match is None or match["register"] is None:
        raise ValueError(f"result {text!r}")
    if match["register"] == "Z":
        return _nowhere
    return _to_row(row(match["uniform"], match["register"]))


def _to_row(at: int) -> Write:
    if at >= UNIFORM:

        def write_all(warp: Warp, values: np.ndarray, active: np.ndarray) -> None:
            warp.registers[at] = values[active][0]

        return write_all

    def write(warp: Warp, values: np.ndarray, active: np.ndarray) -> None:
        np.copyto(warp.registers[at], values, where=active)

    return write


def to_real(text: str) -> Write:
    write = to_word(text)
    return lambda warp, values, active: write(
        warp, values.astype(F32, copy=False).view(U32), active
    )


def to_wide(text: str) -> Write:
    """Of 64 bits, whatever they are."""
    match = _OPERAND.fullmatch(text)
    if match is None or match["register"] is None:
        raise ValueError(f"result {text!r}")
    if match["register"] == "Z":
        return _nowhere
    first = row(match["uniform"], match["register"])
    low, high = _to_row(first), _to_row(first + 1)

    def write(warp: Warp, values: np.ndarray, active: np.ndarray) -> None:
        bits = values.view(U64)
        low(warp, (bits & U64(LOW)).astype(U32), active)
        high(warp, (bits >> U64(32)).astype(U32), active)

    return write


def to_predicate(text: str) -> Write:
    match = _PREDICATE.fullmatch(text)
    if match is None or match["inverse"]:
        raise ValueError(f"result {text!r}")
    if match["number"] == "T":
        return _nowhere
    at = _predicate_row(match)
    if match["uniform"]:

        def write_all(warp: Warp, values: np.ndarray, active: np.ndarray) -> None:
            warp.predicates[at] = values[active][0]

        return write_all

    def write(warp: Warp, values: np.ndarray, active: np.ndarray) -> None:
        np.copyto(warp.predicates[at], values, where=active)

    return write
