"""The GPUs that are modelled: what each is made of, with its source.

"Whitepaper" is NVIDIA's "H100 Tensor Core GPU Architecture"; "guide" is the CUDA C++ Programming
Guide; "microbenchmarks" is Luo et al., "Benchmarking and Dissecting the NVIDIA Hopper GPU
Architecture via Microbenchmarking and Multiple Instruction Performance Tests", 2024.
"""

from __future__ import annotations

from dataclasses import dataclass

from . import pipes

#: Of a multiprocessor (whitepaper, "H100 SM Architecture").
SCHEDULERS = 4
#: Bytes that a multiprocessor's first level of cache, or its shared memory, gives in a cycle: 32
#: banks of 4 bytes (whitepaper; guide, "Shared Memory").
SHARED_BYTES_PER_CYCLE = 128
#: Bytes from the second level of cache that a multiprocessor takes in a cycle (microbenchmarks:
#: about 64 of a read).
L2_BYTES_PER_CYCLE = 64


@dataclass(frozen=True)
class Device:
    name: str
    target: str
    multiprocessors: int
    gigahertz: float
    """of the multiprocessors, while kernels as these run"""
    copy_bytes_per_second: float
    """read and written by a copy of about 1 GiB"""
    memory_latency: int
    """cycles of a load from memory, unloaded"""


#: SXM5, 80 GB of HBM3 at 3.35 TB/s, up to 1.98 GHz (data sheet). Copies reach about nine tenths of
#: the memory's speed, as on an H200; the clock and the latency are taken from there. Nothing was
#: measured.
H100 = Device("NVIDIA H100", "sm_90", 132, 1.70, 3.0e12, 750)
#: SXM, 141 GB of HBM3e at 4.8 TB/s, up to 1.98 GHz (data sheet). The copies are those that were
#: measured (benchmarks/results/gpu-nvidia-h200.json); clock and latency are fitted (see fit.py).
H200 = Device("NVIDIA H200", "sm_90", 132, 1.70, 4.21e12, 750)

DEVICES = {device.name: device for device in (H100, H200)}


@dataclass(frozen=True)
class Unit:
    """Of a scheduler.

    Attributes:
        name: instructions of several pipes may share one.
        cycles: that an instruction of a warp keeps it for: 32 over its lanes.
        latency: cycles until another instruction can use the result, where no stall count says so.
    """

    name: str
    cycles: int
    latency: int


#: Results in a cycle of a multiprocessor: guide, "Arithmetic Instructions", compute capability 9.0:
#: 128 of FP32, of which half also multiply integers; 64 of integers, comparisons and logic; 64 of
#: FP64; 16 of special functions and of conversions of 64 bits; 32 of shuffles. Latencies are those
#: of microbenchmarks, rounded; those that the compiler hides by stall counts are not needed.
UNITS = {
    pipes.FP32: Unit("fp32", 1, 4),
    pipes.MULTIPLIER: Unit("fp32 heavy", 2, 5),
    pipes.HALF: Unit("fp32 heavy", 2, 5),
    pipes.ALU: Unit("alu", 2, 5),
    pipes.FP64: Unit("fp64", 2, 16),
    pipes.SPECIAL: Unit("special", 8, 22),
    pipes.CONVERSION: Unit("special", 8, 25),
    pipes.TENSOR: Unit("tensor", 8, 33),
    pipes.UNIFORM: Unit("uniform", 2, 12),
    pipes.CONSTANT: Unit("memory", 2, 40),
    pipes.GLOBAL_LOAD: Unit("memory", 2, 35),
    pipes.GLOBAL_STORE: Unit("memory", 2, 20),
    pipes.COPY: Unit("memory", 2, 35),
    pipes.SHARED_LOAD: Unit("memory", 2, 29),
    pipes.SHARED_STORE: Unit("memory", 2, 20),
    pipes.ATOMIC: Unit("memory", 2, 60),
    pipes.LOCAL: Unit("memory", 2, 35),
    pipes.SHUFFLE: Unit("memory", 2, 24),
    pipes.BARRIER: Unit("control", 1, 10),
    pipes.BRANCH: Unit("control", 1, 6),
    pipes.MOVE: Unit("control", 2, 12),
}
