// SPDX-License-Identifier: GPL-2.0

//! What is known of the kernel that a patch is for.
//!
//! | file | symbols | sizes | init | ftrace |
//! | --- | --- | --- | --- | --- |
//! | `/proc/kallsyms`, System.map | yes | to the next symbol | by address | no |
//! | `available_filter_functions_addrs` | no | no | no | of `/proc/kallsyms` |
//! | vmlinux, not stripped | yes | yes | by section | from `__start_mcount_loc` on |
//! | the file that is booted | yes | to the next symbol | by address | from `__start_mcount_loc` on |
//! | a module's file | yes | yes | by section | `__mcount_loc` |
//!
//! `/proc/kallsyms` has the symbols of loaded modules, too, in the order of their symbol tables.

use std::collections::{BTreeMap, HashMap, HashSet};

use object::{
    elf::{self, FileHeader64},
    endian::LittleEndian as LE,
    read::{
        elf::{FileHeader, SectionHeader, Sym},
        ReadRef, SectionIndex,
    },
};

use crate::{
    exports::Exports,
    file::{File, Home, Place},
    inlined::Inlined,
    live::Live,
    types::Types,
};

/// A symbol of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Symbol {
    /// Where it is: an address, or a place in a file. 0 if that is not known.
    pub(crate) address: u64,
    /// [`None`] if it is not known.
    pub(crate) size: Option<u64>,
    pub(crate) function: bool,
    /// It is gone when the object has been initialised.
    pub(crate) init: bool,
}

/// Where ftrace can intercept calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Sites {
    /// At these places, and at some of the others; both in ascending order.
    Known { at: Vec<u64>, some: Vec<u64> },
    /// Nothing is known.
    Unknown,
}

/// The symbols of an object, and what ftrace can do there.
#[derive(Clone, Debug)]
pub struct Symbols {
    /// The file that tells, for people.
    pub(crate) source: String,
    /// Those of a name in the order of their positions.
    table: HashMap<String, Vec<Symbol>>,
    pub(crate) sites: Sites,
}

/// What is known of the signatures that a kernel demands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Signatures {
    /// Nothing.
    #[default]
    Unknown,
    /// It cannot check them.
    Ignored,
    /// It takes modules without, but none with a wrong one.
    Optional,
    /// It takes signed modules only.
    Demanded,
}

/// What is known of a kernel. What stays empty is not known.
#[derive(Debug, Default)]
pub struct Kernel {
    /// Its release.
    pub release: Option<String>,
    /// What it demands to stand in a module's `vermagic`.
    pub vermagic: Option<String>,
    /// The symbols of the kernel, and of modules.
    pub symbols: BTreeMap<String, Symbols>,
    /// What modules may use.
    pub exports: Option<Exports>,
    /// The types of the kernel's functions, and its structures.
    pub types: Option<Types>,
    /// Those of modules, by their names.
    pub module_types: HashMap<String, Types>,
    /// The files of modules whose symbols were read from files, for what else is in them.
    pub files: HashMap<String, Vec<u8>>,
    /// Into which functions of an object the functions of a patch were inlined, or why that is not
    /// known.
    pub inlined: HashMap<String, Result<Inlined, String>>,
    /// Why the file of a module that was found could not be read.
    pub unreadable: HashMap<String, String>,
    /// What goes on in it, if it is the running kernel.
    pub live: Option<Live>,
    /// The modules that are loaded, if it is the running kernel.
    pub loaded: Option<HashSet<String>>,
    /// All modules that the kernel has, if there is a list.
    pub modules: Option<HashSet<String>>,
    /// The modules that are part of the kernel itself.
    pub built_in: HashSet<String>,
    /// Which signatures it demands.
    pub signatures: Signatures,
    /// Whether it loads modules that do not say for which kernel they are (MODULE_FORCE_LOAD).
    pub loads_by_force: bool,
    /// Whether a reference to a symbol of a name space that is not imported is only warned of.
    pub lax_namespaces: bool,
}

impl Symbols {
    /// The symbols of a name, in the order of their positions.
    pub(crate) fn named(&self, name: &str) -> &[Symbol] {
        self.table.get(name).map_or(&[], Vec::as_slice)
    }

    /// The symbol that a patch means by a name and a position, which is 0 if there must be only one;
    /// [`None`] if there is no such symbol.
    pub(crate) fn chosen(&self, name: &str, position: u64) -> Option<&Symbol> {
        match (self.named(name), position) {
            ([only], 0) => Some(only),
            (found, position) => found.get(usize::try_from(position).ok()?.checked_sub(1)?),
        }
    }

    /// Tells the names of the functions at these addresses, and whether they are gone when the
    /// object has been initialised.
    pub(crate) fn describe_functions<'a>(&'a self, at: &mut HashMap<u64, (Option<&'a str>, bool)>) {
        for (name, symbols) in &self.table {
            for symbol in symbols.iter().filter(|symbol| symbol.function) {
                let Some((known, init)) = at.get_mut(&symbol.address) else {
                    continue;
                };
                *init |= symbol.init;
                // Of several names of a function, the same one each time.
                if known.is_none_or(|known| name.as_str() < known) {
                    *known = Some(name);
                }
            }
        }
    }

    /// All names.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.table.keys().map(String::as_str)
    }

    /// Whether ftrace can intercept calls of a function; [`None`] if that is not known.
    pub(crate) fn is_traceable(&self, symbol: &Symbol) -> Option<bool> {
        let Sites::Known { at, some } = &self.sites else {
            return None;
        };
        let size = symbol.size.filter(|_| symbol.address != 0)?;
        let has = |sites: &[u64]| {
            let first = sites.partition_point(|site| *site < symbol.address);
            let first = sites.get(first);
            first.is_some_and(|site| site - symbol.address < size)
        };
        match has(at) {
            false if has(some) => None,
            known => Some(known),
        }
    }

    /// The range of code between two symbols that a linker script defines that has an address.
    pub(crate) fn is_between(&self, start: &str, end: &str, address: u64) -> bool {
        match (self.named(start), self.named(end)) {
            ([start], [end]) => (start.address..end.address).contains(&address),
            _ => false,
        }
    }

    /// Reads lines of address, type, name and perhaps module: System.map and `/proc/kallsyms`.
    /// Returns the symbols of each object.
    ///
    /// # Errors
    ///
    /// The number of a line and what is wrong with it.
    pub fn parse(source: &str, text: &str) -> Result<BTreeMap<String, Self>, String> {
        let mut objects: BTreeMap<String, Vec<(String, Symbol)>> = BTreeMap::new();
        for (number, line) in (1..).zip(text.lines()) {
            let mut words = line.split_ascii_whitespace();
            let Some(address) = words.next() else {
                continue;
            };
            let address = u64::from_str_radix(address, 16)
                .map_err(|_| format!("{number}: '{address}' is no address"))?;
            let (Some(kind), Some(name)) = (words.next(), words.next()) else {
                return Err(format!("{number}: expected address, type and name"));
            };
            let object = words.next().unwrap_or("[vmlinux]");
            let symbol = Symbol {
                address,
                size: None,
                function: matches!(kind, "t" | "T" | "w" | "W"),
                init: false,
            };
            objects
                .entry(object.trim_matches(['[', ']']).into())
                .or_default()
                .push((name.into(), symbol));
        }
        let mut all = BTreeMap::new();
        for (object, mut symbols) in objects {
            // Code that has no file and no symbol table, such as BPF programs.
            if object == "bpf" || object.starts_with("__builtin__") {
                continue;
            }
            set_sizes(&mut symbols);
            if object == "vmlinux" {
                symbols.sort_by_key(|(_, symbol)| symbol.address);
            }
            let mut this = Self {
                source: source.into(),
                table: HashMap::new(),
                sites: Sites::Unknown,
            };
            for (name, symbol) in symbols {
                this.table.entry(name).or_default().push(symbol);
            }
            this.mark_init();
            all.insert(object, this);
        }
        Ok(all)
    }

    fn mark_init(&mut self) {
        // The second one holds the kernel's exit functions, too, and the originals of the per-CPU
        // variables, whose addresses stay meaningful.
        let per_cpu = match (self.named("__per_cpu_start"), self.named("__per_cpu_end")) {
            ([start], [end]) => start.address..end.address,
            _ => 0..0,
        };
        for (start, end) in [("_sinittext", "_einittext"), ("__init_begin", "__init_end")] {
            let ([start], [end]) = (self.named(start), self.named(end)) else {
                continue;
            };
            let range = start.address..end.address;
            for symbol in self.table.values_mut().flatten() {
                symbol.init |=
                    range.contains(&symbol.address) && !per_cpu.contains(&symbol.address);
            }
        }
    }

    /// Whether the symbols are those of a kernel. Debian installs files that look so, but only say
    /// where to find the real one.
    pub fn is_of_kernel(&self) -> bool {
        !self.named("_stext").is_empty()
    }

    /// Whether it is known where the symbols are. Only root may see that in `/proc/kallsyms`.
    pub fn has_addresses(&self) -> bool {
        self.table
            .values()
            .flatten()
            .any(|symbol| symbol.address != 0)
    }

    /// Takes where ftrace can intercept calls, of all objects, from tracefs'
    /// `available_filter_functions_addrs`: lines of address, name and perhaps module.
    pub fn set_sites(objects: &mut BTreeMap<String, Self>, text: &str) {
        let mut all: HashMap<&str, Vec<u64>> = HashMap::new();
        for line in text.lines() {
            let mut words = line.split_ascii_whitespace();
            let address = words
                .next()
                .and_then(|word| u64::from_str_radix(word, 16).ok());
            let name = words.next().unwrap_or_default();
            let object = words.next().unwrap_or("[vmlinux]");
            // Sites of functions that the linker left out.
            if name.starts_with("__ftrace_invalid_address__") {
                continue;
            }
            if let Some(address) = address.filter(|address| *address != 0) {
                let sites = all.entry(object.trim_matches(['[', ']'])).or_default();
                sites.push(address);
            }
        }
        if all.is_empty() {
            return;
        }
        for (object, symbols) in objects {
            let mut at = all.remove(object.as_str()).unwrap_or_default();
            at.sort_unstable();
            symbols.sites = Sites::Known { at, some: vec![] };
        }
    }

    /// Takes where ftrace can intercept calls, of all objects, from tracefs'
    /// `available_filter_functions`, which kernels before 6.5 have only: lines of name and perhaps
    /// module. Of several functions of a name, some of which are there, nobody knows which.
    pub fn set_sites_by_name(objects: &mut BTreeMap<String, Self>, text: &str) {
        let mut all: HashMap<&str, HashMap<&str, usize>> = HashMap::new();
        for line in text.lines() {
            let mut words = line.split_ascii_whitespace();
            let Some(name) = words.next() else {
                continue;
            };
            let object = words.next().unwrap_or("[vmlinux]");
            let names = all.entry(object.trim_matches(['[', ']'])).or_default();
            *names.entry(name).or_default() += 1;
        }
        if all.is_empty() {
            return;
        }
        for (object, symbols) in objects {
            let (mut at, mut some) = (vec![], vec![]);
            for (name, count) in all.remove(object.as_str()).unwrap_or_default() {
                let found = symbols.named(name).iter();
                let found = found.filter(|symbol| symbol.function && symbol.address != 0);
                let found: Vec<_> = found.map(|symbol| symbol.address).collect();
                if found.len() <= count {
                    at.extend(found);
                } else {
                    some.extend(found);
                }
            }
            at.sort_unstable();
            some.sort_unstable();
            symbols.sites = Sites::Known { at, some };
        }
    }

    /// Whether it is known where ftrace can intercept calls.
    pub fn has_sites(&self) -> bool {
        self.sites != Sites::Unknown
    }

    /// Reads the symbol table of vmlinux, and where ftrace can intercept calls.
    ///
    /// # Errors
    ///
    /// What is wrong with the file.
    pub fn of_vmlinux<'data>(source: &str, data: impl ReadRef<'data>) -> Result<Self, String> {
        let damaged = |error: object::Error| error.to_string();
        let header = FileHeader64::<LE>::parse(data).map_err(damaged)?;
        header.endian().map_err(damaged)?;
        let sections = header.sections(LE, data).map_err(damaged)?;
        let table = sections
            .symbols(LE, data, elf::SHT_SYMTAB)
            .map_err(damaged)?;
        let mut symbols = vec![];
        for symbol in table.iter() {
            let name = table.symbol_name(LE, symbol).map_err(damaged)?;
            let section = symbol.st_shndx(LE);
            if section == elf::SHN_UNDEF
                || matches!(symbol.st_type(), elf::STT_SECTION | elf::STT_FILE)
                || name.is_empty()
            {
                continue;
            }
            let section = sections.section(SectionIndex(section.into())).ok();
            let section_name = section.and_then(|place| sections.section_name(LE, place).ok());
            symbols.push((
                String::from_utf8_lossy(name).into_owned(),
                Symbol {
                    address: symbol.st_value(LE),
                    size: Some(symbol.st_size(LE)).filter(|size| *size != 0),
                    function: symbol.st_type() == elf::STT_FUNC
                        || section.is_some_and(|section| {
                            section.sh_flags(LE) & u64::from(elf::SHF_EXECINSTR) != 0
                        }),
                    init: section_name.is_some_and(|name| {
                        name.starts_with(b".init") || name.starts_with(b".exit")
                    }),
                },
            ));
        }
        if symbols.is_empty() {
            return Err("no symbol table: it was stripped".into());
        }
        set_sizes(&mut symbols);
        symbols.sort_by_key(|(_, symbol)| symbol.address);
        let mut this = Self {
            source: source.into(),
            table: HashMap::new(),
            sites: Sites::Unknown,
        };
        for (name, symbol) in symbols {
            this.table.entry(name).or_default().push(symbol);
        }
        if let ([start], [stop]) = (
            this.named("__start_mcount_loc"),
            this.named("__stop_mcount_loc"),
        ) {
            let (start, stop) = (start.address, stop.address);
            let list = sections.iter().find_map(|section| {
                let offset = start.checked_sub(section.sh_addr(LE))?;
                let size = stop.checked_sub(start)?;
                if offset.checked_add(size)? > section.sh_size(LE)
                    || section.sh_flags(LE) & u64::from(elf::SHF_ALLOC) == 0
                {
                    return None;
                }
                let contents = section.data(LE, data).ok()?;
                let offset = usize::try_from(offset).ok()?;
                contents.get(offset..offset.checked_add(usize::try_from(size).ok()?)?)
            });
            if let Some(list) = list {
                this.set_call_sites(list);
            }
        }
        Ok(this)
    }

    /// Takes where ftrace can intercept calls from the kernel's own list, of eight bytes each.
    pub fn set_call_sites(&mut self, list: &[u8]) {
        let words = list.chunks_exact(8).map(|word| {
            let mut address = [0; 8];
            address.copy_from_slice(word);
            u64::from_le_bytes(address)
        });
        // Entries of functions that the linker left out are zero.
        let mut at: Vec<_> = words.filter(|address| *address != 0).collect();
        at.sort_unstable();
        // In a file where all are zero, something else writes them at boot.
        if !at.is_empty() {
            self.sites = Sites::Known { at, some: vec![] };
        }
    }

    /// Reads the symbol table of a module's file, and where ftrace can intercept calls.
    ///
    /// # Errors
    ///
    /// What is wrong with the file.
    pub fn of_module(source: &str, data: &[u8]) -> Result<Self, String> {
        let file = File::parse(data)?;
        let mut this = Self {
            source: source.into(),
            table: HashMap::new(),
            sites: Sites::Unknown,
        };
        for symbol in &file.symbols {
            let (section, address) = match symbol.home {
                Home::Section(index) => {
                    let place = Place {
                        section: index,
                        offset: symbol.value,
                    };
                    (Some(&file.sections[index]), number(place))
                }
                Home::Livepatch | Home::Common | Home::Other => (None, 0),
                Home::Undefined => continue,
            };
            if symbol.name.is_empty() || matches!(symbol.kind, elf::STT_SECTION | elf::STT_FILE) {
                continue;
            }
            this.table
                .entry(symbol.name.to_string())
                .or_default()
                .push(Symbol {
                    address,
                    size: Some(symbol.size).filter(|size| *size != 0),
                    function: symbol.kind == elf::STT_FUNC
                        || section.is_some_and(|section| section.is_code()),
                    init: section.is_some_and(|section| section.is_init()),
                });
        }
        let lists = ["__mcount_loc", "__patchable_function_entries"];
        let sections = file.sections.iter().enumerate();
        let sections = sections.filter(|(_, section)| lists.contains(&&*section.name));
        let sections: Vec<_> = sections.map(|(index, _)| index).collect();
        // A file without such a list may have been compiled for ftrace in a way that is not known
        // here.
        if !sections.is_empty() {
            let relocs = sections.iter().flat_map(|index| file.relocs(*index));
            let referents = relocs.filter_map(|reloc| file.referent(reloc));
            let mut at: Vec<_> = referents.map(number).collect();
            at.sort_unstable();
            this.sites = Sites::Known { at, some: vec![] };
        }
        Ok(this)
    }
}

/// A place in a file as a number that orders like an address.
fn number(place: Place) -> u64 {
    start_of(place.section).wrapping_add(place.offset)
}

/// The number of the first place in a section.
pub(crate) fn start_of(section: usize) -> u64 {
    // No section is so large that this would make two places the same.
    (section as u64 + 1) << 40
}

/// Takes each size that is not known as the distance to the next symbol, as the kernel does.
fn set_sizes(symbols: &mut [(String, Symbol)]) {
    let mut addresses: Vec<_> = symbols.iter().map(|(_, symbol)| symbol.address).collect();
    addresses.sort_unstable();
    addresses.dedup();
    for (_, symbol) in symbols {
        if symbol.size.is_none() && symbol.address != 0 {
            let next = addresses.partition_point(|address| *address <= symbol.address);
            symbol.size = addresses.get(next).map(|next| next - symbol.address);
        }
    }
}
