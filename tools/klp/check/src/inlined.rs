// SPDX-License-Identifier: GPL-2.0

//! Into which functions others were inlined, as DWARF tells it.
//!
//! A call that was inlined is no call: ftrace does not see it, and the copy stays what it was when
//! the function is replaced.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use gimli::{
    AttributeValue, DebugInfoOffset, DebuggingInformationEntry, Dwarf, EndianSlice, LittleEndian,
    Reader, Unit, UnitOffset,
};
use object::{
    elf::{self, FileHeader64},
    endian::LittleEndian as LE,
    read::{
        elf::{FileHeader, SectionHeader},
        ReadRef,
    },
};

use crate::types;

/// Functions, and those that each was inlined into.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inlined(BTreeMap<String, BTreeSet<String>>);

impl Inlined {
    /// Looks for copies of the functions of these names in the DWARF of a vmlinux; [`None`] if it
    /// has none.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn in_vmlinux<'data>(
        data: impl ReadRef<'data>,
        names: &HashSet<&str>,
    ) -> Result<Option<Self>, String> {
        let error = |error: object::Error| error.to_string();
        let header = FileHeader64::<LE>::parse(data).map_err(error)?;
        header.endian().map_err(error)?;
        let sections = header.sections(LE, data).map_err(error)?;
        if sections.section_by_name(LE, b".debug_info").is_none() {
            return Ok(None);
        }
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
        find(&dwarf, names).map(Some)
    }

    /// Looks for copies of the functions of these names in the DWARF of a module; [`None`] if it
    /// has none.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn in_module(data: &[u8], names: &HashSet<&str>) -> Result<Option<Self>, String> {
        let mut found = None;
        types::with_dwarf(data, |dwarf| {
            found = Some(find(dwarf, names)?);
            Ok(())
        })?;
        Ok(found)
    }

    /// The functions that a function was inlined into.
    pub(crate) fn into(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.get(name).into_iter().flatten().map(String::as_str)
    }
}

fn find<R: Reader>(dwarf: &Dwarf<R>, names: &HashSet<&str>) -> Result<Inlined, String> {
    let mut search = Search {
        dwarf,
        names,
        origins: HashMap::new(),
        found: Inlined::default(),
    };
    search
        .run()
        .map_err(|error| format!("the DWARF is damaged: {error}"))?;
    Ok(search.found)
}

struct Search<'a, R: Reader> {
    dwarf: &'a Dwarf<R>,
    names: &'a HashSet<&'a str>,
    /// The names of the functions that are looked for, by the places of their entries.
    origins: HashMap<R::Offset, String>,
    found: Inlined,
}

impl<R: Reader> Search<'_, R> {
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
        for header in later {
            let unit = self.dwarf.unit(header)?;
            self.search(&unit)?;
        }
        Ok(())
    }

    /// Takes the functions that are looked for; returns whether copies may be in this unit.
    fn collect(&mut self, unit: &Unit<R>) -> Result<bool, gimli::Error> {
        let mut interesting = false;
        let mut entries = unit.entries();
        while let Some((_, entry)) = entries.next_dfs()? {
            match entry.tag() {
                gimli::DW_TAG_subprogram => {
                    let Some(name) = self.name(unit, entry)? else {
                        continue;
                    };
                    if self.names.contains(name.as_str()) {
                        if let Some(place) = entry.offset().to_debug_info_offset(&unit.header) {
                            self.origins.insert(place.0, name);
                            interesting = true;
                        }
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
        // The function with code that the present entry is part of, and how deep that is.
        let mut around: Option<(isize, UnitOffset<R::Offset>)> = None;
        let mut depth = 0_isize;
        let mut entries = unit.entries();
        while let Some((step, entry)) = entries.next_dfs()? {
            depth += step;
            if around.is_some_and(|(function, _)| depth <= function) {
                around = None;
            }
            match entry.tag() {
                gimli::DW_TAG_subprogram => {
                    let has_code = entry.attr_value(gimli::DW_AT_low_pc)?.is_some()
                        || entry.attr_value(gimli::DW_AT_ranges)?.is_some();
                    if has_code {
                        around = Some((depth, entry.offset()));
                    }
                }
                gimli::DW_TAG_inlined_subroutine => {
                    let Some((_, function)) = around else {
                        continue;
                    };
                    let origin = Self::origin(unit, entry)?;
                    let Some(name) = origin.and_then(|origin| self.origins.get(&origin.0)) else {
                        continue;
                    };
                    let name = name.clone();
                    let into = self.name_of_function(unit, function)?;
                    self.found.0.entry(name).or_default().insert(into);
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
        offset: UnitOffset<R::Offset>,
    ) -> Result<String, gimli::Error> {
        let entry = unit.entry(offset)?;
        let name = match self.name(unit, &entry)? {
            Some(name) => Some(name),
            None => match Self::origin(unit, &entry)? {
                Some(origin) => match origin.to_unit_offset(&unit.header) {
                    Some(offset) => self.name(unit, &unit.entry(offset)?)?,
                    None => None,
                },
                None => None,
            },
        };
        Ok(name.unwrap_or_else(|| "a function without a name".into()))
    }
}
