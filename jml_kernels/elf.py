"""What is needed of an ELF file, of 64 bits and little-endian: sections, symbols, relocations."""

from __future__ import annotations

import struct
from typing import NamedTuple

_SYMBOLS, _RELOCATIONS_WITH_ADDEND, _NO_BITS, _RELOCATIONS = 2, 4, 8, 9  # types of sections


class Section(NamedTuple):
    name: str
    type: int
    link: int
    bytes: bytes


class Symbol(NamedTuple):
    name: str
    value: int


class Relocation(NamedTuple):
    offset: int
    value: int
    """of the symbol, with what is added to it"""


class Elf:
    def __init__(self, data: bytes):
        first, size, count, names = self._header(data)
        raw = [struct.unpack_from("<IIQQQQIIQQ", data, first + i * size) for i in range(count)]

        def content(type_: int, offset: int, length: int) -> bytes:
            return b"" if type_ == _NO_BITS else data[offset : offset + length]

        strings = content(raw[names][1], *raw[names][4:6])
        self.sections = [
            Section(_name(strings, name), type_, link, content(type_, offset, length))
            for name, type_, _, _, offset, length, link, _, _, _ in raw
        ]

    @staticmethod
    def _header(data: bytes) -> tuple[int, int, int, int]:
        """(offset of the table of sections, size of an entry, entries, the one with names)."""
        if data[:6] != b"\x7fELF\x02\x01":
            raise ValueError(f"file begins with {data[:6]!r}: expected a little-endian ELF64")
        return struct.unpack_from("<Q", data, 0x28) + struct.unpack_from("<HHH", data, 0x3A)

    def section(self, name: str) -> Section | None:
        return next((section for section in self.sections if section.name == name), None)

    def symbols(self) -> list[Symbol]:
        table = next(section for section in self.sections if section.type == _SYMBOLS)
        strings = self.sections[table.link].bytes
        return [
            Symbol(_name(strings, name), value)
            for name, _, _, _, value, _ in struct.iter_unpack("<IBBHQQ", table.bytes)
        ]

    def relocations(self, name: str) -> list[Relocation]:
        """Of a section."""
        symbols = self.symbols()
        found = []
        for section in self.sections:
            if section.type == _RELOCATIONS_WITH_ADDEND and section.name == f".rela{name}":
                entries = struct.iter_unpack("<QQq", section.bytes)
            elif section.type == _RELOCATIONS and section.name == f".rel{name}":
                entries = ((*entry, 0) for entry in struct.iter_unpack("<QQ", section.bytes))
            else:
                continue
            for offset, info, addend in entries:
                found.append(Relocation(offset, symbols[info >> 32].value + addend))
        return found


def _name(strings: bytes, start: int) -> str:
    return strings[start : strings.index(b"\0", start)].decode()
