// SPDX-License-Identifier: GPL-2.0

//! Types of a module from its DWARF.

use std::collections::{BTreeMap, HashSet};

use gimli::{
    AttributeValue, DebuggingInformationEntry, Dwarf, EndianSlice, LittleEndian, Reader as _,
    Relocate, RelocateReader, Unit, UnitOffset,
};
use object::{
    read::{elf::ElfFile64, RelocationMap},
    Endianness, Object, ObjectSection, ObjectSymbol,
};

use crate::kernel;

use super::{ModuleTypes, OfModule, Prototype, Structure, Type};

/// Types refer to types; more steps than these are a circle.
const STEPS: usize = 32;

/// What an entry refers to as its type.
enum Referred {
    /// Nothing: what C calls `void`.
    Nothing,
    /// An entry of the same unit.
    Entry(UnitOffset),
    /// Another unit, which is not looked at, or a circle.
    Elsewhere,
}

/// The relocations of a section, as DWARF of a relocatable file needs them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Relocations<'a>(&'a RelocationMap);

impl Relocate for Relocations<'_> {
    fn relocate_address(&self, offset: usize, value: u64) -> gimli::Result<u64> {
        Ok(self.0.relocate(offset as u64, value))
    }

    fn relocate_offset(&self, offset: usize, value: usize) -> gimli::Result<usize> {
        usize::try_from(self.0.relocate(offset as u64, value as u64))
            .map_err(|_| gimli::Error::UnsupportedOffset)
    }
}

pub(crate) type Reader<'a> = RelocateReader<EndianSlice<'a, LittleEndian>, Relocations<'a>>;
type Entry<'abbrev, 'unit, 'a> = DebuggingInformationEntry<'abbrev, 'unit, Reader<'a>>;

/// Gives the DWARF of the module in `data` to `body`. Without any, nothing happens.
///
/// # Errors
///
/// What is wrong with the DWARF, or what `body` says.
pub(crate) fn with_dwarf(
    data: &[u8],
    body: impl FnOnce(&Dwarf<Reader<'_>>) -> Result<(), String>,
) -> Result<(), String> {
    let file = ElfFile64::<Endianness>::parse(data).map_err(|error| error.to_string())?;
    if file.section_by_name(".debug_info").is_none() {
        return Ok(());
    }
    let load = |id: gimli::SectionId| -> Result<(&[u8], RelocationMap), String> {
        let mut map = RelocationMap::default();
        let Some(section) = file.section_by_name(id.name()) else {
            return Ok((&[], map));
        };
        let contents = section.data().map_err(|error| error.to_string())?;
        let compressed = section
            .compressed_file_range()
            .map_err(|error| error.to_string())?;
        if compressed.format != object::CompressionFormat::None {
            return Err(
                "the module's DWARF is compressed: objcopy --decompress-debug-sections".into(),
            );
        }
        for (offset, mut relocation) in section.relocations() {
            if let Some(start) = start_of_code(&file, &relocation) {
                relocation.set_addend(relocation.addend().wrapping_add(start));
            }
            // What cannot be understood stays as it is, and leads nowhere.
            let _ = map.add(&file, offset, relocation);
        }
        Ok((contents, map))
    };
    let sections = gimli::DwarfSections::load(load)?;
    let dwarf = sections.borrow(|(contents, map)| {
        RelocateReader::new(EndianSlice::new(contents, LittleEndian), Relocations(map))
    });
    body(&dwarf)
}

/// If a relocation refers to code, the number that stands for the start of its section, so that the
/// places in several sections differ.
fn start_of_code(file: &ElfFile64<'_>, relocation: &object::Relocation) -> Option<i64> {
    let object::RelocationTarget::Symbol(symbol) = relocation.target() else {
        return None;
    };
    let section = file.symbol_by_index(symbol).ok()?.section_index()?;
    let kind = file.section_by_index(section).ok()?.kind();
    (kind == object::SectionKind::Text)
        .then(|| i64::try_from(kernel::start_of(section.0)).ok())
        .flatten()
}

/// The types of the module in `data`: those of `functions`, by the names of symbols, and all
/// structures. [`None`] if there is no DWARF.
///
/// # Errors
///
/// What is wrong with the DWARF.
pub(super) fn read(data: &[u8], functions: &HashSet<&str>) -> Result<Option<ModuleTypes>, String> {
    let mut found = None;
    with_dwarf(data, |dwarf| {
        let mut types = ModuleTypes::default();
        collect(dwarf, functions, &mut types)
            .map_err(|error| format!("the module's DWARF is damaged: {error}"))?;
        found = Some(types);
        Ok(())
    })?;
    Ok(found)
}

fn collect(
    dwarf: &Dwarf<Reader<'_>>,
    functions: &HashSet<&str>,
    types: &mut ModuleTypes,
) -> Result<(), gimli::Error> {
    let mut units = dwarf.units();
    while let Some(header) = units.next()? {
        let unit = dwarf.unit(header)?;
        let view = View {
            dwarf,
            unit: &unit,
            rust: is_rust(&unit)?,
        };
        let mut entries = unit.entries();
        // The names of what is around an entry, by its depth.
        let mut around: BTreeMap<isize, String> = BTreeMap::new();
        let mut depth = 0_isize;
        while let Some((step, entry)) = entries.next_dfs()? {
            depth += step;
            around.retain(|other, _| *other < depth);
            match entry.tag() {
                gimli::DW_TAG_namespace => {
                    around.insert(depth, view.name(entry)?.unwrap_or_default());
                }
                gimli::DW_TAG_subprogram => view.function(entry, functions, types)?,
                gimli::DW_TAG_structure_type | gimli::DW_TAG_union_type => {
                    let bindings = around.values().any(|name| name.contains("bindings"));
                    view.declared(entry, bindings, types)?;
                }
                _ => (),
            }
        }
    }
    Ok(())
}

fn is_rust(unit: &Unit<Reader<'_>>) -> Result<bool, gimli::Error> {
    let mut entries = unit.entries();
    let Some((_, root)) = entries.next_dfs()? else {
        return Ok(false);
    };
    let language = root.attr_value(gimli::DW_AT_language)?;
    Ok(matches!(
        language,
        Some(AttributeValue::Language(gimli::DW_LANG_Rust))
    ))
}

/// A unit and what it is part of.
struct View<'a, 'data> {
    dwarf: &'a Dwarf<Reader<'data>>,
    unit: &'a Unit<Reader<'data>>,
    rust: bool,
}

impl<'data> View<'_, 'data> {
    fn text(
        &self,
        entry: &Entry<'_, '_, 'data>,
        attribute: gimli::DwAt,
    ) -> Result<Option<String>, gimli::Error> {
        let Some(value) = entry.attr_value(attribute)? else {
            return Ok(None);
        };
        let text = self.dwarf.attr_string(self.unit, value)?;
        Ok(Some(text.to_string_lossy()?.into_owned()))
    }

    fn name(&self, entry: &Entry<'_, '_, 'data>) -> Result<Option<String>, gimli::Error> {
        self.text(entry, gimli::DW_AT_name)
    }

    /// Takes a function if it is one of those wanted, and defined here.
    fn function(
        &self,
        entry: &Entry<'_, '_, 'data>,
        wanted: &HashSet<&str>,
        types: &mut ModuleTypes,
    ) -> Result<(), gimli::Error> {
        if entry.attr_value(gimli::DW_AT_low_pc)?.is_none()
            && entry.attr_value(gimli::DW_AT_ranges)?.is_none()
        {
            return Ok(());
        }
        // What is said once for several entries stands elsewhere.
        let mut offset = entry.offset();
        for attribute in [gimli::DW_AT_abstract_origin, gimli::DW_AT_specification] {
            let entry = self.unit.entry(offset)?;
            if let Some(AttributeValue::UnitRef(origin)) = entry.attr_value(attribute)? {
                offset = origin;
            }
        }
        let origin = self.unit.entry(offset)?;
        let symbol = match self.text(&origin, gimli::DW_AT_linkage_name)? {
            Some(symbol) => symbol,
            None => match self.name(&origin)? {
                Some(name) => name,
                None => return Ok(()),
            },
        };
        if !wanted.contains(symbol.as_str()) {
            return Ok(());
        }
        if let Some(prototype) = self.prototype(offset)? {
            types.functions.entry(symbol).or_default().push(prototype);
        }
        Ok(())
    }

    fn prototype(&self, offset: UnitOffset) -> Result<Option<Prototype>, gimli::Error> {
        let mut tree = self.unit.entries_tree(Some(offset))?;
        let root = tree.root()?;
        let Some(result) = self.type_of(root.entry())? else {
            return Ok(None);
        };
        let mut prototype = Prototype {
            result,
            parameters: vec![],
            variadic: false,
        };
        let mut children = root.children();
        while let Some(child) = children.next()? {
            match child.entry().tag() {
                gimli::DW_TAG_formal_parameter => match self.type_of(child.entry())? {
                    Some(parameter) => prototype.parameters.push(parameter),
                    None => return Ok(None),
                },
                gimli::DW_TAG_unspecified_parameters => prototype.variadic = true,
                _ => (),
            }
        }
        Ok(Some(prototype))
    }

    /// The type of an entry, without names and qualifiers that were given to it.
    fn referred(&self, entry: &Entry<'_, '_, 'data>) -> Result<Referred, gimli::Error> {
        let mut next = entry.attr_value(gimli::DW_AT_type)?;
        for _ in 0..STEPS {
            let offset = match next {
                None => return Ok(Referred::Nothing),
                Some(AttributeValue::UnitRef(offset)) => offset,
                Some(_) => return Ok(Referred::Elsewhere),
            };
            let entry = self.unit.entry(offset)?;
            match entry.tag() {
                gimli::DW_TAG_typedef
                | gimli::DW_TAG_const_type
                | gimli::DW_TAG_volatile_type
                | gimli::DW_TAG_restrict_type
                | gimli::DW_TAG_atomic_type => next = entry.attr_value(gimli::DW_AT_type)?,
                _ => return Ok(Referred::Entry(offset)),
            }
        }
        Ok(Referred::Elsewhere)
    }

    /// The type of an entry; [`None`] if it is one that cannot be compared.
    fn type_of(&self, entry: &Entry<'_, '_, 'data>) -> Result<Option<Type>, gimli::Error> {
        let offset = match self.referred(entry)? {
            Referred::Nothing => return Ok(Some(Type::Void)),
            Referred::Entry(offset) => offset,
            Referred::Elsewhere => return Ok(None),
        };
        let entry = self.unit.entry(offset)?;
        let size = entry
            .attr_value(gimli::DW_AT_byte_size)?
            .and_then(|value| value.udata_value());
        let name = self.name(&entry)?.unwrap_or_default();
        Ok(match entry.tag() {
            gimli::DW_TAG_base_type => {
                let encoding = entry.attr_value(gimli::DW_AT_encoding)?;
                let encoding = match encoding {
                    Some(AttributeValue::Encoding(encoding)) => encoding,
                    _ => return Ok(None),
                };
                match (encoding, size) {
                    (_, None) => None,
                    // Rust's empty tuple and the type of what does not return.
                    (_, Some(0)) => Some(Type::Void),
                    (gimli::DW_ATE_float, Some(size)) => Some(Type::Float { size }),
                    (encoding, Some(size)) => Some(Type::Number {
                        size,
                        signed: Some(matches!(
                            encoding,
                            gimli::DW_ATE_signed | gimli::DW_ATE_signed_char
                        )),
                    }),
                }
            }
            gimli::DW_TAG_enumeration_type => size.map(|size| Type::Number { size, signed: None }),
            gimli::DW_TAG_pointer_type => Some(Type::Pointer(self.pointee(&entry)?).named()),
            gimli::DW_TAG_structure_type | gimli::DW_TAG_union_type if name == "()" => {
                Some(Type::Void)
            }
            gimli::DW_TAG_structure_type | gimli::DW_TAG_union_type => {
                size.map(|size| Type::Aggregate { size, name })
            }
            _ => None,
        })
    }

    /// The name of the structure that a pointer points to.
    fn pointee(&self, entry: &Entry<'_, '_, 'data>) -> Result<Option<String>, gimli::Error> {
        let Referred::Entry(offset) = self.referred(entry)? else {
            return Ok(None);
        };
        let entry = self.unit.entry(offset)?;
        match entry.tag() {
            gimli::DW_TAG_structure_type | gimli::DW_TAG_union_type => {
                let name = self.name(&entry)?;
                // Rust writes wrappers around types that C does not know.
                Ok(name.filter(|name| {
                    !self.rust || name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
                }))
            }
            _ => Ok(None),
        }
    }

    /// Takes a structure that is defined here.
    fn declared(
        &self,
        entry: &Entry<'_, '_, 'data>,
        bindings: bool,
        types: &mut ModuleTypes,
    ) -> Result<(), gimli::Error> {
        // Types of Rust have names that say nothing about C, unless bindgen made them.
        if self.rust && !bindings {
            return Ok(());
        }
        let size = entry
            .attr_value(gimli::DW_AT_byte_size)?
            .and_then(|value| value.udata_value());
        let (Some(name), Some(size)) = (self.name(entry)?, size) else {
            return Ok(());
        };
        // What bindgen makes of a structure that is only declared.
        if self.rust && size <= 1 {
            return Ok(());
        }
        let members = if self.rust {
            None
        } else {
            self.members(entry.offset())?
        };
        let structure = OfModule {
            structure: Structure { size, members },
            shared: self.rust || self.is_shared(entry)?,
            binding: self.rust,
        };
        let known = types.structures.entry(name).or_default();
        if !known.contains(&structure) {
            known.push(structure);
        }
        Ok(())
    }

    /// The members of a structure and their places in bits; [`None`] if it is not said where one is.
    fn members(&self, offset: UnitOffset) -> Result<Option<Vec<(String, u64)>>, gimli::Error> {
        let mut tree = self.unit.entries_tree(Some(offset))?;
        let mut children = tree.root()?.children();
        let mut members = vec![];
        while let Some(child) = children.next()? {
            let entry = child.entry();
            if entry.tag() != gimli::DW_TAG_member {
                continue;
            }
            let number = |attribute| -> Result<Option<u64>, gimli::Error> {
                Ok(entry
                    .attr_value(attribute)?
                    .and_then(|value| value.udata_value()))
            };
            let bytes = number(gimli::DW_AT_data_member_location)?;
            let unit = bytes.unwrap_or(0).saturating_mul(8);
            let place = match (
                number(gimli::DW_AT_data_bit_offset)?,
                number(gimli::DW_AT_bit_offset)?,
            ) {
                (Some(bits), _) => bits,
                // Before DWARF 5, compilers count from the most significant bit of the unit.
                (None, Some(above)) => {
                    let size = number(gimli::DW_AT_byte_size)?;
                    let bits = number(gimli::DW_AT_bit_size)?;
                    let (Some(size), Some(bits)) = (size, bits) else {
                        return Ok(None);
                    };
                    let below = size.saturating_mul(8).saturating_sub(above);
                    unit.saturating_add(below.saturating_sub(bits))
                }
                (None, None) => unit,
            };
            members.push((self.name(entry)?.unwrap_or_default(), place));
        }
        Ok(Some(members))
    }

    /// Whether an entry was declared in a header that many files share.
    fn is_shared(&self, entry: &Entry<'_, '_, 'data>) -> Result<bool, gimli::Error> {
        let Some(AttributeValue::FileIndex(index)) = entry.attr_value(gimli::DW_AT_decl_file)?
        else {
            return Ok(false);
        };
        let Some(program) = &self.unit.line_program else {
            return Ok(false);
        };
        let header = program.header();
        let Some(directory) = header.file(index).and_then(|file| file.directory(header)) else {
            return Ok(false);
        };
        let directory = self.dwarf.attr_string(self.unit, directory)?;
        let directory = directory.to_string_lossy()?;
        Ok(directory
            .split('/')
            .any(|part| part == "include" || part == "arch"))
    }
}
