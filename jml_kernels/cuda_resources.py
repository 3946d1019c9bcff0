"""What the assembler made of the CUDA kernels: registers, stack, spills and shared memory of every
kernel on every architecture, as the build wrote it down (build_cuda.py), and what follows from it.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

from . import cubins
from .elf import Elf

#: Beside the library, where that was built.
REPORT = Path(__file__).with_name("_cuda.ptxas.txt")

# ---- the report ----------------------------------------------------------------------------------


class Resources(NamedTuple):
    """Of a kernel on an architecture; bytes are per thread, but those of `shared` per block."""

    kernel: str
    target: str
    registers: int | None
    """None for a function that was not inlined: it uses its caller's"""
    stack: int
    """with that of functions called"""
    spill_stores: int
    spill_loads: int
    shared: int
    """bytes known to the compiler; a launch may ask for more"""

    @property
    def spills(self) -> int:
        return self.spill_stores + self.spill_loads


_ENTRY = re.compile(r"Compiling entry function '(.+)' for '(\w+)'")
_FUNCTION = re.compile(r"Function properties for '?(.+?)'?$")
_STACK = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
_USED = re.compile(r"Used (\d+) registers")
_CUMULATIVE = re.compile(r"(\d+) bytes cumulative stack size")
_SHARED = re.compile(r"(\d+) bytes smem")


def parse(text: str) -> list[Resources]:
    """The kernels, and the functions that were not inlined, in the order of the report."""
    found: list[Resources] = []
    entry = target = function = ""
    position = 0  # of the entry in `found`
    for line in text.splitlines():
        if match := _ENTRY.search(line):
            entry, target = match.groups()
        elif match := _FUNCTION.search(line):
            function = match[1]
        elif match := _STACK.search(line):
            if function == entry:
                position = len(found)
            found.append(Resources(readable(function), target, None, *map(int, match.groups()), 0))
        elif match := _USED.search(line):
            kernel = found[position]
            found[position] = kernel._replace(
                registers=int(match[1]),
                stack=max(kernel.stack, _number(_CUMULATIVE, line)),
                shared=_number(_SHARED, line),
            )
    return found


def _number(pattern: re.Pattern, line: str) -> int:
    match = pattern.search(line)
    return int(match[1]) if match else 0


def warnings(text: str) -> list[str]:
    """Whatever else a compiler had to say."""
    return [line for line in text.splitlines() if "warning" in line.lower()]


def instructions(library: Path, target: str) -> dict[str, int]:
    """How many instructions the kernels of a library have for an architecture, by their names in
    the report; empty where there is nothing to read them with (cubins.py, c++filt)."""
    if cubins.missing() is not None or shutil.which("c++filt") is None or not library.exists():
        return {}
    counts: dict[str, int] = {}
    for cubin in cubins.extracted(library, target):
        counts |= cubins.kernels(Elf(cubin))
    done = subprocess.run(
        ["c++filt"], input="\n".join(counts), capture_output=True, text=True, check=True
    )
    names = map(readable, done.stdout.splitlines())
    return dict(zip(names, counts.values(), strict=True))


def readable(signature: str) -> str:
    """A demangled signature without its result, arguments and our namespaces."""
    depth, name = 0, signature.replace("(anonymous namespace)::", "")
    for position, letter in enumerate(name):
        depth += (letter == "<") - (letter == ">")
        if letter == "(" and depth == 0:
            name = name[:position]
            break
    name = re.sub(r"\bjml::(cuda::)?", "", name.removeprefix("void "))
    return name.replace("> >", ">>").replace("> >", ">>")


# ---- warps that live at once ---------------------------------------------------------------------


class Multiprocessor(NamedTuple):
    warps: int
    blocks: int
    shared: int
    """bytes"""


#: By compute capability: CUDA's programming guide, "Technical Specifications".
MULTIPROCESSORS = {
    "sm_80": Multiprocessor(64, 32, 164 * 1024),
    "sm_86": Multiprocessor(48, 16, 100 * 1024),
    "sm_89": Multiprocessor(48, 24, 100 * 1024),
    "sm_90": Multiprocessor(64, 32, 228 * 1024),
    "sm_100": Multiprocessor(64, 32, 228 * 1024),
    "sm_103": Multiprocessor(64, 32, 228 * 1024),
    "sm_120": Multiprocessor(48, 24, 100 * 1024),
}
_QUARTERS = 4  # of a multiprocessor, each with warps and registers of its own
_REGISTERS = 65536 // _QUARTERS
_REGISTER_UNIT = 256  # registers of a warp come in these
_SHARED_UNIT, _SHARED_OF_SYSTEM = 128, 1024  # bytes of a block


def warps(target: str, registers: int, threads: int | None = None, shared: int = 0) -> int | None:
    """Warps that a multiprocessor can hold, None where the architecture is not known.

    Args:
        threads: of a block; without them, what registers alone allow.
        shared: bytes of a block, static and dynamic; they count only with `threads`.
    """
    limits = MULTIPROCESSORS.get(target.rstrip("af"))
    if limits is None:
        return None
    quarter = _REGISTERS // _up(max(registers, 1) * 32, _REGISTER_UNIT)
    most = min(limits.warps, quarter * _QUARTERS)
    if threads is None:
        return most
    block = _up(threads, 32) // 32
    bytes_ = _up(shared, _SHARED_UNIT) + _SHARED_OF_SYSTEM
    by_registers = quarter * _QUARTERS // block
    blocks = min(limits.blocks, by_registers, limits.warps // block, limits.shared // bytes_)
    return blocks * block


def _up(number: int, unit: int) -> int:
    return -(-number // unit) * unit
