# SPDX-License-Identifier: GPL-2.0
"""Patch modules whose livepatch sections, symbols or relocations are damaged, made up from a seed."""

import random
from typing import Callable, List, NamedTuple, Tuple

from . import elf

# What there is in the names.
CHARACTERS = ".,_klpsymre0123456789 \x01"


class Damaged(NamedTuple):
    """A module, and what was done to it."""

    text: str
    data: bytes


class Maker:
    """Makes damaged copies of a patch module that has livepatch relocations."""

    def __init__(self, template: bytes) -> None:
        self.template = template
        module = elf.Module(template)
        self.sections = [index for index in range(1, module.count)
                         if module.section(index)[2] & elf.SHF_RELA_LIVEPATCH]
        self.symbols = [(at, name) for at, _, name in module.symbols()
                        if elf.SYMBOL.unpack_from(template, at)[3] == elf.SHN_LIVEPATCH]
        self.all_symbols = sum(1 for _ in module.symbols())
        self.allocated = [index for index in range(1, module.count)
                          if module.section(index)[2] & elf.SHF_ALLOC]
        if not self.sections or not self.symbols:
            raise ValueError("the module has no livepatch relocations")

    def make(self, seed: str, number: int, wild: bool = False) -> Damaged:
        """The copy of this number; a wild one has the built-in core write or read where it must not."""
        return Damage(self, random.Random(f"{seed} {number}")).make(wild)


class Damage:
    """One damaged copy."""

    def __init__(self, maker: Maker, rng: random.Random) -> None:
        self.maker = maker
        self.rng = rng
        self.module = elf.Module(maker.template)

    def make(self, wild: bool) -> Damaged:
        """Do one thing."""
        kinds: List[Callable[[], str]] = [self.place, self.section_of_places, self.symbol_out_of_table,
                                          self.not_in_memory, self.kind_of_section]
        if not wild:
            kinds = [self.section_name, self.symbol_name, self.symbol_name, self.symbol_section,
                     self.relocation_symbol, self.relocation_kind, self.unmarked_section, self.size]
        text = self.rng.choice(kinds)()
        return Damaged(text, bytes(self.module.data))

    def name(self, old: str) -> str:
        """A name with something replaced, inserted, left out, doubled or too long."""
        at = self.rng.randrange(len(old))
        some = self.rng.choice(CHARACTERS)
        return self.rng.choice([
            old[:at] + some + old[at + 1:], old[:at] + some + old[at:], old[:at] + old[at + 1:], old[:at],
            old[at:], old[:at] + old, old[:at] + "x" * self.rng.choice([40, 60, 130, 600]) + old[at:],
            old.rpartition(",")[0] + f",{self.rng.choice([1, 3, 1 << 32, (1 << 64) - 1, 1 << 64, -1])}"])

    def section_name(self) -> str:
        """A livepatch section under another name."""
        index = self.rng.choice(self.maker.sections)
        old = self.module.string(self.module.names, self.module.section(index)[0])
        new = self.name(old)
        self.module.rename_section(old, new)
        return f"section {new!r}, not {old}"

    def symbol_name(self) -> str:
        """A livepatch symbol under another name."""
        _, old = self.rng.choice(self.maker.symbols)
        new = self.name(old)
        self.module.rename_symbol(old, new)
        return f"symbol {new!r}, not {old}"

    def symbol_section(self) -> str:
        """A livepatch symbol that is not marked as one."""
        at, name = self.rng.choice(self.maker.symbols)
        section = self.rng.choice([elf.SHN_UNDEF, elf.SHN_ABS, elf.SHN_COMMON, *self.maker.allocated])
        symbol = list(elf.SYMBOL.unpack_from(self.module.data, at))
        symbol[3] = section
        elf.SYMBOL.pack_into(self.module.data, at, *symbol)
        return f"symbol {name} in section {section:#x}"

    def relocation(self) -> Tuple[int, List[int], str]:
        """A livepatch relocation: where in the file, what it is, and its name for people."""
        section = self.rng.choice(self.maker.sections)
        header = self.module.section(section)
        number = self.rng.randrange(header[5] // elf.RELOCATION.size)
        at = header[4] + number * elf.RELOCATION.size
        name = self.module.string(self.module.names, header[0])
        return at, list(elf.RELOCATION.unpack_from(self.module.data, at)), f"relocation {number} of {name}"

    def with_info(self, symbol: int = -1, kind: int = -1) -> str:
        """A livepatch relocation with another symbol or kind."""
        at, relocation, text = self.relocation()
        symbol = relocation[1] >> 32 if symbol < 0 else symbol
        kind = relocation[1] & 0xFFFFFFFF if kind < 0 else kind
        relocation[1] = symbol << 32 | kind
        elf.RELOCATION.pack_into(self.module.data, at, *relocation)
        return f"{text}: symbol {symbol}, kind {kind}"

    def relocation_symbol(self) -> str:
        """Another symbol of the table."""
        return self.with_info(symbol=self.rng.randrange(self.maker.all_symbols))

    def relocation_kind(self) -> str:
        """Another kind, which there is or not."""
        return self.with_info(kind=self.rng.choice([0, 1, 2, 4, 10, 11, 24, self.rng.randrange(64),
                                                    self.rng.getrandbits(32)]))

    def change_section(self, change: Callable[[List[int]], None]) -> str:
        """Change the header of a livepatch section; returns the name."""
        index = self.rng.choice(self.maker.sections)
        header = list(self.module.section(index))
        change(header)
        self.module.set_section(index, header)
        return self.module.string(self.module.names, header[0])

    def unmarked_section(self) -> str:
        """A section that is not marked to be one of livepatch relocations."""
        def unmark(header: List[int]) -> None:
            header[2] &= ~elf.SHF_RELA_LIVEPATCH
        return f"section {self.change_section(unmark)} is not marked"

    def size(self) -> str:
        """A section that ends early, perhaps in the middle of a relocation."""
        size = self.rng.choice([0, 1, 23, 24, 47])

        def shorten(header: List[int]) -> None:
            header[5] = min(header[5], size)
        return f"section {self.change_section(shorten)} has at most {size} bytes"

    def place(self) -> str:
        """A relocation of what does not belong to the module."""
        at, relocation, text = self.relocation()
        relocation[0] = self.rng.choice([1 << 20, 1 << 31, (1 << 64) - (1 << 24), self.rng.getrandbits(64) | 1 << 63,
                                         (1 << 47) | self.rng.getrandbits(40)])
        elf.RELOCATION.pack_into(self.module.data, at, *relocation)
        return f"{text}: place {relocation[0]:#x}"

    def section_of_places(self) -> str:
        """Relocations of a section that is not in memory, or not there, or of relocations."""
        others = [index for index in range(self.module.count + 3) if index not in self.maker.allocated]
        others += self.maker.sections
        other = self.rng.choice(others)

        def redirect(header: List[int]) -> None:
            header[7] = other
        return f"section {self.change_section(redirect)} is for section {other}"

    def symbol_out_of_table(self) -> str:
        """A symbol that is not there."""
        return self.with_info(symbol=self.rng.choice([self.maker.all_symbols, (1 << 32) - 1]))

    def not_in_memory(self) -> str:
        """A section that is not kept in memory."""
        def forget(header: List[int]) -> None:
            header[2] &= ~elf.SHF_ALLOC
        return f"section {self.change_section(forget)} is not allocated"

    def kind_of_section(self) -> str:
        """A section that does not have relocations."""
        kind = self.rng.choice([elf.SHT_NULL, elf.SHT_NOBITS, elf.SHT_PROGBITS])

        def retype(header: List[int]) -> None:
            header[1] = kind
        return f"section {self.change_section(retype)} is of type {kind}"
