// SPDX-License-Identifier: GPL-2.0

//! A relocatable ELF file: its sections, symbols and relocations, and what pointers in it point to.

use std::{borrow::Cow, collections::HashMap};

use klp_convert::{SHF_RELA_LIVEPATCH, SHN_LIVEPATCH};
use object::{
    elf::{self, FileHeader64, Rela64},
    endian::LittleEndian as LE,
    pod,
    read::{
        elf::{FileHeader, SectionHeader, Sym},
        SectionIndex,
    },
};

/// A section.
#[derive(Debug)]
pub(crate) struct Section<'data> {
    pub(crate) name: Cow<'data, str>,
    pub(crate) kind: u32,
    pub(crate) flags: u64,
    /// Empty if it occupies no space in the file.
    pub(crate) data: &'data [u8],
    /// As it is in memory.
    pub(crate) size: u64,
    link: usize,
    info: usize,
}

impl Section<'_> {
    /// Whether the section is part of the loaded module.
    pub(crate) fn is_loaded(&self) -> bool {
        self.flags & u64::from(elf::SHF_ALLOC) != 0
    }

    /// Whether the section holds code.
    pub(crate) fn is_code(&self) -> bool {
        self.flags & u64::from(elf::SHF_EXECINSTR) != 0
    }

    /// Whether its memory is given back when the module has been initialised, as the kernel's
    /// `module_init_section()` tells it.
    pub(crate) fn is_init(&self) -> bool {
        self.name.starts_with(".init")
    }
}

/// Where a symbol is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Home {
    /// In another object.
    Undefined,
    /// It is for a livepatch relocation.
    Livepatch,
    /// In the section of this index.
    Section(usize),
    /// Nowhere yet: the linker was to find a place for it.
    Common,
    /// Nowhere in particular, such as an absolute value.
    Other,
}

/// A symbol.
#[derive(Debug)]
pub(crate) struct Symbol<'data> {
    pub(crate) name: Cow<'data, str>,
    pub(crate) home: Home,
    pub(crate) value: u64,
    pub(crate) size: u64,
    pub(crate) kind: u8,
    pub(crate) weak: bool,
}

/// A relocation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reloc {
    /// What it changes, from the start of the section.
    pub(crate) offset: u64,
    /// The index of the symbol.
    pub(crate) symbol: usize,
    /// How it is written, which depends on the architecture.
    pub(crate) kind: u32,
    pub(crate) addend: i64,
}

/// A section of livepatch relocations.
#[derive(Debug)]
pub(crate) struct LivepatchRelocs {
    /// The index of the section that has them.
    pub(crate) section: usize,
    /// The index of the section that they change.
    pub(crate) target: usize,
    pub(crate) relocs: Vec<Reloc>,
}

/// A place in a section.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Place {
    pub(crate) section: usize,
    pub(crate) offset: u64,
}

/// A kernel module's file.
#[derive(Debug)]
pub(crate) struct File<'data> {
    pub(crate) sections: Vec<Section<'data>>,
    pub(crate) symbols: Vec<Symbol<'data>>,
    /// Ordinary relocations, by the index of the section that they change, in the order of their
    /// places.
    relocs: HashMap<usize, Vec<Reloc>>,
    pub(crate) livepatch: Vec<LivepatchRelocs>,
    /// The functions and data that begin at a place, by their indices.
    starts: HashMap<Place, usize>,
    /// The data of a known size that begins at a place.
    data: HashMap<Place, usize>,
}

/// Longer strings are of no use as names, and the kernel takes none: what is read of them is too
/// long, too.
const LONGEST: usize = 512;

fn damaged(error: object::Error) -> String {
    error.to_string()
}

impl<'data> File<'data> {
    /// Reads a 64-bit little-endian relocatable file.
    ///
    /// # Errors
    ///
    /// What is wrong with it, in words.
    pub(crate) fn parse(data: &'data [u8]) -> Result<Self, String> {
        let header = FileHeader64::<LE>::parse(data).map_err(damaged)?;
        header.endian().map_err(damaged)?;
        if header.e_type.get(LE) != elf::ET_REL {
            return Err("not a relocatable file".into());
        }
        let table = header.sections(LE, data).map_err(damaged)?;
        let mut sections = Vec::with_capacity(table.len());
        for section in table.iter() {
            let name = table.section_name(LE, section).map_err(damaged)?;
            sections.push(Section {
                name: String::from_utf8_lossy(name),
                kind: section.sh_type(LE),
                flags: section.sh_flags(LE),
                data: section.data(LE, data).map_err(damaged)?,
                size: section.sh_size(LE),
                link: section.sh_link(LE) as usize,
                info: section.sh_info(LE) as usize,
            });
        }

        let strings = table.symbols(LE, data, elf::SHT_SYMTAB).map_err(damaged)?;
        let mut symbols = Vec::with_capacity(strings.len());
        for symbol in strings.iter() {
            let name = strings.symbol_name(LE, symbol).map_err(damaged)?;
            let home = match symbol.st_shndx(LE) {
                elf::SHN_UNDEF => Home::Undefined,
                SHN_LIVEPATCH => Home::Livepatch,
                elf::SHN_COMMON => Home::Common,
                index if index < elf::SHN_LORESERVE => {
                    table.section(SectionIndex(index.into())).map_err(damaged)?;
                    Home::Section(index.into())
                }
                _ => Home::Other,
            };
            symbols.push(Symbol {
                name: String::from_utf8_lossy(name),
                home,
                value: symbol.st_value(LE),
                size: symbol.st_size(LE),
                kind: symbol.st_type(),
                weak: symbol.st_bind() == elf::STB_WEAK,
            });
        }

        let mut this = Self {
            sections,
            symbols,
            relocs: HashMap::new(),
            livepatch: vec![],
            starts: HashMap::new(),
            data: HashMap::new(),
        };
        this.index_symbols();
        this.read_relocs(strings.section().0, data.len())?;
        Ok(this)
    }

    fn index_symbols(&mut self) {
        for (index, symbol) in self.symbols.iter().enumerate() {
            let Home::Section(section) = symbol.home else {
                continue;
            };
            let place = Place {
                section,
                offset: symbol.value,
            };
            let kinds = [elf::STT_FUNC, elf::STT_OBJECT, elf::STT_NOTYPE];
            if kinds.contains(&symbol.kind) && !symbol.name.is_empty() {
                self.starts.entry(place).or_insert(index);
            }
            if symbol.kind == elf::STT_OBJECT && symbol.size != 0 {
                self.data.entry(place).or_insert(index);
            }
        }
    }

    fn read_relocs(&mut self, symtab: usize, size: usize) -> Result<(), String> {
        let mut read = 0;
        for (index, section) in self.sections.iter().enumerate() {
            if section.kind != elf::SHT_RELA || section.link != symtab {
                continue;
            }
            let count = section.data.len() / size_of::<Rela64<LE>>();
            // Else a small file could make us hold the same relocations very often.
            read += section.data.len();
            if read > size {
                return Err("sections overlap".into());
            }
            let (relas, _) = pod::slice_from_bytes::<Rela64<LE>>(section.data, count)
                .map_err(|()| "relocations are not aligned")?;
            let mut relocs = Vec::with_capacity(count);
            for rela in relas {
                let info = rela.r_info.get(LE);
                let symbol = (info >> 32) as usize;
                if symbol >= self.symbols.len() {
                    return Err("a relocation against a symbol that does not exist".into());
                }
                relocs.push(Reloc {
                    offset: rela.r_offset.get(LE),
                    symbol,
                    // CAST: The type is in the lower half.
                    kind: info as u32,
                    addend: rela.r_addend.get(LE),
                });
            }
            let target = section.info;
            if target >= self.sections.len() {
                return Err("relocations of a section that does not exist".into());
            }
            if section.flags & SHF_RELA_LIVEPATCH != 0 {
                self.livepatch.push(LivepatchRelocs {
                    section: index,
                    target,
                    relocs,
                });
            } else {
                self.relocs.entry(target).or_default().extend(relocs);
            }
        }
        for relocs in self.relocs.values_mut() {
            relocs.sort_by_key(|reloc| reloc.offset);
        }
        Ok(())
    }

    /// The index of the section of this name.
    pub(crate) fn section(&self, name: &str) -> Option<usize> {
        self.sections
            .iter()
            .position(|section| section.name == name)
    }

    /// The ordinary relocations of a section, in the order of their places.
    pub(crate) fn relocs(&self, section: usize) -> &[Reloc] {
        self.relocs.get(&section).map_or(&[], Vec::as_slice)
    }

    /// The ordinary relocations in a part of a section.
    pub(crate) fn relocs_in(&self, start: Place, size: u64) -> &[Reloc] {
        let relocs = self.relocs(start.section);
        let end = start.offset.saturating_add(size);
        let first = relocs.partition_point(|reloc| reloc.offset < start.offset);
        let last = relocs.partition_point(|reloc| reloc.offset < end);
        &relocs[first..last.max(first)]
    }

    /// The relocation of exactly this place.
    pub(crate) fn reloc_at(&self, place: Place) -> Option<&Reloc> {
        self.relocs_in(place, 1).first()
    }

    /// The place in the file that a relocation of data refers to.
    pub(crate) fn referent(&self, reloc: &Reloc) -> Option<Place> {
        let symbol = &self.symbols[reloc.symbol];
        let Home::Section(section) = symbol.home else {
            return None;
        };
        Some(Place {
            section,
            offset: symbol.value.checked_add_signed(reloc.addend)?,
        })
    }

    /// The place that a relocation of code refers to, less the distance that the processor adds:
    /// it may be in front of the section, and is a number modulo 2^64 then.
    pub(crate) fn referent_of_code(&self, reloc: &Reloc) -> Option<Place> {
        let symbol = &self.symbols[reloc.symbol];
        let Home::Section(section) = symbol.home else {
            return None;
        };
        Some(Place {
            section,
            offset: symbol.value.wrapping_add_signed(reloc.addend),
        })
    }

    /// The place that the pointer at `place` points to.
    pub(crate) fn pointer(&self, place: Place) -> Option<Place> {
        self.referent(self.reloc_at(place)?)
    }

    /// The string at a place, or its beginning if it is too long for a name.
    pub(crate) fn string(&self, place: Place) -> Option<String> {
        let data = self.sections.get(place.section)?.data;
        let text = data.get(usize::try_from(place.offset).ok()?..)?;
        let text = text.get(..LONGEST).unwrap_or(text);
        let end = text.iter().position(|byte| *byte == 0);
        let end = end.or((text.len() == LONGEST).then_some(LONGEST))?;
        String::from_utf8(text[..end].to_vec()).ok()
    }

    /// The number at a place that no relocation changes.
    pub(crate) fn number<const SIZE: usize>(&self, place: Place) -> Option<u64> {
        let section = self.sections.get(place.section)?;
        let start = usize::try_from(place.offset).ok()?;
        let end = start.checked_add(SIZE)?;
        if section.kind == elf::SHT_NOBITS {
            return (end as u64 <= section.size).then_some(0);
        }
        let bytes = section.data.get(start..end)?;
        let mut number = [0; 8];
        number.get_mut(..SIZE)?.copy_from_slice(bytes);
        Some(u64::from_le_bytes(number))
    }

    /// The function that begins at a place, or the data.
    pub(crate) fn symbol_at(&self, place: Place) -> Option<&Symbol<'data>> {
        self.starts.get(&place).map(|index| &self.symbols[*index])
    }

    /// The data of a known size that begins at a place.
    pub(crate) fn data_at(&self, place: Place) -> Option<&Symbol<'data>> {
        self.data.get(&place).map(|index| &self.symbols[*index])
    }
}

impl Place {
    /// A place behind this one.
    pub(crate) fn plus(self, distance: u64) -> Option<Self> {
        Some(Self {
            section: self.section,
            offset: self.offset.checked_add(distance)?,
        })
    }
}
