"""The compiled kernels: their machine code out of the objects that the build made."""

from __future__ import annotations

import struct
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from jml_kernels import cubins
from jml_kernels.elf import Elf

from .disassembly import Code, parse

#: Banks of constants that hold what the compiler knows: tables of jumps and of numbers.
_BANKS = (2, 3, 4)
#: In the section .nv.info of a cubin, see _registers.
_HAS_SIZE, _REGISTER_COUNT = 0x04, 0x2F


@dataclass(frozen=True)
class Kernel:
    name: str
    """mangled, as the host's compiler has it too"""
    code: Code
    constants: dict[int, bytes]
    """by bank, without those of a launch"""
    registers: int
    """of a thread"""
    decoded: dict = field(default_factory=dict, repr=False, compare=False)
    """what the interpreter makes of its instructions, by address"""


class Kernels:
    """Of a folder of objects, for one architecture; what is asked for is disassembled."""

    def __init__(self, objects: Path, target: str):
        self._cubins = [
            cubin
            for path in sorted(objects.glob("*.o"))
            for cubin in cubins.extracted(path, target)
        ]
        if not self._cubins:
            raise FileNotFoundError(f"no machine code for {target} in {objects}/*.o")
        self._of_name = {
            name: cubin for cubin in self._cubins for name in cubins.kernels(Elf(cubin))
        }
        self._known: dict[str, Kernel] = {}

    def names(self) -> list[str]:
        return list(self._of_name)

    def __getitem__(self, name: str) -> Kernel:
        if name not in self._known:
            self._known[name] = kernels_of(self._of_name[name], name)[0]
        return self._known[name]


def kernels_of(cubin: bytes, *names: str) -> list[Kernel]:
    """Those kernels of a cubin, or all."""
    elf = Elf(cubin)
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        chosen = [word for name in names for word in ("--function", name)]
        functions = parse(cubins.run("--dump-sass", *chosen, file.name).splitlines())
    registers = _registers(elf)
    return [
        Kernel(name, code, _constants(elf, name), registers[name])
        for name, code in functions.items()
    ]


def _registers(elf: Elf) -> dict[str, int]:
    """By kernel. The section holds entries: a format, an attribute, and a size or a value."""
    data, symbols, found, at = elf.section(".nv.info").bytes, elf.symbols(), {}, 0
    while at < len(data):
        format_, attribute, size = struct.unpack_from("<BBH", data, at)
        at += 4
        if format_ != _HAS_SIZE:
            continue
        if attribute == _REGISTER_COUNT:
            symbol, count = struct.unpack_from("<II", data, at)
            found[symbols[symbol].name] = count
        at += size
    return found


def _constants(elf: Elf, name: str) -> dict[int, bytes]:
    banks = {}
    for bank in _BANKS:
        section = elf.section(f".nv.constant{bank}.{name}") or elf.section(f".nv.constant{bank}")
        if section is None:
            continue
        data = bytearray(section.bytes)
        # A table of jumps holds addresses of labels.
        for relocation in elf.relocations(section.name):
            struct.pack_into("<I", data, relocation.offset, relocation.value & 0xFFFFFFFF)
        banks[bank] = bytes(data)
    return banks
