"""Instructions that reach memory, constants, or other lanes."""

from __future__ import annotations

import re

import numpy as np

from ..disassembly import Instruction
from .opcodes import Run, opcode
from .operands import (
    I32,
    I64,
    LANES,
    LOW,
    U32,
    U64,
    Read,
    is_predicate,
    predicate,
    row,
    to_predicate,
    to_wide,
    to_word,
    wide,
    word,
)
from .trace import Access

_SIZES = {"U8": 1, "S8": 1, "U16": 2, "S16": 2, "64": 8, "128": 16}
_SECTOR, _BANKS = 32, 32
_SIZE_MODIFIERS = " ".join(_SIZES)


def size_of(i: Instruction) -> int:
    """Bytes of a lane."""
    return next((_SIZES[name] for name in i.modifiers if name in _SIZES), 4)


# ---- addresses -----------------------------------------------------------------------------------

_TERM = re.compile(r"(U?)R(\d+|Z)(\.64|\.X4|\.X8|\.X16)?")


def _address(text: str) -> Read:
    """[R2+UR4+0x10] of 32 bits; behind a descriptor, or with R2.64, of 64."""
    inner = re.search(r"\[([^\[\]]*)\]$", text)
    if inner is None:
        raise ValueError(f"address {text!r}")
    is_wide = ".64" in inner[1] or text.startswith("desc")
    offset, reads = 0, []
    for term in inner[1].split("+"):
        match = _TERM.fullmatch(term)
        if match is None:
            offset += int(term, 16)
        elif match[2] != "Z":
            reads.append(_term(term, match, is_wide))
    mask = U64(2**64 - 1 if is_wide else LOW)
    start = np.full(LANES, offset & int(mask), U64)

    def read(warp):
        address = start
        for term in reads:
            address = address + term(warp)
        return address & mask

    return read


def _term(text: str, match: re.Match, is_wide: bool) -> Read:
    register = f"{match[1]}R{match[2]}"
    if match[3] == ".64" or (match[1] and is_wide):
        return wide(register)
    scale = U64(int(match[3][2:]) if match[3] else 1)
    read = word(register)
    return lambda warp: read(warp).astype(U64) * scale


def _note_global(warp, addresses: np.ndarray, size: int) -> None:
    block = warp.block
    if not block.with_trace:
        return
    first = addresses // _SECTOR
    sectors = set(first.tolist())
    new = sectors - block.touched
    block.touched |= new
    warp.access = Access(int(addresses[0]), addresses.size * size, len(sectors), len(new))


def _note_shared(warp, addresses: np.ndarray, size: int) -> None:
    """A bank gives one word at a time. Of 8 and 16 bytes, half and a quarter of the lanes are
    served together."""
    if not warp.block.with_trace:
        return
    words = max(size // 4, 1)
    together, times = LANES // words, 0
    for start in range(0, addresses.size, together):
        of_some = addresses[start : start + together] // 4
        distinct = {int(word) + k for word in of_some for k in range(words)}
        times += int(np.bincount([word % _BANKS for word in distinct]).max())
    warp.access = Access(int(addresses[0]), addresses.size * size, times, 0)


# ---- loads and stores ----------------------------------------------------------------------------

_GLOBAL_MODIFIERS = f"E CONSTANT {_SIZE_MODIFIERS}"
#: How accesses are noted. Those to local memory are not: there are few.
_NOTES = {"G": _note_global, "S": _note_shared, "L": lambda warp, addresses, size: None}


def _memory_of(warp, space: str):
    if space == "L":
        return warp.local
    return warp.block.memory if space == "G" else warp.block.shared


def _places(warp, space: str, addresses: np.ndarray, active: np.ndarray, size: int) -> np.ndarray:
    return warp.local.places(addresses, active, size) if space == "L" else addresses


@opcode("LDG", "LDS", "LDL", modifiers=f"LU {_GLOBAL_MODIFIERS}")
def load(i: Instruction) -> Run:
    space, size, address = i.opcode[-1], size_of(i), _address(i.operands[1])
    note, count = _NOTES[space], max(size // 4, 1)
    first, sign = _register(i.operands[0]), _sign_shift(i)

    def run(warp, active):
        addresses = _places(warp, space, address(warp)[active], active, size)
        words = _memory_of(warp, space).load(addresses, size)
        note(warp, addresses, size)
        if first is None:
            return
        for k in range(count):
            value = words[k]
            if sign is not None:
                value = (value.view(I32) << sign >> sign).view(U32)
            warp.registers[first + k, active] = value

    return run


def _register(text: str) -> int | None:
    """The row of the first register; None where the result is dropped."""
    match = _TERM.fullmatch(text)
    if match is None:
        raise ValueError(f"register {text!r}")
    return None if match[2] == "Z" else row(match[1], match[2])


def _sign_shift(i: Instruction) -> np.int32 | None:
    return I32(24) if i.has("S8") else I32(16) if i.has("S16") else None


@opcode("STG", "STS", "STL", modifiers=_GLOBAL_MODIFIERS)
def store(i: Instruction) -> Run:
    space, size, address = i.opcode[-1], size_of(i), _address(i.operands[0])
    note, count = _NOTES[space], max(size // 4, 1)
    first = _register(i.operands[1])

    def run(warp, active):
        addresses = _places(warp, space, address(warp)[active], active, size)
        lanes = np.count_nonzero(active)
        words = [
            np.zeros(lanes, U32) if first is None else warp.registers[first + k, active]
            for k in range(count)
        ]
        _memory_of(warp, space).store(addresses, size, words)
        note(warp, addresses, size)

    return run


@opcode("LDGSTS", modifiers="E BYPASS 128")
def load_to_shared(i: Instruction) -> Run:
    """From global to shared memory; at once, where a GPU takes its time."""
    to, from_, size = _address(i.operands[0]), _address(i.operands[1]), size_of(i)

    def run(warp, active):
        source = from_(warp)[active]
        words = warp.block.memory.load(source, size)
        warp.block.shared.store(to(warp)[active], size, words)
        _note_global(warp, source, size)

    return run


# ---- constants -----------------------------------------------------------------------------------


@opcode("LDC", "ULDC", modifiers=_SIZE_MODIFIERS)
def load_constant(i: Instruction) -> Run:
    bank_text, inside = re.fullmatch(r"c\[0x([0-9a-f]+)\](\[.+\])", i.operands[1]).groups()
    bank, address, size = int(bank_text, 16), _address(inside), size_of(i)
    is_signed = i.has("S8", "S16")
    write = to_wide(i.operands[0]) if size == 8 else to_word(i.operands[0])
    if size == 16:
        raise ValueError("128 bits of constants")
    literal = re.fullmatch(r"\[0x([0-9a-f]+)\]", inside)
    if literal and size in (4, 8):
        low = int(literal[1], 16)

        def run_literal(warp, active):
            constant = warp.block.constant
            value = constant(bank, low)
            if size == 8:
                value = value.astype(U64) | constant(bank, low + 4).astype(U64) << U64(32)
            write(warp, value, active)

        return run_literal

    def run(warp, active):
        data, values = warp.block.bank(bank), np.zeros(LANES, U64)
        addresses = address(warp)
        for at in np.unique(addresses[active]).tolist():
            number = int.from_bytes(data[at : at + size], "little", signed=is_signed)
            values[addresses == at] = number & (2**64 - 1)
        write(warp, values if size == 8 else values.astype(U32), active)

    return run


# ---- other lanes ---------------------------------------------------------------------------------


@opcode("SHFL", modifiers="BFLY IDX DOWN UP")
def shfl(i: Instruction) -> Run:
    """As PTX has shfl.sync: c holds a mask of segments and the last lane of one."""
    in_range, write = to_predicate(i.operands[0]), to_word(i.operands[1])
    value, b, c = map(word, i.operands[2:5])
    way = i.modifiers[0]
    lanes = np.arange(LANES)

    def run(warp, active):
        by = (b(warp) & U32(31)).astype(I64)
        clamp = (c(warp) & U32(31)).astype(I64)
        segment = (c(warp) >> U32(8) & U32(31)).astype(I64)
        low = lanes & segment
        last = low | clamp & ~segment
        if way == "UP":
            source = lanes - by
            is_inside = source >= last
        else:
            source = {"BFLY": lanes ^ by, "DOWN": lanes + by, "IDX": low | by & ~segment}[way]
            is_inside = source <= last
        source = np.where(is_inside, source, lanes)
        if not active[source[active]].all():
            raise RuntimeError(f"{i.text}: from a lane that is not active")
        write(warp, value(warp)[source], active)
        in_range(warp, is_inside, active)

    return run


@opcode("VOTE", "VOTEU", modifiers="ALL ANY")
def vote(i: Instruction) -> Run:
    """Whether it holds in all or any of the active lanes, and a bit for each where it does."""
    results = [text for text in i.operands[:-1] if is_predicate(text)]
    words = [text for text in i.operands[:-1] if not is_predicate(text)]
    to_flags, to_words = [to_predicate(text) for text in results], [to_word(text) for text in words]
    read, is_all = predicate(i.operands[-1]), i.has("ALL")

    def run(warp, active):
        holds = read(warp) & active
        flag = (holds == active).all() if is_all else holds.any()
        for write in to_flags:
            write(warp, np.full(LANES, flag), active)
        for write in to_words:
            write(warp, np.full(LANES, _bits(holds), U32), active)

    return run


def _bits(lanes: np.ndarray) -> int:
    return int(np.packbits(lanes, bitorder="little").view("<u4")[0])


@opcode("MATCH", modifiers="ANY")
def match(i: Instruction) -> Run:
    """Of each lane, a bit for every active lane with the same number."""
    write, a = to_word(i.operands[0]), word(i.operands[1])

    def run(warp, active):
        values = a(warp)
        equal = (values[:, None] == values[None, :]) & active[None, :]
        bits = np.packbits(equal, axis=1, bitorder="little").view("<u4").reshape(LANES)
        write(warp, bits.astype(U32), active)

    return run


@opcode("REDUX", modifiers="OR SUM MIN MAX S32")
def redux(i: Instruction) -> Run:
    """Over the active lanes."""
    write, a = to_word(i.operands[0]), word(i.operands[1])
    name = next((name for name in i.modifiers if name != "S32"), "SUM")
    reduce_ = {
        "OR": np.bitwise_or.reduce,
        "SUM": lambda values: np.add.reduce(values, dtype=values.dtype),
        "MIN": np.minimum.reduce,
        "MAX": np.maximum.reduce,
    }[name]

    def run(warp, active):
        values = a(warp)[active]
        values = values.view(I32) if i.has("S32") else values
        write(warp, np.full(LANES, reduce_(values)).view(U32), active)

    return run
