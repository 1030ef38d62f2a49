# SPDX-License-Identifier: GPL-2.0
"""Changing a kernel module's file: names of sections and symbols, what they are, relocations."""

import struct
from typing import Iterator, Sequence, Tuple

SECTION = struct.Struct("<IIQQQQIIQQ")
SYMBOL = struct.Struct("<IBBHQQ")
SHT_NULL = 0
SHT_PROGBITS = 1
SHT_SYMTAB = 2
SHT_NOBITS = 8
SHN_UNDEF = 0
SHN_LIVEPATCH = 0xFF20
SHN_ABS = 0xFFF1
SHN_COMMON = 0xFFF2
SHF_ALLOC = 2
SHF_RELA_LIVEPATCH = 0x00100000
# The place, symbol and kind, and addend of a relocation.
RELOCATION = struct.Struct("<QQq")


class Module:
    """A 64-bit little-endian ELF file in memory."""

    def __init__(self, data: bytes) -> None:
        if data[:6] != b"\x7fELF\x02\x01":
            raise SystemExit("not a 64-bit little-endian ELF file")
        self.data = bytearray(data)
        (self.sections_at,) = struct.unpack_from("<Q", data, 0x28)
        self.count, self.names = struct.unpack_from("<HH", data, 0x3C)

    def section(self, index: int) -> Tuple[int, ...]:
        """A section header: name, type, flags, address, offset, size, link, ..."""
        return SECTION.unpack_from(self.data, self.sections_at + index * SECTION.size)

    def set_section(self, index: int, header: Sequence[int]) -> None:
        """Change a section header."""
        SECTION.pack_into(self.data, self.sections_at + index * SECTION.size, *header)

    def string(self, table: int, offset: int) -> str:
        """A string in a string table."""
        start = self.section(table)[4] + offset
        return self.data[start:self.data.index(0, start)].decode()

    def add_string(self, table: int, text: str) -> int:
        """Move a string table to the end of the file, with one more string; the result is its offset in the table."""
        header = list(self.section(table))
        old = self.data[header[4]:header[4] + header[5]]
        header[4], header[5] = len(self.data), len(old) + len(text) + 1
        self.data += old + text.encode() + b"\0"
        self.set_section(table, header)
        return len(old)

    def symbols(self) -> Iterator[Tuple[int, int, str]]:
        """All symbols: where in the file, their string table, name."""
        for index in range(self.count):
            _, kind, _, _, offset, size, link, *_ = self.section(index)
            if kind == SHT_SYMTAB:
                for at in range(offset, offset + size, SYMBOL.size):
                    yield at, link, self.string(link, SYMBOL.unpack_from(self.data, at)[0])

    def find_symbol(self, name: str) -> Tuple[int, int]:
        """Where a symbol is in the file, and its string table."""
        for at, table, found in self.symbols():
            if found == name:
                return at, table
        raise SystemExit(f"no symbol {name}")

    def rename_symbol(self, old: str, new: str) -> None:
        """Give a symbol another name."""
        at, table = self.find_symbol(old)
        struct.pack_into("<I", self.data, at, self.add_string(table, new))

    def unmark_symbol(self, name: str) -> None:
        """Make a livepatch symbol an absolute one."""
        at, _ = self.find_symbol(name)
        struct.pack_into("<H", self.data, at + 6, SHN_ABS)

    def rename_section(self, old: str, new: str) -> None:
        """Give a section another name."""
        for index in range(self.count):
            if self.string(self.names, self.section(index)[0]) == old:
                name = self.add_string(self.names, new)
                struct.pack_into("<I", self.data, self.sections_at + index * SECTION.size, name)
                return
        raise SystemExit(f"no section {old}")
