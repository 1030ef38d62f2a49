// SPDX-License-Identifier: GPL-2.0

//! As much of an ELF relocatable object as is needed to change its relocations.
//!
//! What grows is appended to the file, and the section header table is written anew behind it. So the sections that are
//! not concerned keep their contents, indices and places.

use object::{
    elf::{self, FileHeader64, Rela64, SectionHeader64, Sym64},
    endian::{LittleEndian as LE, U16, U32, U64},
    pod,
    read::elf::FileHeader,
};

type Header = SectionHeader64<LE>;

/// A symbol that the module refers to.
#[derive(Debug)]
pub(crate) struct Undefined {
    pub(crate) name: String,
    pub(crate) weak: bool,
}

/// A symbol that is in a section of the module.
#[derive(Debug)]
pub(crate) struct Defined {
    pub(crate) name: String,
    /// Where it begins in the section.
    pub(crate) start: u64,
    /// 0 if that is not known.
    pub(crate) size: u64,
}

/// A relocation with addend.
#[derive(Clone, Copy)]
pub(crate) struct Rela(Rela64<LE>);

impl Rela {
    /// The index of the symbol.
    pub(crate) fn symbol(&self) -> usize {
        (self.0.r_info.get(LE) >> 32) as usize
    }

    /// The place that it changes, from the start of the section.
    pub(crate) fn offset(&self) -> u64 {
        self.0.r_offset.get(LE)
    }
}

/// A section of relocations.
pub(crate) struct RelocationSection {
    /// Its index.
    pub(crate) index: usize,
    /// The index of the section that they change.
    pub(crate) target: usize,
    pub(crate) relas: Vec<Rela>,
}

/// A relocatable object.
pub(crate) struct Elf<'a> {
    original: &'a [u8],
    header: FileHeader64<LE>,
    sections: Vec<Header>,
    /// New contents of sections, by index.
    contents: Vec<Option<Vec<u8>>>,
    symtab: usize,
    symbols: Vec<Sym64<LE>>,
    /// The section with the names of symbols.
    strtab: usize,
    /// The section with the names of sections. It may be the same.
    shstrtab: usize,
}

const TOO_MANY_SECTIONS: &str = "too many sections";

fn damaged(what: &str) -> String {
    format!("damaged: {what}")
}

impl<'a> Elf<'a> {
    /// Reads a 64-bit little-endian relocatable object.
    pub(crate) fn parse(file: &'a [u8]) -> Result<Self, String> {
        if !file.starts_with(&elf::ELFMAG) {
            return Err("not an ELF file".into());
        }
        let (header, _) = pod::from_bytes::<FileHeader64<LE>>(file)
            .map_err(|()| damaged("the file header is cut off"))?;
        let ident = header.e_ident();
        if ident.class != elf::ELFCLASS64 || ident.data != elf::ELFDATA2LSB {
            return Err("not a 64-bit little-endian file".into());
        }
        if header.e_type.get(LE) != elf::ET_REL {
            return Err("not a relocatable object, so not a kernel module".into());
        }

        // Such files keep numbers of sections in other places. A module never needs that many.
        if header.e_shnum.get(LE) == 0 && header.e_shoff.get(LE) != 0
            || header.e_shnum.get(LE) >= elf::SHN_LORESERVE
            || header.e_shstrndx.get(LE) == elf::SHN_XINDEX
        {
            return Err(TOO_MANY_SECTIONS.into());
        }
        let count = usize::from(header.e_shnum.get(LE));
        if usize::from(header.e_shentsize.get(LE)) != size_of::<Header>() || count == 0 {
            return Err(damaged("no section headers, or of the wrong size"));
        }
        let table = usize::try_from(header.e_shoff.get(LE))
            .ok()
            .and_then(|start| file.get(start..));
        let (sections, _) = table
            .and_then(|table| pod::slice_from_bytes::<Header>(table, count).ok())
            .ok_or_else(|| damaged("the section headers are cut off"))?;

        let mut this = Self {
            original: file,
            header: *header,
            sections: sections.to_vec(),
            contents: vec![None; count],
            symtab: 0,
            symbols: Vec::new(),
            strtab: 0,
            shstrtab: usize::from(header.e_shstrndx.get(LE)),
        };
        // What is appended must not become contents of a section that was cut off.
        for index in 0..count {
            this.data(index)?;
        }
        if sections
            .iter()
            .any(|section| section.sh_type.get(LE) == elf::SHT_SYMTAB_SHNDX)
        {
            return Err(TOO_MANY_SECTIONS.into());
        }
        this.check_string_table(this.shstrtab)?;
        let mut tables =
            (0..count).filter(|index| sections[*index].sh_type.get(LE) == elf::SHT_SYMTAB);
        this.symtab = tables.next().ok_or("no symbol table")?;
        if tables.next().is_some() {
            return Err("more than one symbol table".into());
        }
        this.symbols = this.records(this.symtab)?.to_vec();
        if this
            .symbols
            .iter()
            .any(|symbol| symbol.st_shndx.get(LE) == elf::SHN_XINDEX)
        {
            return Err(TOO_MANY_SECTIONS.into());
        }
        this.strtab = sections[this.symtab].sh_link.get(LE) as usize;
        this.check_string_table(this.strtab)?;
        Ok(this)
    }

    fn check_string_table(&self, index: usize) -> Result<(), String> {
        match self.sections.get(index) {
            Some(section) if section.sh_type.get(LE) == elf::SHT_STRTAB => Ok(()),
            _ => Err(damaged("a string table is missing")),
        }
    }

    /// The present contents of a section.
    fn data(&self, index: usize) -> Result<&[u8], String> {
        let section = self
            .sections
            .get(index)
            .ok_or_else(|| damaged("a section that does not exist is referred to"))?;
        if let Some(Some(contents)) = self.contents.get(index) {
            return Ok(contents);
        }
        if matches!(section.sh_type.get(LE), elf::SHT_NULL | elf::SHT_NOBITS) {
            return Ok(&[]);
        }
        let range = || {
            let start = usize::try_from(section.sh_offset.get(LE)).ok()?;
            let end = start.checked_add(usize::try_from(section.sh_size.get(LE)).ok()?)?;
            self.original.get(start..end)
        };
        range().ok_or_else(|| damaged("the contents of a section are cut off"))
    }

    /// The contents of a section as records of one type.
    fn records<T: pod::Pod>(&self, index: usize) -> Result<&[T], String> {
        let data = self.data(index)?;
        if data.len() % size_of::<T>() != 0 {
            return Err(damaged("a table ends in the middle of an entry"));
        }
        let (records, _) = pod::slice_from_bytes(data, data.len() / size_of::<T>())
            .map_err(|()| damaged("a table is not aligned"))?;
        Ok(records)
    }

    /// The name of a section.
    pub(crate) fn section_name(&self, index: usize) -> Result<String, String> {
        let section = self
            .sections
            .get(index)
            .ok_or_else(|| damaged("a section that does not exist is referred to"))?;
        string(self.data(self.shstrtab)?, section.sh_name.get(LE))
    }

    /// The contents of the section called `name`.
    pub(crate) fn section_data(&self, name: &str) -> Result<Option<&[u8]>, String> {
        for index in 1..self.sections.len() {
            if self.section_name(index)? == name {
                return self.data(index).map(Some);
            }
        }
        Ok(None)
    }

    /// The symbols that are not defined in the module, with their indices.
    pub(crate) fn undefined_symbols(
        &self,
    ) -> Result<impl Iterator<Item = Result<(usize, Undefined), String>> + '_, String> {
        let strings = self.data(self.strtab)?;
        let symbols = self.symbols.iter().enumerate().skip(1);
        let undefined = symbols.filter(|(_, symbol)| symbol.st_shndx.get(LE) == elf::SHN_UNDEF);
        Ok(undefined.map(move |(index, symbol)| {
            let name = string(strings, symbol.st_name.get(LE))?;
            let weak = symbol.st_bind() == elf::STB_WEAK;
            Ok((index, Undefined { name, weak }))
        }))
    }

    /// The functions and data in a section. Names that are damaged are left out.
    pub(crate) fn defined_symbols(&self, section: usize) -> Result<Vec<Defined>, String> {
        let strings = self.data(self.strtab)?;
        let symbols = self.symbols.iter().filter(|symbol| {
            usize::from(symbol.st_shndx.get(LE)) == section
                && !matches!(symbol.st_type(), elf::STT_SECTION | elf::STT_FILE)
        });
        let defined = symbols.filter_map(|symbol| {
            Some(Defined {
                name: string(strings, symbol.st_name.get(LE)).ok()?,
                start: symbol.st_value.get(LE),
                size: symbol.st_size.get(LE),
            })
        });
        Ok(defined.filter(|symbol| !symbol.name.is_empty()).collect())
    }

    /// The sections with relocations of what is loaded. Livepatch relocations are not among them.
    pub(crate) fn relocation_sections(&self) -> Result<Vec<RelocationSection>, String> {
        let mut found = Vec::new();
        let mut size = 0;
        for (index, section) in self.sections.iter().enumerate() {
            let (kind, flags) = (section.sh_type.get(LE), section.sh_flags.get(LE));
            if !matches!(kind, elf::SHT_REL | elf::SHT_RELA)
                || flags & crate::SHF_RELA_LIVEPATCH != 0
            {
                continue;
            }
            let target = section.sh_info.get(LE) as usize;
            let changed = self
                .sections
                .get(target)
                .ok_or_else(|| damaged("relocations of a section that does not exist"))?;
            if changed.sh_flags.get(LE) & u64::from(elf::SHF_ALLOC) == 0 {
                continue;
            }
            if kind == elf::SHT_REL {
                return Err("relocations without addends, which no livepatch can have".into());
            }
            if section.sh_link.get(LE) as usize != self.symtab {
                return Err(damaged("relocations that refer to no symbol table"));
            }
            // Else a small file could make us hold the same relocations very often.
            size += self.data(index)?.len();
            if size > self.original.len() {
                return Err(damaged("sections overlap"));
            }
            let relas: Vec<_> = self.records(index)?.iter().copied().map(Rela).collect();
            if relas.iter().any(|rela| rela.symbol() >= self.symbols.len()) {
                return Err(damaged("a relocation against a symbol that does not exist"));
            }
            found.push(RelocationSection {
                index,
                target,
                relas,
            });
        }
        Ok(found)
    }

    /// Sets the relocations in a section, of which there are not more than before.
    pub(crate) fn set_relocations(&mut self, index: usize, relas: &[Rela]) -> Result<(), String> {
        let contents = bytes_of(relas);
        if contents.len() != self.data(index)?.len() {
            self.contents[index] = Some(contents);
        }
        Ok(())
    }

    /// Gives a symbol a new name and section.
    pub(crate) fn rename_symbol(
        &mut self,
        index: usize,
        name: &str,
        section: u16,
    ) -> Result<(), String> {
        let at = self.append_string(self.strtab, name)?;
        let symbol = self
            .symbols
            .get_mut(index)
            .ok_or_else(|| damaged("a symbol that does not exist"))?;
        symbol.st_name = U32::new(LE, at);
        symbol.st_shndx = U16::new(LE, section);
        Ok(())
    }

    /// Adds a section of relocations for `target`.
    pub(crate) fn add_relocation_section(
        &mut self,
        name: &str,
        target: usize,
        flags: u64,
        relas: &[Rela],
    ) -> Result<(), String> {
        let at = self.append_string(self.shstrtab, name)?;
        let index = |index| u32::try_from(index).map_err(|_| TOO_MANY_SECTIONS);
        self.sections.push(Header {
            sh_name: U32::new(LE, at),
            sh_type: U32::new(LE, elf::SHT_RELA),
            sh_flags: U64::new(LE, flags | u64::from(elf::SHF_ALLOC | elf::SHF_INFO_LINK)),
            sh_addr: U64::new(LE, 0),
            sh_offset: U64::new(LE, 0),
            sh_size: U64::new(LE, 0),
            sh_link: U32::new(LE, index(self.symtab)?),
            sh_info: U32::new(LE, index(target)?),
            sh_addralign: U64::new(LE, 8),
            sh_entsize: U64::new(LE, size_of::<Rela64<LE>>() as u64),
        });
        self.contents.push(Some(bytes_of(relas)));
        Ok(())
    }

    /// Adds a string to a table; returns where it is.
    fn append_string(&mut self, table: usize, string: &str) -> Result<u32, String> {
        let mut strings = match self.contents[table].take() {
            Some(strings) => strings,
            None => self.data(table)?.to_vec(),
        };
        // The table's last string may lack its end if no name refers to it.
        if strings.last().is_some_and(|byte| *byte != 0) {
            strings.push(0);
        }
        let at = u32::try_from(strings.len()).map_err(|_| damaged("a string table is too long"))?;
        strings.extend_from_slice(string.as_bytes());
        strings.push(0);
        self.contents[table] = Some(strings);
        Ok(at)
    }

    /// The file with all changes.
    pub(crate) fn write(mut self) -> Result<Vec<u8>, String> {
        self.contents[self.symtab] = Some(pod::bytes_of_slice(&self.symbols).to_vec());
        let mut file = self.original.to_vec();
        for (section, contents) in self.sections.iter_mut().zip(&self.contents) {
            let Some(contents) = contents else {
                continue;
            };
            let (start, size) = (section.sh_offset.get(LE), section.sh_size.get(LE));
            let place = file.get_mut(start as usize..(start + size) as usize);
            match place {
                Some(place) if contents.len() <= place.len() => {
                    let (new, rest) = place.split_at_mut(contents.len());
                    new.copy_from_slice(contents);
                    rest.fill(0);
                }
                _ => {
                    align(&mut file);
                    section.sh_offset = U64::new(LE, file.len() as u64);
                    file.extend_from_slice(contents);
                }
            }
            section.sh_size = U64::new(LE, contents.len() as u64);
        }
        align(&mut file);
        self.header.e_shoff = U64::new(LE, file.len() as u64);
        let count = u16::try_from(self.sections.len())
            .ok()
            .filter(|count| *count < elf::SHN_LORESERVE);
        self.header.e_shnum = U16::new(LE, count.ok_or(TOO_MANY_SECTIONS)?);
        file.extend_from_slice(pod::bytes_of_slice(&self.sections));
        file[..size_of::<FileHeader64<LE>>()].copy_from_slice(pod::bytes_of(&self.header));
        Ok(file)
    }
}

/// The NUL-terminated string at `offset`.
fn string(table: &[u8], offset: u32) -> Result<String, String> {
    let rest = table.get(offset as usize..);
    let end = rest.and_then(|rest| rest.iter().position(|byte| *byte == 0));
    match (rest, end) {
        (Some(rest), Some(end)) => Ok(String::from_utf8_lossy(&rest[..end]).into_owned()),
        _ => Err(damaged("a name is cut off")),
    }
}

fn bytes_of(relas: &[Rela]) -> Vec<u8> {
    relas
        .iter()
        .flat_map(|rela| pod::bytes_of(&rela.0))
        .copied()
        .collect()
}

fn align(file: &mut Vec<u8>) {
    file.resize(file.len().next_multiple_of(8), 0);
}
