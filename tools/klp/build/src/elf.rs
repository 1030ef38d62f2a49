// SPDX-License-Identifier: GPL-2.0

//! Object files: their sections, symbols and relocations.

use object::{
    elf::{self, FileHeader64},
    endian::LittleEndian as LE,
    read::elf::{FileHeader, Rela as _, SectionHeader, Sym},
};

/// The index of a section that is none, for undefined symbols.
pub(crate) const UNDEFINED: usize = 0;

/// A section of an object file.
#[derive(Debug)]
pub(crate) struct Section<'a> {
    pub(crate) name: &'a str,
    pub(crate) flags: u64,
    /// The size of each entry, of strings that of a character; 0 if it has no entries.
    pub(crate) entry_size: u64,
    /// Without contents, it is empty.
    pub(crate) data: &'a [u8],
    pub(crate) relocations: Vec<Relocation>,
}

impl Section<'_> {
    pub(crate) fn is_allocated(&self) -> bool {
        self.flags & u64::from(elf::SHF_ALLOC) != 0
    }

    pub(crate) fn is_code(&self) -> bool {
        self.flags & u64::from(elf::SHF_EXECINSTR) != 0
    }

    /// Whether the linker merges equal entries, so that offsets in it mean nothing.
    pub(crate) fn is_merged(&self) -> bool {
        self.flags & u64::from(elf::SHF_MERGE) != 0
    }

    /// Whether it has strings whose characters are more than a byte.
    pub(crate) fn is_wide(&self) -> bool {
        self.flags & u64::from(elf::SHF_STRINGS) != 0 && self.entry_size > 1
    }
}

/// A symbol of an object file.
#[derive(Debug)]
pub(crate) struct Symbol<'a> {
    pub(crate) name: &'a str,
    pub(crate) kind: u8,
    pub(crate) local: bool,
    /// Another definition takes its place, if there is one.
    pub(crate) weak: bool,
    /// The section that has it, or [`UNDEFINED`], or none for a number or a file.
    pub(crate) section: usize,
    pub(crate) value: u64,
    pub(crate) size: u64,
}

impl Symbol<'_> {
    pub(crate) fn is_function(&self) -> bool {
        self.kind == elf::STT_FUNC
    }

    /// Whether it is a function or a variable that the object defines.
    pub(crate) fn is_definition(&self) -> bool {
        self.section != UNDEFINED && matches!(self.kind, elf::STT_FUNC | elf::STT_OBJECT)
    }
}

/// A place that is filled in when addresses are known.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Relocation {
    pub(crate) offset: u64,
    pub(crate) kind: u32,
    pub(crate) symbol: usize,
    pub(crate) addend: i64,
}

impl Relocation {
    /// Where it leads to in the section of its symbol.
    pub(crate) fn destination(&self, symbol: &Symbol<'_>) -> u64 {
        // The processor counts from the end of the instruction. That a number may follow the address
        // in it is not known here; then the place is a few bytes too early, before and after the
        // patch.
        let distance = match self.kind {
            elf::R_X86_64_PC32 | elf::R_X86_64_PLT32 => 4,
            _ => 0,
        };
        symbol
            .value
            .wrapping_add_signed(self.addend)
            .wrapping_add(distance)
    }
}

/// An object file.
#[derive(Debug)]
pub(crate) struct File<'a> {
    pub(crate) sections: Vec<Section<'a>>,
    pub(crate) symbols: Vec<Symbol<'a>>,
}

impl<'a> File<'a> {
    /// Reads an object file.
    ///
    /// # Errors
    ///
    /// It is none of 64-bit x86, or damaged.
    pub(crate) fn parse(data: &'a [u8]) -> Result<Self, String> {
        let file = Self::read(data).map_err(|error| error.to_string())?;
        let known = |relocation: &Relocation| relocation.symbol < file.symbols.len();
        let mut relocations = file
            .sections
            .iter()
            .flat_map(|section| &section.relocations);
        match relocations.all(known) {
            true => Ok(file),
            false => Err("a relocation refers to a symbol that is not there".into()),
        }
    }

    fn read(data: &'a [u8]) -> object::Result<Self> {
        let header = FileHeader64::<LE>::parse(data)?;
        let table = header.sections(LE, data)?;
        let text = |bytes: &'a [u8]| std::str::from_utf8(bytes).unwrap_or_default();
        let mut sections = Vec::new();
        for section in table.iter() {
            sections.push(Section {
                name: text(table.section_name(LE, section)?),
                flags: section.sh_flags(LE),
                entry_size: section.sh_entsize(LE),
                data: match section.sh_type(LE) {
                    elf::SHT_NOBITS => &[],
                    _ => section.data(LE, data)?,
                },
                relocations: Vec::new(),
            });
        }
        for section in table.iter() {
            let Some((relocations, _)) = section.rela(LE, data)? else {
                continue;
            };
            let Some(target) = sections.get_mut(section.sh_info(LE) as usize) else {
                continue;
            };
            // In a live patch there are more for a section: ordinary ones, and livepatch's.
            let relocations = relocations.iter().map(|relocation| Relocation {
                offset: relocation.r_offset(LE),
                kind: relocation.r_type(LE, false),
                symbol: relocation.r_sym(LE, false) as usize,
                addend: relocation.r_addend(LE),
            });
            target.relocations.extend(relocations);
        }
        let list = table.symbols(LE, data, elf::SHT_SYMTAB)?;
        let mut symbols = Vec::new();
        for (index, symbol) in list.enumerate() {
            let section = list.symbol_section(LE, symbol, index)?;
            symbols.push(Symbol {
                name: text(list.symbol_name(LE, symbol)?),
                kind: symbol.st_type(),
                local: symbol.is_local(),
                weak: symbol.st_bind() == elf::STB_WEAK,
                section: section.map_or(UNDEFINED, |section| section.0),
                value: symbol.st_value(LE),
                size: symbol.st_size(LE),
            });
        }
        Ok(Self { sections, symbols })
    }

    /// The section of this name; the first of several.
    pub(crate) fn section(&self, name: &str) -> Option<&Section<'a>> {
        self.sections.iter().find(|section| section.name == name)
    }

    /// The functions and variables that it defines.
    pub(crate) fn definitions(&self) -> impl Iterator<Item = &Symbol<'a>> {
        self.symbols.iter().filter(|symbol| symbol.is_definition())
    }

    /// The names that it refers to without defining them.
    pub(crate) fn undefined(&self) -> impl Iterator<Item = &'a str> + '_ {
        let undefined = self.symbols.iter().filter(|symbol| {
            symbol.section == UNDEFINED && symbol.kind != elf::STT_FILE && !symbol.name.is_empty()
        });
        undefined
            .filter(|symbol| !symbol.local)
            .map(|symbol| symbol.name)
    }
}
