// SPDX-License-Identifier: GPL-2.0

//! The symbols of the kernel and of modules, as far as files tell.
//!
//! | file | addresses | modules | source files |
//! | --- | --- | --- | --- |
//! | System.map | yes | no | no |
//! | /proc/kallsyms | for root | those that are loaded | no |
//! | the file that is booted | yes | no | no |
//! | vmlinux, or a module, not stripped | yes | itself | of static symbols, without directory |
//! | vmlinux with DWARF | yes | no | with directory |
//!
//! A livepatch relocation names one of several symbols by its position. The kernel counts those of
//! vmlinux by ascending address, and those of a module in the order of its symbol table, both from
//! 1.

use std::{
    collections::{HashMap, HashSet},
    path::Path,
};

use object::{
    elf::{self, FileHeader64},
    endian::LittleEndian as LE,
    read::{
        elf::{FileHeader, Sym},
        ReadRef, SectionIndex,
    },
};

use crate::{dwarf, symbols::lines};

/// The source file that defines a symbol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Unknown,
    /// Its name without a directory, as symbol tables have it.
    Name(String),
    /// Its path, as DWARF has it.
    Path(String),
}

/// One of the symbols of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Definition {
    /// 0 if it is not known.
    address: u64,
    function: bool,
    pub(crate) source: Source,
    /// Which of the object files that were linked it is from; 0 if that is not known.
    file: usize,
    /// It is gone when the object has been initialised.
    pub(crate) init: bool,
}

impl Definition {
    /// For people.
    pub(crate) fn describe(&self) -> String {
        let kind = if self.function { "function" } else { "data" };
        let source = match &self.source {
            Source::Unknown => "",
            Source::Name(name) | Source::Path(name) => name,
        };
        let line = match self.address {
            0 => format!("{kind:<9}{source}"),
            address => format!("{address:016x} {kind:<9}{source}"),
        };
        line.trim_end().into()
    }
}

type Table = HashMap<String, Vec<Definition>>;

/// The symbols of vmlinux, of modules, or of both.
#[derive(Clone, Debug, Default)]
pub struct SymbolMap(HashMap<String, Table>);

impl SymbolMap {
    /// Reads lines of address, type and name, as in System.map and /proc/kallsyms.
    ///
    /// # Errors
    ///
    /// The number of a line and what is wrong with it.
    pub fn parse(file: &[u8]) -> Result<Self, String> {
        let mut map = Self::default();
        let mut vmlinux = Table::default();
        for (number, line) in lines(file)? {
            let mut fields = line.split_ascii_whitespace();
            let (Some(address), Some(kind), Some(name)) =
                (fields.next(), fields.next(), fields.next())
            else {
                return Err(format!("{number}: expected address, type and name"));
            };
            let Ok(address) = u64::from_str_radix(address, 16) else {
                return Err(format!("{number}: '{address}' is no address"));
            };
            if kind.len() != 1 {
                return Err(format!("{number}: '{kind}' is no type"));
            }
            let table = match (fields.next(), fields.next()) {
                (None, _) => &mut vmlinux,
                (Some(module), None) => {
                    let module = module.strip_prefix('[').and_then(|m| m.strip_suffix(']'));
                    let module = module.ok_or_else(|| after_the_name(number))?;
                    map.0.entry(module.into()).or_default()
                }
                _ => return Err(after_the_name(number)),
            };
            table.entry(name.into()).or_default().push(Definition {
                address,
                function: matches!(kind, "t" | "T" | "w" | "W"),
                source: Source::Unknown,
                file: 0,
                init: false,
            });
        }
        map.0.insert("vmlinux".into(), vmlinux);
        // Code that has no file and no symbol table, such as BPF programs.
        map.0
            .retain(|name, _| name != "bpf" && !name.starts_with("__builtin__"));
        map.sort_vmlinux();
        Ok(map)
    }

    /// Reads the symbol table of vmlinux, or that of the module `object`.
    ///
    /// # Errors
    ///
    /// What is wrong with the file.
    pub fn read_object<'data>(object: &str, data: impl ReadRef<'data>) -> Result<Self, String> {
        let error = |error: object::Error| error.to_string();
        let header = FileHeader64::<LE>::parse(data).map_err(error)?;
        let sections = header.sections(LE, data).map_err(error)?;
        let symbols = sections.symbols(LE, data, elf::SHT_SYMTAB).map_err(error)?;
        let mut table = Table::default();
        // The symbols of a file follow its name, those of all files come last.
        let (mut source, mut file) = (Source::Unknown, 0);
        for symbol in symbols.iter() {
            let name = symbols.symbol_name(LE, symbol).map_err(error)?;
            let name = String::from_utf8_lossy(name);
            if symbol.st_type() == elf::STT_FILE {
                source = match &*name {
                    "" => Source::Unknown,
                    name => Source::Name(name.into()),
                };
                file += 1;
                continue;
            }
            let section = symbol.st_shndx(LE);
            if section == elf::SHN_UNDEF || symbol.st_type() == elf::STT_SECTION || name.is_empty()
            {
                continue;
            }
            let local = symbol.st_bind() == elf::STB_LOCAL;
            let place = sections.section(SectionIndex(section.into())).ok();
            let place = place.and_then(|place| sections.section_name(LE, place).ok());
            table
                .entry(name.into_owned())
                .or_default()
                .push(Definition {
                    address: symbol.st_value(LE),
                    function: symbol.st_type() == elf::STT_FUNC,
                    source: if local {
                        source.clone()
                    } else {
                        Source::Unknown
                    },
                    file: if local { file } else { 0 },
                    init: place.is_some_and(|name| name.starts_with(b".init")),
                });
        }
        if table.is_empty() {
            return Err("no symbol table: it was stripped".into());
        }
        let mut map = Self(HashMap::from([(object.into(), table)]));
        map.sort_vmlinux();
        Ok(map)
    }

    /// Takes the source files of these symbols of vmlinux, with their directories, from its DWARF.
    ///
    /// Looks at the files that the symbol table names, and those in `from`.
    ///
    /// # Errors
    ///
    /// The DWARF is damaged or compressed. It may also be missing: then nothing changes.
    pub fn read_sources<'data>(
        &mut self,
        names: &HashSet<String>,
        from: &[String],
        data: impl ReadRef<'data>,
    ) -> Result<(), String> {
        let Some(table) = self.0.get_mut("vmlinux") else {
            return Ok(());
        };
        let several = |(name, definitions): &(&String, &mut Vec<Definition>)| {
            definitions.len() > 1 && names.contains(*name)
        };
        let mut files: HashSet<_> = from
            .iter()
            .filter_map(|path| Some(Path::new(path).file_name()?.to_string_lossy().into_owned()))
            .collect();
        for (_, definitions) in table.iter_mut().filter(several) {
            files.extend(
                definitions
                    .iter()
                    .filter_map(|definition| match &definition.source {
                        Source::Name(name) => Some(name.clone()),
                        _ => None,
                    }),
            );
        }
        if !table.iter_mut().any(|entry| several(&entry)) {
            return Ok(());
        }
        let paths = dwarf::paths(data, &files)?;

        // DWARF lacks the places of some symbols. One other symbol of the same object file will do.
        let mut of_files: HashMap<usize, Option<&String>> = HashMap::new();
        for definition in table.values().flatten() {
            if let Some(path) = paths.get(&definition.address) {
                of_files
                    .entry(definition.file)
                    .and_modify(|other| *other = other.filter(|other| *other == path))
                    .or_insert(Some(path));
            }
        }
        of_files.remove(&0);
        for definition in table
            .iter_mut()
            .filter(several)
            .flat_map(|(_, found)| found)
        {
            let path = match of_files.get(&definition.file) {
                Some(path) => *path,
                None => paths.get(&definition.address),
            };
            if let Some(path) = path {
                definition.source = Source::Path(path.clone());
            }
        }
        Ok(())
    }

    /// Whether it is of a kernel. Debian installs files that look so, but only say where to find
    /// the real one.
    pub fn is_of_kernel(&self) -> bool {
        !self.definitions("vmlinux", "_stext").is_empty()
    }

    /// Whether all symbols of the object are here.
    pub fn knows(&self, object: &str) -> bool {
        self.0.contains_key(object)
    }

    /// The symbols of this name in an object, in the order of their positions.
    pub(crate) fn definitions(&self, object: &str, name: &str) -> &[Definition] {
        let table = self.0.get(object);
        table
            .and_then(|table| table.get(name))
            .map_or(&[], Vec::as_slice)
    }

    /// The objects that have a symbol of this name, vmlinux first.
    pub(crate) fn objects_with(&self, name: &str) -> Vec<&str> {
        let with = self.0.iter().filter(|(_, table)| table.contains_key(name));
        let mut objects: Vec<_> = with.map(|(object, _)| object.as_str()).collect();
        objects.sort_by_key(|object| (*object != "vmlinux", *object));
        objects
    }

    /// Addresses that are not known are all the same, and leave the order of the file, which is
    /// that of the addresses.
    fn sort_vmlinux(&mut self) {
        for definitions in self
            .0
            .get_mut("vmlinux")
            .into_iter()
            .flat_map(Table::values_mut)
        {
            definitions.sort_by_key(|definition| definition.address);
        }
    }
}

fn after_the_name(number: usize) -> String {
    format!("{number}: expected nothing or a module after the name")
}

impl Source {
    /// Whether it is the file that the user calls `wanted`; `None` if that cannot be told.
    pub(crate) fn is(&self, wanted: &str) -> Option<bool> {
        match self {
            Self::Unknown => None,
            Self::Path(path) => Some(Path::new(path).ends_with(wanted)),
            Self::Name(name) => match Path::new(wanted).file_name() {
                Some(file) if file == name.as_str() => {
                    // Another directory may have a file of this name.
                    (!wanted.contains('/')).then_some(true)
                }
                _ => Some(false),
            },
        }
    }
}
