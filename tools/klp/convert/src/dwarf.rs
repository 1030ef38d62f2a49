// SPDX-License-Identifier: GPL-2.0

//! Which source file what is at an address comes from.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    path::Path,
};

use gimli::{
    AttributeValue, DebuggingInformationEntry, Dwarf, EndianSlice, LittleEndian, Operation, Reader,
    Unit,
};
use object::{
    elf::{self, FileHeader64},
    endian::LittleEndian as LE,
    read::{
        elf::{FileHeader, SectionHeader},
        ReadRef,
    },
};

type Slice<'data> = EndianSlice<'data, LittleEndian>;

/// The paths of the source files, by the addresses of the functions and data that they define. Only
/// files whose names, without directories, are among `names` are looked at.
///
/// # Errors
///
/// What is wrong with the DWARF.
pub(crate) fn paths<'data>(
    data: impl ReadRef<'data>,
    names: &HashSet<String>,
) -> Result<HashMap<u64, String>, String> {
    let error = |error: object::Error| error.to_string();
    let header = FileHeader64::<LE>::parse(data).map_err(error)?;
    let sections = header.sections(LE, data).map_err(error)?;
    let load = |id: gimli::SectionId| -> Result<Slice<'data>, String> {
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
        Ok(EndianSlice::new(contents, LittleEndian))
    };
    let dwarf = Dwarf::load(load)?;
    collect(&dwarf, names).map_err(|error| format!("its DWARF is damaged: {error}"))
}

fn collect(
    dwarf: &Dwarf<Slice<'_>>,
    names: &HashSet<String>,
) -> Result<HashMap<u64, String>, gimli::Error> {
    let mut found = HashMap::new();
    let mut units = dwarf.units();
    while let Some(header) = units.next()? {
        let unit = dwarf.unit(header)?;
        let Some(name) = unit.name.map(|name| name.to_string_lossy()) else {
            continue;
        };
        let file = Path::new(&*name).file_name();
        if !file.is_some_and(|file| names.contains(&*file.to_string_lossy())) {
            continue;
        }
        let path = path(&unit, &name);
        let mut entries = unit.entries();
        while let Some((_, entry)) = entries.next_dfs()? {
            if let Some(address) = address(dwarf, &unit, entry)? {
                found.insert(address, path.clone());
            }
        }
    }
    Ok(found)
}

/// The path of a unit's file: from the root if it is known where it was compiled.
fn path(unit: &Unit<Slice<'_>>, name: &str) -> String {
    let directory = unit.comp_dir.map(|name| name.to_string_lossy());
    let directory = directory.unwrap_or(Cow::Borrowed(""));
    Path::new(&*directory).join(name).to_string_lossy().into()
}

/// Where the code of a function begins; [`None`] if its entry has none.
///
/// Of several ranges the first is the one that is entered; others are for what is unlikely. Unlike
/// [`Dwarf::die_ranges`], this needs no end, which gimli 0.32 adds up without a check.
///
/// # Errors
///
/// What is wrong with the DWARF.
pub fn function_start<R: Reader>(
    dwarf: &Dwarf<R>,
    unit: &Unit<R>,
    entry: &DebuggingInformationEntry<'_, '_, R>,
) -> Result<Option<u64>, gimli::Error> {
    if let Some(value) = entry.attr_value(gimli::DW_AT_ranges)? {
        if let Some(mut ranges) = dwarf.attr_ranges(unit, value)? {
            return Ok(ranges.next()?.map(|range| range.begin));
        }
    }
    match entry.attr_value(gimli::DW_AT_low_pc)? {
        Some(value) => match dwarf.attr_address(unit, value)? {
            Some(address) => Ok(Some(address)),
            None => Err(gimli::Error::UnsupportedAttributeForm),
        },
        None => Ok(None),
    }
}

/// Where a function begins, or data is.
fn address(
    dwarf: &Dwarf<Slice<'_>>,
    unit: &Unit<Slice<'_>>,
    entry: &DebuggingInformationEntry<'_, '_, Slice<'_>>,
) -> Result<Option<u64>, gimli::Error> {
    match entry.tag() {
        gimli::DW_TAG_subprogram => function_start(dwarf, unit, entry),
        gimli::DW_TAG_variable => match entry.attr_value(gimli::DW_AT_location)? {
            Some(AttributeValue::Exprloc(expression)) => {
                let mut operations = expression.operations(unit.encoding());
                match operations.next()? {
                    Some(Operation::Address { address }) => Ok(Some(address)),
                    Some(Operation::AddressIndex { index }) => dwarf.address(unit, index).map(Some),
                    _ => Ok(None),
                }
            }
            _ => Ok(None),
        },
        _ => Ok(None),
    }
}
