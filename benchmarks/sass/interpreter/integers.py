"""Instructions on integers, bits and predicates."""

from __future__ import annotations

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
    bits_of_real,
    constant,
    is_negative,
    is_predicate,
    predicate,
    to_predicate,
    to_wide,
    to_word,
    wide,
    word,
)

COMPARISONS = {
    "EQ": np.equal,
    "NE": np.not_equal,
    "LT": np.less,
    "LE": np.less_equal,
    "GT": np.greater,
    "GE": np.greater_equal,
}
COMBINATIONS = {"AND": np.logical_and, "OR": np.logical_or, "XOR": np.logical_xor}


def one_of(instruction: Instruction, table: dict):
    """What a table has for the first modifier that it has."""
    return next(table[name] for name in instruction.modifiers if name in table)


def signed(values: np.ndarray) -> np.ndarray:
    return values.view(I32)


# ---- sums and products ---------------------------------------------------------------------------


@opcode("IADD3", "UIADD3", modifiers="X")
def iadd3(i: Instruction) -> Run:
    """a + b + c, with two carries out, and with X two carries in."""
    write, rest = to_word(i.operands[0]), list(i.operands[1:])
    carries = []
    while is_predicate(rest[0]):
        carries.append(to_predicate(rest.pop(0)))
    terms, carried, added = rest[:3], [predicate(text) for text in rest[3:]], 0
    if carries and not i.has("X"):
        # -x is ~x + 1: a carry counts what is added beyond 32 bits.
        added = sum(is_negative(text) for text in terms)
        terms = [text.replace("-", "~", 1) if is_negative(text) else text for text in terms]
    reads = [word(text) for text in terms]
    if not carries and not carried:
        a, b, c = reads
        return lambda warp, active: write(warp, a(warp) + b(warp) + c(warp), active)

    def run(warp, active):
        total = np.full(LANES, added, U64)
        for read in (*reads, *carried):
            total += read(warp).astype(U64)
        high = total >> U64(32)
        write(warp, total.astype(U32), active)
        for n, carry in enumerate(carries):
            carry(warp, high > U64(n), active)

    return run


@opcode("VIADD")
def viadd(i: Instruction) -> Run:
    write, a, b = to_word(i.operands[0]), word(i.operands[1]), word(i.operands[2])
    return lambda warp, active: write(warp, a(warp) + b(warp), active)


@opcode("IMAD", "UIMAD", modifiers="MOV U32 SHL IADD X WIDE HI")
def imad(i: Instruction) -> Run:
    """a b + c, of which WIDE gives 64 bits, and HI the upper half of them."""
    if i.has("WIDE"):
        return _imad_wide(i)
    write, a, b = to_word(i.operands[0]), word(i.operands[1]), word(i.operands[2])
    if i.has("HI"):
        product, c = _product(a, b, i), wide(i.operands[3])

        def high(warp, active):
            write(warp, (product(warp) + c(warp) >> U64(32)).astype(U32), active)

        return high
    c = word(i.operands[3])
    if i.has("X"):
        carry = predicate(i.operands[4])
        return lambda warp, active: write(
            warp, a(warp) * b(warp) + c(warp) + carry(warp).astype(U32), active
        )
    if i.operands[1] in ("RZ", "URZ"):
        return lambda warp, active: write(warp, c(warp), active)
    return lambda warp, active: write(warp, a(warp) * b(warp) + c(warp), active)


def _product(a: Read, b: Read, i: Instruction) -> Read:
    if i.has("U32"):
        return lambda warp: a(warp).astype(U64) * b(warp).astype(U64)
    return lambda warp: (signed(a(warp)).astype(I64) * signed(b(warp)).astype(I64)).view(U64)


def _imad_wide(i: Instruction) -> Run:
    write, rest = to_wide(i.operands[0]), list(i.operands[1:])
    carry_out = to_predicate(rest.pop(0)) if is_predicate(rest[0]) else None
    product, c = _product(word(rest[0]), word(rest[1]), i), wide(rest[2])
    carry_in = predicate(rest[3]) if i.has("X") else constant(0, U64)

    def run(warp, active):
        first = product(warp)
        total = first + c(warp)
        result = total + carry_in(warp).astype(U64)
        write(warp, result, active)
        if carry_out is not None:
            carry_out(warp, (total < first) | (result < total), active)

    return run


@opcode("LEA", "ULEA", modifiers="HI X SX32")
def lea(i: Instruction) -> Run:
    """(a << n) + b; HI: the upper word of a's 64 bits, shifted, + b."""
    write, rest = to_word(i.operands[0]), list(i.operands[1:])
    carry_out = to_predicate(rest.pop(0)) if is_predicate(rest[0]) else None
    a, b = word(rest[0]), word(rest[1])
    if not i.has("HI"):
        shift = U32(int(rest[2], 16))
        shifted = lambda warp: a(warp) << shift  # noqa: E731
        rest = rest[3:]
    elif i.has("SX32"):
        shift = U64(int(rest[2], 16))
        shifted = lambda warp: (  # noqa: E731
            (signed(a(warp)).astype(I64).view(U64) << shift) >> U64(32)
        ).astype(U32)
        rest = rest[3:]
    else:
        high, shift = word(rest[2]), U64(int(rest[3], 16))
        shifted = lambda warp: (  # noqa: E731
            ((a(warp).astype(U64) | high(warp).astype(U64) << U64(32)) << shift) >> U64(32)
        ).astype(U32)
        rest = rest[4:]
    carry_in = predicate(rest[0]) if i.has("X") else constant(0)

    def run(warp, active):
        total = shifted(warp).astype(U64) + b(warp).astype(U64) + carry_in(warp).astype(U64)
        write(warp, total.astype(U32), active)
        if carry_out is not None:
            carry_out(warp, total >> U64(32) != 0, active)

    return run


@opcode("IABS")
def iabs(i: Instruction) -> Run:
    write, a = to_word(i.operands[0]), word(i.operands[1])
    return lambda warp, active: write(warp, np.abs(signed(a(warp))).view(U32), active)


@opcode("VIMNMX", "VIMNMX3", "VIADDMNMX", modifiers="U32 U16x2")
def vimnmx(i: Instruction) -> Run:
    """The least of the numbers where the predicate holds, else the largest; with ADD, of the sum of
    the first two and the third."""
    write, least = to_word(i.operands[0]), predicate(i.operands[-1])
    reads = [word(text) for text in i.operands[1:-1]]
    adds = i.opcode == "VIADDMNMX"
    dtype = U32 if i.has("U32") else np.uint16 if i.has("U16x2") else I32

    def run(warp, active):
        values = [read(warp) for read in reads]
        if adds:
            values = [values[0] + values[1], *values[2:]]
        values = [value.view(dtype) for value in values]
        small = np.minimum.reduce(values).view(U32)
        write(warp, np.where(least(warp), small, np.maximum.reduce(values).view(U32)), active)

    return run


# ---- bits ----------------------------------------------------------------------------------------


@opcode("SHF", "USHF", modifiers="L R U32 S32 U64 S64 HI W")
def shf(i: Instruction) -> Run:
    """Shifts 64 bits, of which the result is one word: HI the upper one."""
    write, low, count, high = to_word(i.operands[0]), *map(word, i.operands[1:4])
    most = U64(64 if i.has("U64", "S64") else 32)
    is_left, is_signed, takes_high = i.has("L"), i.has("S32", "S64"), i.has("HI")
    wraps = i.has("W")

    def run(warp, active):
        value = low(warp).astype(U64) | high(warp).astype(U64) << U64(32)
        n = count(warp).astype(U64)
        n = n % most if wraps else np.minimum(n, most)
        by = np.minimum(n, U64(63))
        if is_left:
            value = np.where(n > by, U64(0), value << by)
        elif is_signed:
            value = (value.view(I64) >> by.astype(I64)).view(U64)
        else:
            value = np.where(n > by, U64(0), value >> by)
        write(warp, (value >> U64(32) if takes_high else value).astype(U32), active)

    return run


@opcode("LOP3", "ULOP3", modifiers="LUT")
def lop3(i: Instruction) -> Run:
    """Any function of three bits, by its table; and whether the result is not 0."""
    rest = list(i.operands)
    is_any = to_predicate(rest.pop(0)) if is_predicate(rest[0]) else None
    write, function = to_word(rest[0]), _of_bits(int(rest[4], 16))
    a, b, c = map(word, rest[1:4])
    or_else = predicate(rest[5])

    def run(warp, active):
        result = function(a(warp), b(warp), c(warp))
        write(warp, result, active)
        if is_any is not None:
            is_any(warp, (result != 0) | or_else(warp), active)

    return run


def _of_bits(table: int):
    """The function whose value of the bits a, b and c is bit 4 a + 2 b + c of the table."""
    usual = {0xC0: lambda a, b, c: a & b, 0xFC: lambda a, b, c: a | b, 0x3C: lambda a, b, c: a ^ b}
    if table in usual:
        return usual[table]

    def function(a, b, c):
        result = np.zeros(LANES, a.dtype)
        for n in range(8):
            if table >> n & 1:
                result |= (a if n & 4 else ~a) & (b if n & 2 else ~b) & (c if n & 1 else ~c)
        return result

    return function


@opcode("PLOP3", "UPLOP3", modifiers="LUT")
def plop3(i: Instruction) -> Run:
    first, second = to_predicate(i.operands[0]), to_predicate(i.operands[1])
    a, b, c = map(predicate, i.operands[2:5])
    functions = [_of_bits(int(text, 16)) for text in i.operands[5:7]]

    def run(warp, active):
        bits = a(warp), b(warp), c(warp)
        results = [function(*bits) for function in functions]
        first(warp, results[0], active)
        second(warp, results[1], active)

    return run


@opcode("PRMT", "UPRMT")
def prmt(i: Instruction) -> Run:
    """Four of the eight bytes of a and b, or their signs."""
    write, a, selector, b = to_word(i.operands[0]), *map(word, i.operands[1:4])

    def run(warp, active):
        both = a(warp).astype(U64) | b(warp).astype(U64) << U64(32)
        selectors, result = selector(warp), np.zeros(LANES, U32)
        for n in range(4):
            chosen = selectors >> U32(4 * n) & U32(15)
            byte = (both >> ((chosen & U32(7)).astype(U64) * U64(8)) & U64(255)).astype(U32)
            sign = np.where(byte & U32(128), U32(255), U32(0))
            result |= np.where(chosen & U32(8), sign, byte) << U32(8 * n)
        write(warp, result, active)

    return run


@opcode("SGXT", modifiers="U32")
def sgxt(i: Instruction) -> Run:
    """The lowest bits, extended by their sign or by 0."""
    write, a, bits = to_word(i.operands[0]), word(i.operands[1]), int(i.operands[2], 16)
    left = U32(32 - bits)
    if i.has("U32"):
        return lambda warp, active: write(warp, (a(warp) << left) >> left, active)
    return lambda warp, active: write(
        warp, (signed(a(warp) << left) >> left.astype(I32)).view(U32), active
    )


@opcode("FLO", "UFLO", modifiers="U32 SH")
def flo(i: Instruction) -> Run:
    """The position of the highest 1, or with SH how far it is from the top; -1 of 0."""
    write, a, from_top = to_word(i.operands[0]), word(i.operands[1]), i.has("SH")
    if not i.has("U32"):
        raise ValueError("FLO of signed integers")

    def run(warp, active):
        value = a(warp)
        position = np.frexp(value.astype(np.float64))[1] - 1
        position = 31 - position if from_top else position
        write(warp, np.where(value == 0, U32(LOW), position.astype(U32)), active)

    return run


@opcode("POPC", "UPOPC")
def popc(i: Instruction) -> Run:
    write, a = to_word(i.operands[0]), word(i.operands[1])

    def run(warp, active):
        bits = np.unpackbits(a(warp).view(np.uint8)).reshape(LANES, 32)
        write(warp, bits.sum(axis=1).astype(U32), active)

    return run


@opcode("BREV", "UBREV")
def brev(i: Instruction) -> Run:
    write, a = to_word(i.operands[0]), word(i.operands[1])

    def run(warp, active):
        bits = np.unpackbits(a(warp)[:, None].view(np.uint8), axis=1, bitorder="little")
        write(warp, np.packbits(bits, axis=1).view(">u4").astype(U32).reshape(LANES), active)

    return run


# ---- comparisons, selections, moves --------------------------------------------------------------


@opcode("ISETP", "UISETP", modifiers="EQ NE LT LE GT GE AND OR XOR U32 EX")
def isetp(i: Instruction) -> Run:
    """Two predicates: the comparison and its contrary, each combined with a third. EX: of the upper
    words, where the lower ones were compared before."""
    first, second = to_predicate(i.operands[0]), to_predicate(i.operands[1])
    a, b, third = word(i.operands[2]), word(i.operands[3]), predicate(i.operands[4])
    compare, combine = one_of(i, COMPARISONS), one_of(i, COMBINATIONS)
    of = (lambda values: values) if i.has("U32") else signed
    lower = predicate(i.operands[5]) if i.has("EX") else None

    def run(warp, active):
        x, y = of(a(warp)), of(b(warp))
        if lower is None:
            holds = compare(x, y)
        elif compare is np.not_equal:
            holds = (x != y) | lower(warp)
        elif compare is np.equal:
            holds = (x == y) & lower(warp)
        else:
            holds = np.where(x == y, lower(warp), compare(x, y))
        with_third = third(warp)
        contrary = combine(~holds, with_third)
        first(warp, combine(holds, with_third), active)
        second(warp, contrary, active)

    return run


@opcode("SEL", "USEL")
def sel(i: Instruction) -> Run:
    return _select(i, word)


@opcode("FSEL")
def fsel(i: Instruction) -> Run:
    return _select(i, bits_of_real)


def _select(i: Instruction, read) -> Run:
    write, a, b = to_word(i.operands[0]), read(i.operands[1]), read(i.operands[2])
    which = predicate(i.operands[3])
    return lambda warp, active: write(warp, np.where(which(warp), a(warp), b(warp)), active)


@opcode("MOV", "UMOV")
def mov(i: Instruction) -> Run:
    write, a = to_word(i.operands[0]), word(i.operands[1])
    return lambda warp, active: write(warp, a(warp), active)


@opcode("CS2R", modifiers="32")
def cs2r(i: Instruction) -> Run:
    """A special register: of those the constant 0 alone is known."""
    if i.operands[1] != "SRZ":
        raise ValueError(f"special register {i.operands[1]}")
    if i.has("32"):
        write, zero = to_word(i.operands[0]), np.zeros(LANES, U32)
    else:
        write, zero = to_wide(i.operands[0]), np.zeros(LANES, U64)
    return lambda warp, active: write(warp, zero, active)


@opcode("S2R", "S2UR")
def s2r(i: Instruction) -> Run:
    write, name = to_word(i.operands[0]), i.operands[1]
    if name not in ("SR_TID.X", "SR_CTAID.X", "SR_LANEID", "SR_CgaCtaId"):
        raise ValueError(f"special register {name}")
    return lambda warp, active: write(warp, warp.special[name], active)


@opcode("R2UR")
def r2ur(i: Instruction) -> Run:
    """To a uniform register."""
    rest = [text for text in i.operands if not is_predicate(text)]
    write, a = to_word(rest[0]), word(rest[1])
    return lambda warp, active: write(warp, a(warp), active)


@opcode("P2R")
def p2r(i: Instruction) -> Run:
    """Predicates as bits of a word."""
    write, a, mask = to_word(i.operands[0]), word(i.operands[2]), int(i.operands[3], 16)

    def run(warp, active):
        value = a(warp) & U32(~mask & LOW)
        for n in range(7):
            if mask >> n & 1:
                value = value | warp.predicates[n].astype(U32) << U32(n)
        write(warp, value, active)

    return run


@opcode("R2P")
def r2p(i: Instruction) -> Run:
    a, mask = word(i.operands[1]), int(i.operands[2], 16)

    def run(warp, active):
        value = a(warp)
        for n in range(7):
            if mask >> n & 1:
                np.copyto(warp.predicates[n], value >> U32(n) & U32(1) != 0, where=active)

    return run
