"""Instructions that convert numbers."""

from __future__ import annotations

import numpy as np

from ..disassembly import Instruction
from .integers import signed
from .opcodes import Run, opcode
from .operands import (
    F32,
    F64,
    I64,
    U32,
    double,
    real,
    to_real,
    to_wide,
    to_word,
    wide,
    word,
)


@opcode("F2F", modifiers="F32 F64")
def f2f(i: Instruction) -> Run:
    """To the first precision from the second."""
    if i.modifiers == ("F64", "F32"):
        write, a = to_wide(i.operands[0]), real(i.operands[1])
        return lambda warp, active: write(warp, a(warp).astype(F64), active)
    if i.modifiers == ("F32", "F64"):
        write, a = to_real(i.operands[0]), double(i.operands[1])
        return lambda warp, active: write(warp, a(warp).astype(F32), active)
    raise ValueError(f"conversion {i.modifiers}")


@opcode("I2F", modifiers="F64 S64 U64 U32 RP")
def i2f(i: Instruction) -> Run:
    """RP: rounded up."""
    if i.has("S64", "U64"):
        read = wide(i.operands[1])
        a = read if i.has("U64") else lambda warp: read(warp).view(I64)
    else:
        read = word(i.operands[1])
        a = read if i.has("U32") else lambda warp: signed(read(warp))
    if i.has("F64"):
        write = to_wide(i.operands[0])
        return lambda warp, active: write(warp, a(warp).astype(F64), active)
    write, rounds_up = to_real(i.operands[0]), i.has("RP")
    long = np.longdouble  # holds every integer of 64 bits

    def run(warp, active):
        exact = a(warp).astype(long)
        nearest = exact.astype(F32)
        if rounds_up:
            above = np.nextafter(nearest, F32(np.inf))
            nearest = np.where(nearest.astype(long) < exact, above, nearest)
        write(warp, nearest, active)

    return run


@opcode("I2FP", modifiers="F32 S32 U32")
def i2fp(i: Instruction) -> Run:
    write, a = to_real(i.operands[0]), word(i.operands[1])
    if i.has("U32"):
        return lambda warp, active: write(warp, a(warp).astype(F32), active)
    return lambda warp, active: write(warp, signed(a(warp)).astype(F32), active)


@opcode("F2I", modifiers="FTZ U32 S64 U64 F64 TRUNC FLOOR NTZ")
def f2i(i: Instruction) -> Run:
    """Rounded towards 0, or down. Numbers out of range become the nearest integer that there is,
    NaN the least."""
    if not i.has("TRUNC", "FLOOR"):
        raise ValueError("F2I to the nearest integer")
    a = double(i.operands[1]) if i.has("F64") else real(i.operands[1])
    whole = np.floor if i.has("FLOOR") else np.trunc
    if i.has("S64", "U64"):
        write, dtype = to_wide(i.operands[0]), np.int64 if i.has("S64") else np.uint64
    else:
        write, dtype = to_word(i.operands[0]), np.uint32 if i.has("U32") else np.int32
    limits = np.iinfo(dtype)

    def run(warp, active):
        x = whole(a(warp).astype(F64))
        is_high, is_low = x >= float(limits.max) + 1, ~(x >= float(limits.min))
        inside = np.where(is_high | is_low, 0, x).astype(dtype)
        result = np.where(is_high, limits.max, np.where(is_low, limits.min, inside)).astype(dtype)
        write(warp, result if limits.bits == 64 else result.view(U32), active)

    return run


@opcode("F2FP", modifiers="F16 BF16 F32 PACK_AB")
def f2fp(i: Instruction) -> Run:
    """Two float32 as two halves of a word, the first in the upper half."""
    if i.modifiers[1:] != ("F32", "PACK_AB"):
        raise ValueError(f"conversion {i.modifiers}")
    write, high, low = to_word(i.operands[0]), real(i.operands[1]), real(i.operands[2])
    bits = _float16_bits if i.has("F16") else _bfloat16_bits
    return lambda warp, active: write(warp, bits(high(warp)) << U32(16) | bits(low(warp)), active)


def _float16_bits(x: np.ndarray) -> np.ndarray:
    return x.astype(np.float16).view(np.uint16).astype(U32)


def _bfloat16_bits(x: np.ndarray) -> np.ndarray:
    """Rounded to the nearest, of two as near to the even one."""
    bits = x.view(U32)
    rounded = (bits + U32(0x7FFF) + (bits >> U32(16) & U32(1))) >> U32(16)
    return np.where(np.isnan(x), U32(0x7FFF), rounded)
