"""What executes an instruction: the pipe that it goes to."""

from __future__ import annotations

from .disassembly import Instruction

FP32 = "fp32"
MULTIPLIER = "integer multiply"
ALU = "alu"
HALF = "half"
FP64 = "fp64"
SPECIAL = "special function"
CONVERSION = "conversion"
TENSOR = "tensor"
UNIFORM = "uniform"
CONSTANT = "constant"
GLOBAL_LOAD, GLOBAL_STORE = "global load", "global store"
COPY = "copy to shared"
SHARED_LOAD, SHARED_STORE = "shared load", "shared store"
ATOMIC = "atomic"
LOCAL = "local"
SHUFFLE = "shuffle"
BARRIER = "barrier"
BRANCH = "branch"
MOVE = "move between files"

#: Opcodes by pipe, of sm_80 to sm_100. Those of the uniform datapath are found by their first
#: letter.
_OPCODES = {
    FP32: "FADD FMUL FFMA FADD2 FMUL2 FFMA2",
    # Half of the FP32 lanes multiply integers too; the compiler also moves and adds with them.
    MULTIPLIER: "IMAD IMUL IDP IDP4A",
    ALU: "IADD3 IADD LEA LOP3 LOP SHF ISETP SEL PRMT VIADD VIMNMX VIMNMX3 VIADDMNMX IMNMX IABS MOV"
    " CS2R PLOP3 P2R R2P SGXT BMSK LEPC FSEL FMNMX FMNMX3 FSETP FSET FCHK I2FP F2FP VABSDIFF"
    " FSWZADD",
    HALF: "HADD2 HMUL2 HFMA2 HSETP2 HMNMX2 HSET2",
    FP64: "DADD DMUL DFMA DSETP",
    SPECIAL: "MUFU",
    CONVERSION: "F2F F2I I2F I2I FRND FLO POPC BREV",
    TENSOR: "HMMA IMMA DMMA QMMA BMMA",
    CONSTANT: "LDC ULDC LDCU",
    GLOBAL_LOAD: "LDG LD",
    GLOBAL_STORE: "STG ST",
    COPY: "LDGSTS UBLKCP",
    SHARED_LOAD: "LDS LDSM",
    SHARED_STORE: "STS STSM",
    ATOMIC: "ATOM ATOMG ATOMS RED REDG",
    LOCAL: "LDL STL",
    SHUFFLE: "SHFL REDUX CREDUX MATCH",
    BARRIER: "BAR DEPBAR LDGDEPBAR WARPSYNC ENDCOLLECTIVE MEMBAR ERRBAR CCTL FENCE SYNCS ACQBULK"
    " B2R PREEXIT",
    BRANCH: "BRA BRX BRXU BSSY BSYNC EXIT CALL RET BREAK JMP BMOV NOP YIELD NANOSLEEP RPCMOV KILL"
    " BPT",
    MOVE: "VOTE VOTEU S2R S2UR R2UR",
}
_PIPE = {opcode: pipe for pipe, names in _OPCODES.items() for opcode in names.split()}
#: All of them, in the order in which they are shown.
PIPES = (*_OPCODES, UNIFORM)


def pipe(instruction: Instruction) -> str:
    """Raises:
    ValueError: where the opcode is not known.
    """
    found = _PIPE.get(instruction.opcode)
    if found is not None:
        return found
    if instruction.opcode.startswith("U"):
        return UNIFORM
    raise ValueError(f"{instruction.text}: no pipe is known for {instruction.opcode}")
