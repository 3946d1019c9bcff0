"""The model of machine code (benchmarks/sass) on programs of a few lines: what is read, computed,
refused and timed. Whole kernels: cuda/test_machine_code.py."""

from __future__ import annotations

import struct
import sys
from pathlib import Path

import numpy as np
import pytest

# Last: an installed package must not be hidden by its sources.
sys.path.append(str(Path(__file__).parents[1]))

from benchmarks.sass import devices, document, pipes, replay
from benchmarks.sass.disassembly import parse, split
from benchmarks.sass.interpreter.block import Block, Launch
from benchmarks.sass.interpreter.memory import Memory, OutsideError
from benchmarks.sass.interpreter.opcodes import UnknownInstructionError
from benchmarks.sass.kernels import Kernel

NAME = "kernel"
#: stall 4, no barriers.
PLAIN = 4 | 7 << 5 | 7 << 8


def code(*lines: str, control: int = PLAIN) -> Kernel:
    """A kernel of instructions, as cuobjdump would print it."""
    text = [f"\t\tFunction : {NAME}"]
    for n, line in enumerate(lines):
        text += [
            f"        /*{16 * n:04x}*/                   {line} ;    /* 0x0000000000000000 */",
            f"                                                  /* 0x{control << 41:016x} */",
        ]
    return Kernel(NAME, parse(text)[NAME], {}, registers=32)


def run(*lines: str, memory: Memory | None = None, argument: bytes = b"", threads: int = 32):
    """The block after all instructions, and EXIT."""
    kernel = code(*lines, "EXIT")
    launch = Launch(NAME, 1, threads, 256, argument)
    memory = memory or Memory(np.zeros(256, np.uint8))
    block = Block(kernel, launch, 0, memory, with_trace=True)
    block.run()
    return block


def register(block: Block, number: int, dtype=np.int32) -> np.ndarray:
    return block.warps[0].registers[number].view(dtype)


# ---- read ----------------------------------------------------------------------------------------


def test_an_instruction():
    control = 5 | 1 << 5 | 2 << 8 | 0b100001 << 11
    (instruction,) = code("@!P0 LDG.E.64 R2, desc[UR4][R2.64+0x10]", control=control).code.values()
    assert instruction.predicate == "!P0"
    assert (instruction.opcode, instruction.modifiers) == ("LDG", ("E", "64"))
    assert instruction.operands == ("R2", "desc[UR4][R2.64+0x10]")
    assert instruction.stall == 5
    assert (instruction.write_barrier, instruction.read_barrier) == (1, 2)
    assert instruction.wait_mask == 0b100001


def test_operands_are_divided_at_commas_outside_of_brackets():
    assert split("R1, P0, -R2.reuse, c[0x0][0x210], !PT") == [
        *("R1", "P0", "-R2", "c[0x0][0x210]", "!PT")
    ]


def test_an_unknown_opcode_has_no_pipe():
    (instruction,) = code("FOO R1, R2").code.values()
    with pytest.raises(ValueError, match="no pipe is known for FOO"):
        pipes.pipe(instruction)


# ---- compute -------------------------------------------------------------------------------------


def test_sums_with_carries():
    """64 bits of 0xffffffff + 1, then minus 2."""
    block = run(
        "MOV R2, 0xffffffff",
        "MOV R3, 0x0",
        "IADD3 R4, P0, R2, 0x1, RZ",
        "IADD3.X R5, R3, RZ, RZ, P0, !PT",
        "MOV R6, 0x2",
        "IADD3 R7, P1, R4, -R6, RZ",
        "IADD3.X R8, R5, -0x1, RZ, P1, !PT",
    )
    assert [register(block, n)[0] for n in (4, 5)] == [0, 1]
    assert [register(block, n)[0] for n in (7, 8)] == [-2, 0]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("IMAD R4, R0, 0x3, R0", lambda x: 4 * x),
        ("LEA R4, R0, R0, 0x2", lambda x: 5 * x),
        ("SHF.L.U32 R4, R0, 0x3, RZ", lambda x: 8 * x),
        ("LOP3.LUT R4, R0, 0x5, RZ, 0x3c, !PT", lambda x: x ^ 5),
        ("VIMNMX R4, R0, 0x7, PT", lambda x: np.minimum(x, 7)),
        ("SHFL.BFLY PT, R4, R0, 0x4, 0x1f", lambda x: x ^ 4),
        ("SHFL.DOWN PT, R4, R0, 0x8, 0x1f", lambda x: np.where(x + 8 < 32, x + 8, x)),
        ("PRMT R4, R0, 0x4440, RZ", lambda x: x),
        ("SEL R4, R0, 0x9, PT", lambda x: x),
    ],
)
def test_integers(line, expected):
    block = run("S2R R0, SR_TID.X", line)
    np.testing.assert_array_equal(register(block, 4), expected(np.arange(32)))


def test_local_memory_is_of_a_lane():
    """A part of a word leaves the rest as it was, and has a sign when it is read."""
    block = run(
        "S2R R0, SR_TID.X",
        "IADD3 R2, -R0, RZ, RZ",
        "MOV R3, 0x11223344",
        "STL [RZ+0x8], R3",
        "STL.S16 [RZ+0xa], R2",
        "LDL R4, [RZ+0x8]",
        "LDL.S16 R5, [RZ+0xa]",
        "LDL.U8 R6, [RZ+0x9]",
    )
    lanes = np.arange(32)
    assert (register(block, 4) == (-lanes << 16 | 0x3344).astype(np.int32)).all()
    assert (register(block, 5) == -lanes).all()
    assert (register(block, 6) == 0x33).all()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("FFMA R4, R2, R2, -R2", lambda x: x * x - x),
        ("FFMA.SAT R4, R2, 0.125, -1", lambda x: np.clip(x / 8 - 1, 0, 1)),
        ("FADD R4, |R2|, -1.5", lambda x: np.abs(x) - 1.5),
        ("FMNMX R4, R2, 3, !PT", lambda x: np.maximum(x, 3)),
        ("MUFU.EX2 R4, -R2", lambda x: np.exp2(-x)),
        ("FSEL R4, R2, +INF, PT", lambda x: x),
    ],
)
def test_floats(line, expected):
    block = run("S2R R0, SR_TID.X", "I2FP.F32.S32 R2, R0", line)
    wanted = expected(np.arange(32, dtype=np.float32))
    np.testing.assert_allclose(register(block, 4, np.float32), wanted, rtol=1e-6)


def test_lanes_part_and_meet():
    block = run(
        "S2R R0, SR_TID.X",  # 0x00
        "ISETP.GE.AND P0, PT, R0, 0x10, PT",
        "BSSY B0, 0x60",
        "@P0 BRA 0x50",
        "MOV R1, 0x1",  # 0x40, of the lower half
        "BSYNC B0",  # 0x50
        "VOTE.ANY R2, PT, PT",  # 0x60: all of them again
    )
    np.testing.assert_array_equal(register(block, 1), np.arange(32) < 16)
    assert register(block, 2, np.uint32)[0] == 0xFFFFFFFF


def test_memory_and_a_barrier():
    """Each warp of two reads what the other wrote."""
    memory = Memory(np.zeros(1024, np.uint8), first=4096)
    run(
        "S2R R0, SR_TID.X",
        "IMAD.SHL.U32 R1, R0, 0x4, RZ",
        "STS [R1+0x400], R0",
        "BAR.SYNC.DEFER_BLOCKING 0x0",
        "LOP3.LUT R2, R1, 0x80, RZ, 0x3c, !PT",
        "LDS R3, [R2+0x400]",
        "LDC.64 R4, c[0x0][0x210]",
        "IMAD.WIDE R6, R0, 0x4, R4",
        "STG.E desc[UR4][R6.64], R3",
        memory=memory,
        argument=struct.pack("<Q", 4096),
        threads=64,
    )
    words = memory.load(4096 + 4 * np.arange(64, dtype=np.uint64), 4)[0]
    np.testing.assert_array_equal(words, np.arange(64) ^ 32)


def test_what_accesses_ask_for():
    """Lanes 8 bytes apart: of memory twice the sectors, of the banks two turns."""
    block = run(
        "S2R R0, SR_TID.X",
        "IMAD.SHL.U32 R1, R0, 0x8, RZ",
        "LDG.E R2, desc[UR4][R1]",
        "LDS R3, [R1]",
    )
    far, near = (event.access for event in block.warps[0].trace if event.access)
    assert (far.sectors, far.new_sectors, far.bytes) == (8, 8, 128)
    assert near.sectors == 2


# ---- refuse --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line", ["FOO R1, R2", "FADD.FOO R1, R2, R3", "HADD2 R1, R2, R3", "S2R R1, SR_CLOCKLO"]
)
def test_what_is_not_known(line):
    with pytest.raises(UnknownInstructionError, match=line.split(",")[0]):
        run(line)


@pytest.mark.parametrize("line", ["LDS R1, [0x10000]", "LDS R1, [0x2]", "STG.E [R1+0x1000], R1"])
def test_outside_of_memory(line):
    with pytest.raises(OutsideError):
        run(line)


# ---- time ----------------------------------------------------------------------------------------


def cycles(*lines: str, warps: int, control: int = PLAIN, memory_bytes: int = 0) -> float:
    kernel = code(*lines, control=control)
    (trace,) = {tuple(_issues(kernel, memory_bytes))}
    return replay.replay([list(trace)] * warps, 1, 1, devices.H100, 1 / 132).cycles


def _issues(kernel: Kernel, memory_bytes: int):
    events = [replay.Event(address, 32) for address in kernel.code]
    for issue in replay.issues(kernel, events, lambda address: True):
        is_load = kernel.code[0].opcode == "LDG"
        more = {"queue_cycles": 4.0, "memory_bytes": memory_bytes, "kind": 2} if is_load else {}
        yield issue._replace(**more)


def test_dependent_instructions_wait_for_their_stalls():
    assert cycles(*["FADD R1, R1, R1"] * 100, warps=1) == pytest.approx(400, abs=10)


@pytest.mark.parametrize(("line", "each"), [("FADD R1, R1, R1", 1), ("IADD3 R1, R1, R1, RZ", 2)])
def test_warps_hide_latency_until_the_pipe_is_full(line, each):
    """8 warps of a scheduler."""
    assert cycles(*[line] * 100, warps=32) == pytest.approx(800 * each, rel=0.05)


def test_memory_serves_its_share():
    """More bytes than latency hides: 16 warps of 50 loads of 512 bytes."""
    taken = cycles(*["LDG.E.128 R4, desc[UR4][R2.64]"] * 50, warps=16, memory_bytes=512)
    device = devices.H100
    of_device = device.copy_bytes_per_second / device.gigahertz / 1e9 / device.multiprocessors
    assert taken == pytest.approx(16 * 50 * 512 / of_device + device.memory_latency, rel=0.05)


# ---- the committed table -------------------------------------------------------------------------


def test_predictions_by_device():
    shares = document.predicted(devices.H200.name)
    assert 0.3 < shares["4x19x512x512 float32, labels"]["forward"] < 1
    assert document.predicted("another GPU") == {}
