// SPDX-License-Identifier: GPL-2.0

//! Makes small modules, and reads them back.

#![allow(
    dead_code,
    reason = "each of the programs with tests uses a part of it"
)]

pub const SHT_PROGBITS: u32 = 1;
pub const SHT_SYMTAB: u32 = 2;
pub const SHT_STRTAB: u32 = 3;
pub const SHT_RELA: u32 = 4;
pub const SHT_REL: u32 = 9;
pub const SHF_ALLOC: u64 = 2;
pub const SHF_INFO_LINK: u64 = 0x40;
pub const GLOBAL: u8 = 0x10;

/// A section, with its name spelled out.
#[derive(Clone, Debug, PartialEq)]
pub struct Section {
    pub name: String,
    pub kind: u32,
    pub flags: u64,
    pub link: u32,
    pub info: u32,
    pub data: Vec<u8>,
}

/// A relocation: where, against which symbol, of which type, with which addend.
pub type Rela = (u64, u32, u32, i64);

/// A module to be made. Sections: 0 null, then `sections`, then symbol table, symbols' names, sections' names.
#[derive(Clone, Default)]
pub struct Module {
    pub sections: Vec<Section>,
    symbols: Vec<Symbol>,
}

#[derive(Clone)]
struct Symbol {
    name: String,
    /// Binding and type.
    info: u8,
    section: u16,
    value: u64,
    size: u64,
}

pub fn relas_to_bytes(relas: &[Rela]) -> Vec<u8> {
    let mut data = vec![];
    for (offset, symbol, kind, addend) in relas {
        data.extend(offset.to_le_bytes());
        data.extend((u64::from(*symbol) << 32 | u64::from(*kind)).to_le_bytes());
        data.extend(addend.to_le_bytes());
    }
    data
}

impl Module {
    /// A module marked as a livepatch, with code.
    pub fn new() -> Self {
        let mut this = Self::default();
        this.section(
            ".modinfo",
            SHT_PROGBITS,
            SHF_ALLOC,
            b"license=GPL\0livepatch=Y\0",
        );
        this.section(".text", SHT_PROGBITS, SHF_ALLOC | 4, &[0x90; 64]);
        this
    }

    pub fn section(&mut self, name: &str, kind: u32, flags: u64, data: &[u8]) -> usize {
        self.sections.push(Section {
            name: name.into(),
            kind,
            flags,
            link: 0,
            info: 0,
            data: data.into(),
        });
        self.sections.len()
    }

    /// Relocations of the section called `target`.
    pub fn relas(&mut self, target: &str, relas: &[Rela]) {
        let info = self
            .sections
            .iter()
            .position(|section| section.name == target)
            .unwrap()
            + 1;
        let index = self.section(
            &format!(".rela{target}"),
            SHT_RELA,
            SHF_INFO_LINK,
            &relas_to_bytes(relas),
        );
        self.sections[index - 1].info = info as u32;
    }

    /// A symbol; returns its index.
    pub fn symbol(&mut self, name: &str, binding: u8, section: u16) -> u32 {
        self.symbol_at(name, binding, section, 0, 0)
    }

    /// A symbol with its place and size.
    pub fn symbol_at(&mut self, name: &str, info: u8, section: u16, value: u64, size: u64) -> u32 {
        self.symbols.push(Symbol {
            name: name.into(),
            info,
            section,
            value,
            size,
        });
        self.symbols.len() as u32
    }

    pub fn build(&self) -> Vec<u8> {
        let symtab = self.sections.len() as u32 + 1;
        let (mut table, mut strings) = (vec![0; 24], vec![0]);
        for symbol in &self.symbols {
            table.extend((strings.len() as u32).to_le_bytes());
            table.extend([symbol.info, 0]);
            table.extend(symbol.section.to_le_bytes());
            table.extend(symbol.value.to_le_bytes());
            table.extend(symbol.size.to_le_bytes());
            strings.extend(symbol.name.bytes().chain([0]));
        }
        let mut all = self.sections.clone();
        for section in all
            .iter_mut()
            .filter(|section| matches!(section.kind, SHT_RELA | SHT_REL))
        {
            section.link = symtab;
        }
        let mut push = |name: &str, kind, link, data: &[u8]| {
            all.push(Section {
                name: name.into(),
                kind,
                flags: 0,
                link,
                info: 1,
                data: data.into(),
            })
        };
        push(".symtab", SHT_SYMTAB, symtab + 1, &table);
        push(".strtab", SHT_STRTAB, 0, &strings);
        push(".shstrtab", SHT_STRTAB, 0, &[]);
        let mut names = vec![0];
        let mut offsets = vec![];
        for section in &all {
            offsets.push(names.len() as u32);
            names.extend(section.name.bytes().chain([0]));
        }
        all.last_mut().unwrap().data = names;

        let mut file = vec![0; 64];
        let mut headers = vec![0; 64];
        for (section, name) in all.iter().zip(offsets) {
            file.resize(file.len().next_multiple_of(8), 0);
            headers.extend(name.to_le_bytes());
            headers.extend(section.kind.to_le_bytes());
            headers.extend(section.flags.to_le_bytes());
            headers.extend(0u64.to_le_bytes());
            headers.extend((file.len() as u64).to_le_bytes());
            headers.extend((section.data.len() as u64).to_le_bytes());
            headers.extend(section.link.to_le_bytes());
            headers.extend(section.info.to_le_bytes());
            headers.extend(8u64.to_le_bytes());
            headers.extend(if section.kind == SHT_RELA { 24u64 } else { 0 }.to_le_bytes());
            file.extend(&section.data);
        }
        file.resize(file.len().next_multiple_of(8), 0);
        let at = file.len() as u64;
        file[..20].copy_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x01\0\x3e\0");
        file[40..48].copy_from_slice(&at.to_le_bytes());
        file[52..54].copy_from_slice(&64u16.to_le_bytes());
        file[58..60].copy_from_slice(&64u16.to_le_bytes());
        file[60..62].copy_from_slice(&(all.len() as u16 + 1).to_le_bytes());
        file[62..64].copy_from_slice(&(all.len() as u16).to_le_bytes());
        file.extend(headers);
        file
    }
}

/// Reads a file back: its sections, and its symbols as name and section.
pub fn read(file: &[u8]) -> (Vec<Section>, Vec<(String, u16)>) {
    let word = |at: usize| u64::from_le_bytes(file[at..at + 8].try_into().unwrap());
    let half = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().unwrap());
    let short = |at: usize| u16::from_le_bytes(file[at..at + 2].try_into().unwrap());
    let string = |table: &[u8], at: u32| {
        let rest = &table[at as usize..];
        let end = rest.iter().position(|byte| *byte == 0).unwrap();
        String::from_utf8(rest[..end].into()).unwrap()
    };
    let table = word(40) as usize;
    let count = usize::from(short(60));
    let data = |index: usize| {
        let at = table + index * 64;
        let start = word(at + 24) as usize;
        file[start..start + word(at + 32) as usize].to_vec()
    };
    let names = data(usize::from(short(62)));
    let sections: Vec<_> = (0..count)
        .map(|index| {
            let at = table + index * 64;
            Section {
                name: string(&names, half(at)),
                kind: half(at + 4),
                flags: word(at + 8),
                link: half(at + 40),
                info: half(at + 44),
                data: data(index),
            }
        })
        .collect();
    let symtab = sections
        .iter()
        .find(|section| section.kind == SHT_SYMTAB)
        .unwrap();
    let strings = &sections[symtab.link as usize].data;
    let symbols = symtab.data.chunks(24);
    let symbols = symbols
        .map(|symbol| {
            let name = u32::from_le_bytes(symbol[..4].try_into().unwrap());
            let section = u16::from_le_bytes(symbol[6..8].try_into().unwrap());
            (string(strings, name), section)
        })
        .collect();
    (sections, symbols)
}

/// Two listed symbols, one that is not, one that is defined in the module; relocations of code and data.
pub fn example() -> Module {
    let mut module = Module::new();
    module.section(".data", SHT_PROGBITS, SHF_ALLOC | 1, &[0; 32]);
    module.section(".debug_info", SHT_PROGBITS, 0, &[0; 32]);
    let exported = module.symbol("printk", GLOBAL, 0);
    let hidden = module.symbol("hidden", GLOBAL, 0);
    let other = module.symbol("other", GLOBAL, 0);
    let own = module.symbol("own", GLOBAL, 2);
    module.relas(
        ".text",
        &[
            (0, exported, 4, -4),
            (8, hidden, 4, -4),
            (16, own, 2, 0),
            (24, other, 4, -4),
            (32, hidden, 11, 7),
        ],
    );
    module.relas(".data", &[(0, other, 1, 5)]);
    module.relas(".debug_info", &[(0, hidden, 1, 0)]);
    module
}
