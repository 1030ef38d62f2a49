// SPDX-License-Identifier: GPL-2.0

//! Into which functions others were inlined, as DWARF tells it.
//!
//! A call that was inlined is no call: ftrace does not see it, and the copy stays what it was when
//! the function is replaced.
//!
//! Names do not tell which function is which: several source files may have one of the same name,
//! and a compiler gives its variants of a function names of their own. So a function that is
//! replaced is looked up in the symbol table of the file, and its entry in DWARF by its address.
//! Copies of it are those of all entries that come from the same line of the same source file: a
//! function of a header has an entry for each file that includes it.

use std::collections::{BTreeSet, HashMap, HashSet};

use gimli::{
    AttributeValue, DebugInfoOffset, DebuggingInformationEntry, Dwarf, EndianSlice, LittleEndian,
    Reader, Unit,
};
use object::{
    elf::{self, FileHeader64},
    endian::LittleEndian as LE,
    read::{
        elf::{FileHeader, SectionHeader},
        ReadRef,
    },
};

use crate::{kernel::Symbols, types};

/// A function of a patch: its name, and which one of this name it is, as the patch says it.
pub type Function = (String, u64);

/// Functions, and those that each was inlined into and that are not replaced themselves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inlined(HashMap<Function, BTreeSet<String>>);

impl Inlined {
    /// Looks for copies of the functions of a patch in the DWARF of a vmlinux; [`None`] if it has
    /// none.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn in_vmlinux<'data>(
        data: impl ReadRef<'data>,
        functions: &BTreeSet<Function>,
    ) -> Result<Option<Self>, String> {
        let error = |error: object::Error| error.to_string();
        let header = FileHeader64::<LE>::parse(data).map_err(error)?;
        header.endian().map_err(error)?;
        let sections = header.sections(LE, data).map_err(error)?;
        if sections.section_by_name(LE, b".debug_info").is_none() {
            return Ok(None);
        }
        let symbols = Symbols::of_vmlinux("", data)?;
        let dwarf = Dwarf::load(|id| {
            let contents = match sections.section_by_name(LE, id.name().as_bytes()) {
                Some((_, section)) => {
                    if section.sh_flags(LE) & u64::from(elf::SHF_COMPRESSED) != 0 {
                        return Err(
                            "its DWARF is compressed: objcopy --decompress-debug-sections".into(),
                        );
                    }
                    section.data(LE, data).map_err(error)?
                }
                None => &[],
            };
            Ok::<_, String>(EndianSlice::new(contents, LittleEndian))
        })?;
        find(&dwarf, &symbols, functions).map(Some)
    }

    /// Looks for copies of the functions of a patch in the DWARF of a module; [`None`] if it has
    /// none.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn in_module(data: &[u8], functions: &BTreeSet<Function>) -> Result<Option<Self>, String> {
        let mut found = None;
        types::with_dwarf(data, |dwarf| {
            let symbols = Symbols::of_module("", data)?;
            found = Some(find(dwarf, &symbols, functions)?);
            Ok(())
        })?;
        Ok(found)
    }

    /// The functions that a function was inlined into and that are not replaced; [`None`] if DWARF
    /// does not tell of the function.
    pub(crate) fn into(&self, function: &Function) -> Option<&BTreeSet<String>> {
        self.0.get(function)
    }
}

fn find<R: Reader>(
    dwarf: &Dwarf<R>,
    symbols: &Symbols,
    functions: &BTreeSet<Function>,
) -> Result<Inlined, String> {
    let mut replaced: HashMap<u64, Vec<&Function>> = HashMap::new();
    for function in functions {
        let address = symbols.chosen(&function.0, function.1);
        if let Some(symbol) = address.filter(|symbol| symbol.address != 0) {
            replaced.entry(symbol.address).or_default().push(function);
        }
    }
    let mut search = Search {
        dwarf,
        bases: functions.iter().map(|(name, _)| base(name)).collect(),
        replaced,
        entries: HashMap::new(),
        with_code: vec![],
        wanted: HashMap::new(),
        containers: HashMap::new(),
    };
    search
        .run()
        .map_err(|error| format!("the DWARF is damaged: {error}"))?;
    Ok(search.result(symbols))
}

/// The name of a function in the source, of which a compiler made this one: it adds `.isra.0` and
/// the like.
fn base(name: &str) -> &str {
    name.split('.').next().unwrap_or(name)
}

/// What tells a function of the source from others: its name, file and line. A function of which
/// the last two are not known is the only one of its kind.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Source<O> {
    name: String,
    file: Option<String>,
    line: u64,
    /// Where the entry is, if the file is not known.
    only: Option<O>,
}

struct Search<'a, R: Reader> {
    dwarf: &'a Dwarf<R>,
    /// The functions that are looked for, by the names that the source has for them.
    bases: HashSet<&'a str>,
    /// And by their addresses.
    replaced: HashMap<u64, Vec<&'a Function>>,
    /// The entries of functions that may be meant, by their places.
    entries: HashMap<R::Offset, Source<R::Offset>>,
    /// The addresses of those that are replaced, and the entries that have what is common to
    /// several.
    with_code: Vec<(u64, R::Offset)>,
    /// The entries of which copies are looked for, and whose address each has.
    wanted: HashMap<R::Offset, Vec<u64>>,
    /// The functions that one at an address was inlined into: addresses, and names in DWARF.
    containers: HashMap<u64, HashMap<u64, String>>,
}

impl<'a, R: Reader> Search<'a, R> {
    fn run(&mut self) -> Result<(), gimli::Error> {
        // An entry may refer to one that comes later.
        let mut later = vec![];
        let mut units = self.dwarf.units();
        while let Some(header) = units.next()? {
            let unit = self.dwarf.unit(header.clone())?;
            if self.collect(&unit)? {
                later.push(header);
            }
        }
        self.choose();
        for header in later {
            let unit = self.dwarf.unit(header)?;
            self.search(&unit)?;
        }
        Ok(())
    }

    /// Takes the functions that may be meant; returns whether copies may be in this unit.
    fn collect(&mut self, unit: &Unit<R>) -> Result<bool, gimli::Error> {
        let mut interesting = false;
        let mut entries = unit.entries();
        while let Some((_, entry)) = entries.next_dfs()? {
            match entry.tag() {
                gimli::DW_TAG_subprogram => {
                    let Some(place) = entry.offset().to_debug_info_offset(&unit.header) else {
                        continue;
                    };
                    let start = klp_convert::function_start(self.dwarf, unit, entry)?;
                    let start = start.filter(|start| self.replaced.contains_key(start));
                    let name = self.name(unit, entry)?;
                    let is_meant =
                        |name: &String| start.is_some() || self.bases.contains(name.as_str());
                    if let Some(name) = name.filter(is_meant) {
                        let source = self.source(unit, entry, name, place.0)?;
                        self.entries.insert(place.0, source);
                        interesting = true;
                    }
                    if let Some(start) = start {
                        let common = Self::origin(unit, entry)?.unwrap_or(place);
                        self.with_code.push((start, common.0));
                        interesting = true;
                        // The symbol may have another name than the function has in the source.
                        self.add_common(unit, common)?;
                    }
                }
                // With optimisation at link time, the other entry may be in any unit.
                gimli::DW_TAG_inlined_subroutine => {
                    interesting |= matches!(
                        entry.attr_value(gimli::DW_AT_abstract_origin)?,
                        Some(AttributeValue::DebugInfoRef(_))
                    );
                }
                _ => (),
            }
        }
        Ok(interesting)
    }

    /// Takes the entry that has what is common to several, if it is in this unit.
    fn add_common(
        &mut self,
        unit: &Unit<R>,
        place: DebugInfoOffset<R::Offset>,
    ) -> Result<(), gimli::Error> {
        let Some(offset) = place.to_unit_offset(&unit.header) else {
            return Ok(());
        };
        let entry = unit.entry(offset)?;
        if let Some(name) = self.name(unit, &entry)? {
            let source = self.source(unit, &entry, name, place.0)?;
            self.entries.insert(place.0, source);
        }
        Ok(())
    }

    /// Chooses the entries that come from the same source as a function that is replaced.
    fn choose(&mut self) {
        let mut sources: HashMap<&Source<R::Offset>, Vec<u64>> = HashMap::new();
        for (address, place) in &self.with_code {
            if let Some(source) = self.entries.get(place) {
                sources.entry(source).or_default().push(*address);
            }
        }
        for (place, source) in &self.entries {
            if let Some(addresses) = sources.get(source) {
                self.wanted.insert(*place, addresses.clone());
            }
        }
        // That it was found says that there may be no copy.
        for address in sources.into_values().flatten() {
            self.containers.entry(address).or_default();
        }
    }

    fn name(
        &self,
        unit: &Unit<R>,
        entry: &DebuggingInformationEntry<'_, '_, R>,
    ) -> Result<Option<String>, gimli::Error> {
        let Some(value) = entry.attr_value(gimli::DW_AT_name)? else {
            return Ok(None);
        };
        let name = self.dwarf.attr_string(unit, value)?;
        Ok(Some(name.to_string_lossy()?.into_owned()))
    }

    fn source(
        &self,
        unit: &Unit<R>,
        entry: &DebuggingInformationEntry<'_, '_, R>,
        name: String,
        place: R::Offset,
    ) -> Result<Source<R::Offset>, gimli::Error> {
        let number = |attribute| -> Result<Option<u64>, gimli::Error> {
            let attribute = entry.attr(attribute)?;
            Ok(attribute.and_then(|attribute| attribute.udata_value()))
        };
        let file = match (number(gimli::DW_AT_decl_file)?, &unit.line_program) {
            (Some(number), Some(program)) => self.file(unit, program.header(), number)?,
            _ => None,
        };
        Ok(Source {
            name,
            line: number(gimli::DW_AT_decl_line)?.unwrap_or_default(),
            only: if file.is_some() { None } else { Some(place) },
            file,
        })
    }

    /// The path of a source file, which is the same in all units.
    fn file(
        &self,
        unit: &Unit<R>,
        header: &gimli::LineProgramHeader<R>,
        number: u64,
    ) -> Result<Option<String>, gimli::Error> {
        let Some(file) = header.file(number) else {
            return Ok(None);
        };
        let mut path = String::new();
        if let Some(directory) = file.directory(header) {
            path += &self.dwarf.attr_string(unit, directory)?.to_string_lossy()?;
            path.push('/');
        }
        path += &self
            .dwarf
            .attr_string(unit, file.path_name())?
            .to_string_lossy()?;
        Ok(Some(path))
    }

    /// The entry that says what several have in common with this one.
    fn origin(
        unit: &Unit<R>,
        entry: &DebuggingInformationEntry<'_, '_, R>,
    ) -> Result<Option<DebugInfoOffset<R::Offset>>, gimli::Error> {
        Ok(match entry.attr_value(gimli::DW_AT_abstract_origin)? {
            Some(AttributeValue::UnitRef(offset)) => offset.to_debug_info_offset(&unit.header),
            Some(AttributeValue::DebugInfoRef(offset)) => Some(offset),
            _ => None,
        })
    }

    /// Notes the copies in a unit.
    fn search(&mut self, unit: &Unit<R>) -> Result<(), gimli::Error> {
        // How deep the function is that the present entry is part of, where its code begins, and
        // its name.
        let mut around: Option<(isize, u64, String)> = None;
        let mut depth = 0_isize;
        let mut entries = unit.entries();
        while let Some((step, entry)) = entries.next_dfs()? {
            depth += step;
            if around.as_ref().is_some_and(|around| depth <= around.0) {
                around = None;
            }
            match entry.tag() {
                gimli::DW_TAG_subprogram => {
                    if let Some(start) = klp_convert::function_start(self.dwarf, unit, entry)? {
                        around = Some((depth, start, self.name_of_function(unit, entry)?));
                    }
                }
                gimli::DW_TAG_inlined_subroutine => {
                    let Some((_, start, name)) = &around else {
                        continue;
                    };
                    let Some(origin) = Self::origin(unit, entry)? else {
                        continue;
                    };
                    for address in self.wanted.get(&origin.0).into_iter().flatten() {
                        let containers = self.containers.entry(*address).or_default();
                        containers.entry(*start).or_insert_with(|| name.clone());
                    }
                }
                _ => (),
            }
        }
        Ok(())
    }

    /// The name of a function with code, which may stand in another entry.
    fn name_of_function(
        &self,
        unit: &Unit<R>,
        entry: &DebuggingInformationEntry<'_, '_, R>,
    ) -> Result<String, gimli::Error> {
        let name = match self.name(unit, entry)? {
            Some(name) => Some(name),
            None => match Self::origin(unit, entry)? {
                Some(origin) => match origin.to_unit_offset(&unit.header) {
                    Some(offset) => self.name(unit, &unit.entry(offset)?)?,
                    None => None,
                },
                None => None,
            },
        };
        Ok(name.unwrap_or_else(|| "a function without a name".into()))
    }

    /// The names of the functions with copies that stay in use.
    fn result(&self, symbols: &Symbols) -> Inlined {
        let mut named: HashMap<u64, (Option<&str>, bool)> = HashMap::new();
        for containers in self.containers.values() {
            named.extend(containers.keys().map(|address| (*address, (None, false))));
        }
        symbols.describe_functions(&mut named);
        let mut result = Inlined::default();
        for (address, containers) in &self.containers {
            let left: BTreeSet<String> = containers
                .iter()
                .filter(|(container, _)| !self.replaced.contains_key(container))
                .filter_map(|(container, name)| match named.get(container) {
                    // It has run, and is gone.
                    Some((_, true)) => None,
                    Some((Some(symbol), _)) => Some((*symbol).to_owned()),
                    _ => Some(name.clone()),
                })
                .collect();
            for function in self.replaced.get(address).into_iter().flatten() {
                result.0.insert((*function).clone(), left.clone());
            }
        }
        result
    }
}
