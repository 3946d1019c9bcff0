"""Instructions on floating numbers. Denormal ones are kept, but by the special function unit."""

from __future__ import annotations

import numpy as np

from ..disassembly import Instruction
from .integers import COMBINATIONS, COMPARISONS, one_of
from .opcodes import Run, opcode
from .operands import (
    F32,
    F64,
    LANES,
    U32,
    U64,
    double,
    half,
    predicate,
    real,
    to_predicate,
    to_real,
    to_wide,
    to_word,
    word,
)

_SMALLEST = np.finfo(F32).tiny  # what is less is denormal


# ---- arithmetic ----------------------------------------------------------------------------------


@opcode("FADD", modifiers="RZ")
def fadd(i: Instruction) -> Run:
    """RZ: rounded towards 0."""
    write, a, b = to_real(i.operands[0]), real(i.operands[1]), real(i.operands[2])
    if not i.has("RZ"):
        return lambda warp, active: write(warp, a(warp) + b(warp), active)

    def run(warp, active):
        exact = a(warp).astype(F64) + b(warp).astype(F64)
        nearest = exact.astype(F32)
        is_beyond = np.abs(nearest.astype(F64)) > np.abs(exact)
        write(warp, np.where(is_beyond, np.nextafter(nearest, F32(0)), nearest), active)

    return run


@opcode("FMUL")
def fmul(i: Instruction) -> Run:
    write, a, b = to_real(i.operands[0]), real(i.operands[1]), real(i.operands[2])
    return lambda warp, active: write(warp, a(warp) * b(warp), active)


@opcode("FFMA", modifiers="SAT")
def ffma(i: Instruction) -> Run:
    """a b + c. The product is exact in double; the sum is rounded twice, which differs from once in
    one of 2^29 cases. SAT: cut off at 0 and 1, and 0 in place of NaN."""
    write, a, b, c = to_real(i.operands[0]), *map(real, i.operands[1:4])
    is_cut_off = i.has("SAT")

    def run(warp, active):
        value = a(warp).astype(F64) * b(warp).astype(F64) + c(warp).astype(F64)
        if is_cut_off:
            value = np.clip(np.nan_to_num(value, nan=0), 0, 1)
        write(warp, value, active)

    return run


@opcode("DADD")
def dadd(i: Instruction) -> Run:
    write, a, b = to_wide(i.operands[0]), double(i.operands[1]), double(i.operands[2])
    return lambda warp, active: write(warp, a(warp) + b(warp), active)


@opcode("DMUL", modifiers="RP")
def dmul(i: Instruction) -> Run:
    """RP: rounded up."""
    write, a, b = to_wide(i.operands[0]), double(i.operands[1]), double(i.operands[2])
    if not i.has("RP"):
        return lambda warp, active: write(warp, a(warp) * b(warp), active)

    def run(warp, active):
        x, y = a(warp), b(warp)
        nearest = x * y
        is_below = nearest.astype(np.longdouble) < x.astype(np.longdouble) * y
        write(warp, np.where(is_below, np.nextafter(nearest, np.inf), nearest), active)

    return run


@opcode("DFMA")
def dfma(i: Instruction) -> Run:
    """a b + c, rounded once more than the GPU does, in the host's longer precision."""
    write, a, b, c = to_wide(i.operands[0]), *map(double, i.operands[1:4])
    long = np.longdouble

    def run(warp, active):
        result = a(warp).astype(long) * b(warp).astype(long) + c(warp).astype(long)
        write(warp, result.astype(F64), active)

    return run


@opcode("FMNMX", modifiers="NAN")
def fmnmx(i: Instruction) -> Run:
    """The least where the predicate holds, else the largest; NAN: NaN if either is."""
    write, a, b = to_real(i.operands[0]), real(i.operands[1]), real(i.operands[2])
    least, keeps_nan = predicate(i.operands[3]), i.has("NAN")
    small, large = (np.minimum, np.maximum) if keeps_nan else (np.fmin, np.fmax)

    def run(warp, active):
        x, y = a(warp), b(warp)
        write(warp, np.where(least(warp), small(x, y), large(x, y)), active)

    return run


@opcode("HADD2", modifiers="F32")
def hadd2(i: Instruction) -> Run:
    """One half, added to 0, as float32: a conversion. Packed sums are not known."""
    if not i.has("F32") or i.operands[1] not in ("-RZ", "RZ"):
        raise ValueError("a sum of halves")
    write, a = to_real(i.operands[0]), half(i.operands[2])
    return lambda warp, active: write(warp, a(warp), active)


@opcode("HFMA2", modifiers="MMA")
def hfma2(i: Instruction) -> Run:
    """0 times 0 plus two halves: a move of a constant. Other sums of halves are not known."""
    if i.operands[1:3] != ("-RZ", "RZ"):
        raise ValueError("a sum of halves")
    write = to_word(i.operands[0])
    high, low = (int(np.float16(text).view(np.uint16)) for text in i.operands[3:5])
    value = np.full(LANES, high << 16 | low, U32)
    return lambda warp, active: write(warp, value, active)


# ---- the special function unit -------------------------------------------------------------------

_FUNCTIONS = {
    "EX2": np.exp2,
    "LG2": np.log2,
    "RCP": np.reciprocal,
    "RSQ": lambda x: np.reciprocal(np.sqrt(x)),
    "SQRT": np.sqrt,
    "TANH": np.tanh,
}


@opcode("MUFU", modifiers="EX2 LG2 RCP RSQ SQRT TANH RCP64H RSQ64H")
def mufu(i: Instruction) -> Run:
    """Approximations, here right to the last bit. Of doubles, the upper word."""
    name = i.modifiers[0]
    if name.endswith("64H"):
        function, write, a = _FUNCTIONS[name[:3]], to_word(i.operands[0]), word(i.operands[1])

        def upper(warp, active):
            x = (a(warp).astype(U64) << U64(32)).view(F64)
            write(warp, (function(x).view(U64) >> U64(32)).astype(U32), active)

        return upper
    function, write, a = _FUNCTIONS[name], to_real(i.operands[0]), real(i.operands[1])

    def run(warp, active):
        write(warp, _flushed(function(_flushed(a(warp)).astype(F64)).astype(F32)), active)

    return run


def _flushed(x: np.ndarray) -> np.ndarray:
    return np.where(np.abs(x) < _SMALLEST, np.copysign(F32(0), x), x)


# ---- comparisons ---------------------------------------------------------------------------------


def _comparison(i: Instruction):
    """compare(a, b) of a modifier: where a number is NaN it does not hold, but with U behind it
    does."""
    if i.has("NAN"):
        return lambda a, b: np.isnan(a) | np.isnan(b)
    if i.has("NUM"):
        return lambda a, b: ~(np.isnan(a) | np.isnan(b))
    name = next(name for name in i.modifiers if name.removesuffix("U") in COMPARISONS)
    compare = COMPARISONS[name.removesuffix("U")]
    if name.endswith("U"):
        return lambda a, b: compare(a, b) | np.isnan(a) | np.isnan(b)
    return lambda a, b: compare(a, b) & ~(np.isnan(a) | np.isnan(b))


_COMPARISON_MODIFIERS = "EQ NE LT LE GT GE EQU NEU LTU LEU GTU GEU NAN NUM AND OR XOR"


@opcode("FSETP", modifiers=_COMPARISON_MODIFIERS)
def fsetp(i: Instruction) -> Run:
    return _set_predicates(i, real)


@opcode("DSETP", modifiers=_COMPARISON_MODIFIERS)
def dsetp(i: Instruction) -> Run:
    return _set_predicates(i, double)


def _set_predicates(i: Instruction, read) -> Run:
    first, second = to_predicate(i.operands[0]), to_predicate(i.operands[1])
    a, b, third = read(i.operands[2]), read(i.operands[3]), predicate(i.operands[4])
    compare, combine = _comparison(i), one_of(i, COMBINATIONS)

    def run(warp, active):
        holds, with_third = compare(a(warp), b(warp)), third(warp)
        contrary = combine(~holds, with_third)
        first(warp, combine(holds, with_third), active)
        second(warp, contrary, active)

    return run


@opcode("FSET", modifiers=f"BF {_COMPARISON_MODIFIERS}")
def fset(i: Instruction) -> Run:
    """1.0 where it holds, else 0."""
    if not i.has("BF"):
        raise ValueError("FSET that gives bits")
    write, a, b = to_real(i.operands[0]), real(i.operands[1]), real(i.operands[2])
    third, compare, combine = predicate(i.operands[3]), _comparison(i), one_of(i, COMBINATIONS)

    def run(warp, active):
        write(warp, combine(compare(a(warp), b(warp)), third(warp)).astype(F32), active)

    return run


@opcode("FCHK", modifiers="DIVIDE")
def fchk(i: Instruction) -> Run:
    """Whether a / b needs the slow way: numbers so large, small or special that the reciprocal's
    error or range matters."""
    write, a, b = to_predicate(i.operands[0]), real(i.operands[1]), real(i.operands[2])

    def run(warp, active):
        write(warp, _is_rare(a(warp)) | _is_rare(b(warp)), active)

    return run


def _is_rare(x: np.ndarray) -> np.ndarray:
    exponent = (x.view(U32) >> U32(23)) & U32(255)
    return (exponent < 32) | (exponent > 222)
