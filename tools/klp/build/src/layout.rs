// SPDX-License-Identifier: GPL-2.0

//! Structures whose layout a patch changes, by the debugging information of the objects.
//!
//! Instances that exist when a patch is loaded keep the old layout, and functions that are not
//! replaced expect it.

use std::collections::{BTreeMap, BTreeSet};

use gimli::{
    AttributeValue, DebuggingInformationEntry, Dwarf, EndianSlice, LittleEndian, Unit, UnitOffset,
};
use object::elf;

use klp_check::Types;

use crate::{
    elf::File,
    error::{Refusal, Result},
};

/// What the debugging information is read from.
pub(crate) type Reader<'data> = EndianSlice<'data, LittleEndian>;
/// An entry of it.
pub(crate) type Entry<'unit, 'data> = DebuggingInformationEntry<'unit, 'unit, Reader<'data>>;

/// How deep structures without a name are looked into; nobody writes deeper ones.
const DEEPEST: usize = 32;

/// What the variables are called among the structures whose own structure has no name.
const VARIABLE: &str = "variable ";

/// A structure or union.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Layout {
    size: u64,
    /// Where each member is, in bits, and its name and type.
    members: Vec<(u64, String, String)>,
}

/// The structures of an object, by name. Functions can have some of the same name.
type Layouts = BTreeMap<String, BTreeSet<Layout>>;

/// How many users of a structure are named.
const NAMED: usize = 5;

/// Compares the structures of an object before and after. `types` are those of the kernel, which
/// know users of a structure in other files.
///
/// # Errors
///
/// The debugging information is damaged.
pub(crate) fn compare(
    object: &str,
    before: &[u8],
    after: &[u8],
    types: Option<&Types>,
) -> Result<Vec<Refusal>> {
    for data in [before, after] {
        if let Some(refusal) = check_information(object, data)? {
            return Ok(vec![refusal]);
        }
    }
    let data = before;
    let (before, after) = (layouts(before)?, layouts(after)?);
    let mut refusals = Vec::new();
    for (name, old) in &before {
        let Some(new) = after.get(name).filter(|new| *new != old) else {
            continue;
        };
        let is_variable = name.starts_with(VARIABLE);
        // A function can get or lose one of several variables of a name.
        if is_variable && (old.is_subset(new) || new.is_subset(old)) {
            continue;
        }
        let what = match (old.first(), new.first()) {
            (Some(old), Some(new)) => difference(old, new),
            _ => "its layout changes".into(),
        };
        let refusal = Refusal::new(
            format!("{object}: {name}"),
            what,
            "instances that exist when the patch is loaded have the old layout, and all other code \
             expects it",
            "keep new data in shadow variables (klp_shadow_alloc(); samples/README.md says how)",
        );
        let users = with_units(data, collect_users)?.remove(name);
        let in_kernel = types.filter(|_| !is_variable);
        let in_kernel = in_kernel.map(|types| types.users(plain_name(name)));
        refusals.push(Refusal {
            users: tell_users(object, &users.unwrap_or_default(), in_kernel.as_ref()),
            ..refusal
        });
    }
    Ok(refusals)
}

/// The name of a structure without its keyword.
fn plain_name(name: &str) -> &str {
    name.split_once(' ').map_or(name, |(_, name)| name)
}

/// The functions that use a structure: those of the object, and those of the kernel that get or
/// return it.
fn tell_users(
    object: &str,
    users: &BTreeSet<String>,
    in_kernel: Option<&BTreeSet<String>>,
) -> Option<String> {
    let mut parts = Vec::new();
    if !users.is_empty() {
        parts.push(format!("in {object}: {}", some(users)));
    }
    let others = in_kernel.map(|all| all - users).unwrap_or_default();
    if !others.is_empty() {
        parts.push(format!("elsewhere in the kernel: {}", some(&others)));
    }
    (!parts.is_empty()).then(|| parts.join("; "))
}

/// The first of these names, and how many more there are.
fn some(names: &BTreeSet<String>) -> String {
    let first: Vec<_> = names.iter().take(NAMED).map(String::as_str).collect();
    match names.len().saturating_sub(NAMED) {
        0 => first.join(", "),
        more => format!("{} and {more} more", first.join(", ")),
    }
}

/// The structures of an object that have a member of this name.
///
/// # Errors
///
/// The debugging information is damaged.
pub(crate) fn with_member(object: &[u8], member: &str) -> Result<Vec<String>> {
    let layouts = layouts(object)?.into_iter();
    let with_member = layouts.filter(|(_, layouts)| {
        let mut members = layouts.iter().flat_map(|layout| &layout.members);
        members.any(|(_, name, _)| name == member)
    });
    Ok(with_member.map(|(name, _)| name).collect())
}

fn difference(old: &Layout, new: &Layout) -> String {
    let names = |layout: &Layout| -> BTreeSet<String> {
        let members = layout.members.iter();
        members.map(|(_, name, _)| name.clone()).collect()
    };
    let (before, after) = (names(old), names(new));
    let list = |names: &BTreeSet<String>, other: &BTreeSet<String>| -> Option<String> {
        let only: Vec<_> = names.difference(other).map(String::as_str).collect();
        (!only.is_empty()).then(|| only.join(", "))
    };
    let mut parts = Vec::new();
    parts.extend(list(&after, &before).map(|names| format!("new: {names}")));
    parts.extend(list(&before, &after).map(|names| format!("removed: {names}")));
    let changed = old.members.iter().filter(|(place, name, kind)| {
        new.members
            .iter()
            .any(|member| member.1 == *name && (member.0 != *place || member.2 != *kind))
    });
    let changed: Vec<_> = changed.map(|(_, name, _)| name.as_str()).collect();
    if let (true, [first, rest @ ..]) = (parts.is_empty(), &changed[..]) {
        parts.push(match rest.len() {
            0 => format!("{first} is another one or elsewhere"),
            more => format!("{first} and {more} more are others or elsewhere"),
        });
    }
    if old.size != new.size {
        parts.push(format!(
            "{} bytes, and {} with the patch",
            old.size, new.size
        ));
    }
    format!("its layout changes ({})", parts.join("; "))
}

fn layouts(data: &[u8]) -> Result<Layouts> {
    with_units(data, collect)
}

/// Refuses an object whose debugging information is not in it: nothing would be found in it that
/// changes.
///
/// # Errors
///
/// The debugging information is damaged.
fn check_information(object: &str, data: &[u8]) -> Result<Option<Refusal>> {
    let units = with_units(data, collect_units)?;
    let is_whole = !units.is_empty() && !units.contains(&false);
    if is_whole || File::parse(data)?.definitions().next().is_none() {
        return Ok(None);
    }
    Ok(Some(Refusal::new(
        object,
        "it has no debugging information",
        "without it, nothing tells whether the layout of a structure changes",
        "take out of its Makefile what turns it off, such as -g0",
    )))
}

/// Collects whether the information of each unit is in the object, and not in a file of its own.
fn collect_units(
    _: &Dwarf<Reader<'_>>,
    unit: &Unit<Reader<'_>>,
    whole: &mut Vec<bool>,
) -> Result<(), gimli::Error> {
    let mut entries = unit.entries();
    if let Some((_, root)) = entries.next_dfs()? {
        let is_here = root.attr_value(gimli::DW_AT_dwo_name)?.is_none()
            && root.attr_value(gimli::DW_AT_GNU_dwo_name)?.is_none();
        whole.push(is_here);
    }
    Ok(())
}

/// Takes what it looks for from a unit of debugging information.
type Collect<T> = fn(&Dwarf<Reader<'_>>, &Unit<Reader<'_>>, &mut T) -> Result<(), gimli::Error>;

/// Goes through the units of an object's debugging information.
///
/// # Errors
///
/// It is damaged.
pub(crate) fn with_units<T: Default>(data: &[u8], collect: Collect<T>) -> Result<T> {
    let file = File::parse(data)?;
    let mut contents: BTreeMap<&str, Vec<u8>> = BTreeMap::new();
    for section in &file.sections {
        if section.name.starts_with(".debug_") {
            contents.insert(section.name, relocated(&file, section));
        }
    }
    let load = |id: gimli::SectionId| -> Result<Reader<'_>, gimli::Error> {
        let data = contents.get(id.name()).map_or(&[][..], Vec::as_slice);
        Ok(EndianSlice::new(data, LittleEndian))
    };
    let read = || -> Result<T, gimli::Error> {
        let dwarf = Dwarf::load(load)?;
        let mut collected = T::default();
        let mut units = dwarf.units();
        while let Some(header) = units.next()? {
            let unit = dwarf.unit(header)?;
            collect(&dwarf, &unit, &mut collected)?;
        }
        Ok(collected)
    };
    read().map_err(|error| format!("the debugging information is damaged: {error}").into())
}

/// The contents of a section of debugging information, which is not linked yet.
fn relocated(file: &File<'_>, section: &crate::elf::Section<'_>) -> Vec<u8> {
    let mut data = section.data.to_vec();
    for relocation in &section.relocations {
        let symbol = &file.symbols[relocation.symbol];
        let value = symbol
            .value
            .wrapping_add_signed(relocation.addend)
            .to_le_bytes();
        let width = match relocation.kind {
            elf::R_X86_64_64 => 8,
            elf::R_X86_64_32 | elf::R_X86_64_32S => 4,
            _ => continue,
        };
        let start = relocation.offset as usize;
        if let Some(place) = data.get_mut(start..start + width) {
            place.copy_from_slice(&value[..width]);
        }
    }
    data
}

fn collect(
    dwarf: &Dwarf<Reader<'_>>,
    unit: &Unit<Reader<'_>>,
    layouts: &mut Layouts,
) -> Result<(), gimli::Error> {
    let mut entries = unit.entries();
    let mut around = Around::default();
    while let Some((deeper, entry)) = entries.next_dfs()? {
        around.step(deeper);
        let keyword = match entry.tag() {
            gimli::DW_TAG_structure_type => "struct ",
            gimli::DW_TAG_union_type => "union ",
            gimli::DW_TAG_typedef => "",
            gimli::DW_TAG_variable => VARIABLE,
            gimli::DW_TAG_subprogram | gimli::DW_TAG_inlined_subroutine => {
                around.enter(name_or_origins(dwarf, unit, entry)?);
                continue;
            }
            _ => continue,
        };
        // Those without a name are looked into where they are members, or have that of a typedef or
        // of a variable.
        let Some(mut name) = name_or_origins(dwarf, unit, entry)? else {
            continue;
        };
        let structure = match keyword {
            "" => behind(dwarf, unit, target(entry)?)?,
            VARIABLE => of_variable(dwarf, unit, entry, &around)?,
            _ => Some(entry.clone()),
        };
        let Some(structure) = structure else {
            continue;
        };
        if let (VARIABLE, Some(function)) = (keyword, around.innermost()) {
            name.push_str(&format!(" of {function}()"));
        }
        let Some(size) = number(&structure, gimli::DW_AT_byte_size)? else {
            continue;
        };
        let mut layout = Layout {
            size,
            members: Vec::new(),
        };
        let offset = structure.offset();
        members(dwarf, unit, offset, 0, DEEPEST, &mut layout.members)?;
        let key = format!("{keyword}{name}");
        layouts.entry(key).or_default().insert(layout);
    }
    Ok(())
}

/// The structure without a name that a variable is or leads to, if instances of it can outlive a
/// call of the function that the variable is in.
fn of_variable<'unit, 'data>(
    dwarf: &Dwarf<Reader<'data>>,
    unit: &'unit Unit<Reader<'data>>,
    entry: &Entry<'_, '_>,
    around: &Around,
) -> Result<Option<Entry<'unit, 'data>>, gimli::Error> {
    let origin = reference(entry, gimli::DW_AT_abstract_origin)?;
    let place = match (target(entry)?, origin) {
        (None, Some(origin)) => target(&unit.entry(origin)?)?,
        (place, _) => place,
    };
    let structure = behind(dwarf, unit, place)?;
    let stays = around.functions.is_empty() || has_address(entry)? || is_pointer(unit, place)?;
    Ok(structure.filter(|_| stays))
}

fn is_pointer(unit: &Unit<Reader<'_>>, place: Option<UnitOffset>) -> Result<bool, gimli::Error> {
    let tag = place.map(|place| unit.entry(place)).transpose()?;
    Ok(tag.is_some_and(|entry| entry.tag() == gimli::DW_TAG_pointer_type))
}

/// Whether a variable is at an address, and so not on the stack.
///
/// A pointer that is known to lead to an address begins in the same way, and goes on with what makes
/// that its value.
pub(crate) fn has_address(entry: &Entry<'_, '_>) -> Result<bool, gimli::Error> {
    const ADDRESS: u8 = gimli::DW_OP_addr.0;
    // Clang gives the address in a table.
    const INDEX: u8 = gimli::DW_OP_addrx.0;
    let location = entry.attr_value(gimli::DW_AT_location)?;
    let expression = location.and_then(|location| location.exprloc_value());
    Ok(match expression.as_ref().map(|code| code.0.slice()) {
        Some([ADDRESS, address @ ..]) => address.len() == 8,
        Some([INDEX, .., last]) => *last != gimli::DW_OP_stack_value.0,
        _ => false,
    })
}

/// The name of an entry, or of the one that it is a copy of.
pub(crate) fn name_or_origins(
    dwarf: &Dwarf<Reader<'_>>,
    unit: &Unit<Reader<'_>>,
    entry: &Entry<'_, '_>,
) -> Result<Option<String>, gimli::Error> {
    if let Some(name) = name(dwarf, unit, entry)? {
        return Ok(Some(name));
    }
    match reference(entry, gimli::DW_AT_abstract_origin)? {
        Some(origin) => name(dwarf, unit, &unit.entry(origin)?),
        None => Ok(None),
    }
}

/// The functions around the entries of a unit, as one goes through them in order.
#[derive(Default)]
pub(crate) struct Around {
    depth: isize,
    /// With how deep they are.
    functions: Vec<(isize, Option<String>)>,
}

impl Around {
    /// Goes on to the next entry, which is so much deeper.
    pub(crate) fn step(&mut self, deeper: isize) {
        self.depth += deeper;
        let ended = |(depth, _): &(isize, Option<String>)| *depth >= self.depth;
        while self.functions.last().is_some_and(ended) {
            self.functions.pop();
        }
    }

    /// The entry is a function, of this name if it has one.
    pub(crate) fn enter(&mut self, name: Option<String>) {
        self.functions.push((self.depth, name));
    }

    /// The innermost function, if there is one and it has a name.
    pub(crate) fn innermost(&self) -> Option<&String> {
        self.functions.last()?.1.as_ref()
    }
}

/// Collects the functions that have a parameter or variable of a structure, or of a pointer to it,
/// by the structure's name.
fn collect_users(
    dwarf: &Dwarf<Reader<'_>>,
    unit: &Unit<Reader<'_>>,
    users: &mut BTreeMap<String, BTreeSet<String>>,
) -> Result<(), gimli::Error> {
    let mut entries = unit.entries();
    let mut around = Around::default();
    while let Some((deeper, entry)) = entries.next_dfs()? {
        around.step(deeper);
        match entry.tag() {
            gimli::DW_TAG_subprogram => around.enter(name(dwarf, unit, entry)?),
            gimli::DW_TAG_formal_parameter | gimli::DW_TAG_variable => {
                let Some(function) = around.innermost() else {
                    continue;
                };
                if let Some(structure) = structure_of(dwarf, unit, target(entry)?)? {
                    let all = users.entry(structure).or_default();
                    all.insert(function.clone());
                }
            }
            _ => (),
        }
    }
    Ok(())
}

/// The name of the structure that a type is, points to, or is an array of.
fn structure_of(
    dwarf: &Dwarf<Reader<'_>>,
    unit: &Unit<Reader<'_>>,
    mut place: Option<UnitOffset>,
) -> Result<Option<String>, gimli::Error> {
    for _ in 0..DEEPEST {
        let Some(offset) = place else {
            return Ok(None);
        };
        let entry = unit.entry(offset)?;
        let keyword = match entry.tag() {
            gimli::DW_TAG_structure_type => "struct ",
            gimli::DW_TAG_union_type => "union ",
            gimli::DW_TAG_typedef if nameless(dwarf, unit, target(&entry)?)?.is_some() => "",
            gimli::DW_TAG_typedef
            | gimli::DW_TAG_pointer_type
            | gimli::DW_TAG_const_type
            | gimli::DW_TAG_volatile_type
            | gimli::DW_TAG_array_type => {
                place = target(&entry)?;
                continue;
            }
            _ => return Ok(None),
        };
        let name = name(dwarf, unit, &entry)?;
        return Ok(name.map(|name| format!("{keyword}{name}")));
    }
    Ok(None)
}

/// The structure or union at this place, if it has no name of its own.
fn nameless<'unit, 'data>(
    dwarf: &Dwarf<Reader<'data>>,
    unit: &'unit Unit<Reader<'data>>,
    place: Option<UnitOffset>,
) -> Result<Option<Entry<'unit, 'data>>, gimli::Error> {
    let Some(place) = place else {
        return Ok(None);
    };
    let entry = unit.entry(place)?;
    let is_structure = matches!(
        entry.tag(),
        gimli::DW_TAG_structure_type | gimli::DW_TAG_union_type
    );
    Ok((is_structure && name(dwarf, unit, &entry)?.is_none()).then_some(entry))
}

/// The structure or union without a name that a type is, points to, or is an array of.
fn behind<'unit, 'data>(
    dwarf: &Dwarf<Reader<'data>>,
    unit: &'unit Unit<Reader<'data>>,
    mut place: Option<UnitOffset>,
) -> Result<Option<Entry<'unit, 'data>>, gimli::Error> {
    for _ in 0..DEEPEST {
        let Some(offset) = place else {
            return Ok(None);
        };
        let entry = unit.entry(offset)?;
        match entry.tag() {
            gimli::DW_TAG_pointer_type
            | gimli::DW_TAG_const_type
            | gimli::DW_TAG_volatile_type
            | gimli::DW_TAG_array_type => place = target(&entry)?,
            _ => return nameless(dwarf, unit, place),
        }
    }
    Ok(None)
}

fn members(
    dwarf: &Dwarf<Reader<'_>>,
    unit: &Unit<Reader<'_>>,
    structure: UnitOffset,
    start: u64,
    depth: usize,
    found: &mut Vec<(u64, String, String)>,
) -> Result<(), gimli::Error> {
    let mut tree = unit.entries_tree(Some(structure))?;
    let mut children = tree.root()?.children();
    while let Some(child) = children.next()? {
        let entry = child.entry();
        if entry.tag() != gimli::DW_TAG_member {
            continue;
        }
        let bytes = number(entry, gimli::DW_AT_data_member_location)?.unwrap_or_default();
        let bits = number(entry, gimli::DW_AT_data_bit_offset)?.unwrap_or_default();
        let place = start + bytes * 8 + bits;
        let target = target(entry)?;
        match (name(dwarf, unit, entry)?, target) {
            (Some(name), target) => {
                let mut kind = describe(dwarf, unit, target, depth)?;
                if let Some(width) = number(entry, gimli::DW_AT_bit_size)? {
                    kind.push_str(&format!(":{width}"));
                }
                found.push((place, name, kind));
            }
            (None, Some(target)) if depth > 0 => {
                members(dwarf, unit, target, place, depth - 1, found)?;
            }
            _ => (),
        }
    }
    Ok(())
}

/// A type, so that two that are laid out differently read differently. Structures with a name are
/// compared by themselves.
fn describe(
    dwarf: &Dwarf<Reader<'_>>,
    unit: &Unit<Reader<'_>>,
    offset: Option<UnitOffset>,
    depth: usize,
) -> Result<String, gimli::Error> {
    let (Some(offset), true) = (offset, depth > 0) else {
        return Ok("void".into());
    };
    let entry = unit.entry(offset)?;
    let name = name(dwarf, unit, &entry)?;
    let inner = || describe(dwarf, unit, target(&entry)?, depth - 1);
    Ok(match entry.tag() {
        gimli::DW_TAG_pointer_type => match behind(dwarf, unit, target(&entry)?)? {
            // Nothing else compares it.
            Some(_) => format!("pointer to {}", inner()?),
            None => "pointer".into(),
        },
        gimli::DW_TAG_typedef | gimli::DW_TAG_const_type | gimli::DW_TAG_volatile_type => inner()?,
        gimli::DW_TAG_array_type => {
            let mut text = inner()?;
            let mut tree = unit.entries_tree(Some(offset))?;
            let mut children = tree.root()?.children();
            while let Some(child) = children.next()? {
                let bound = match number(child.entry(), gimli::DW_AT_upper_bound)? {
                    Some(bound) => Some(bound.wrapping_add(1)),
                    None => number(child.entry(), gimli::DW_AT_count)?,
                };
                let bound = bound.map_or(String::new(), |bound| bound.to_string());
                text.push_str(&format!("[{bound}]"));
            }
            text
        }
        tag => {
            let size = number(&entry, gimli::DW_AT_byte_size)?.unwrap_or_default();
            match name {
                Some(name) => format!("{name} of {size}"),
                None => {
                    let mut found = Vec::new();
                    members(dwarf, unit, offset, 0, depth - 1, &mut found)?;
                    format!("{tag} of {size} {found:?}")
                }
            }
        }
    })
}

/// The name of an entry, if it has one.
pub(crate) fn name(
    dwarf: &Dwarf<Reader<'_>>,
    unit: &Unit<Reader<'_>>,
    entry: &Entry<'_, '_>,
) -> Result<Option<String>, gimli::Error> {
    let Some(value) = entry.attr_value(gimli::DW_AT_name)? else {
        return Ok(None);
    };
    let text = dwarf.attr_string(unit, value)?;
    Ok(Some(text.to_string_lossy().into_owned()))
}

/// The value of an attribute that is a number.
pub(crate) fn number(
    entry: &Entry<'_, '_>,
    name: gimli::DwAt,
) -> Result<Option<u64>, gimli::Error> {
    Ok(entry
        .attr_value(name)?
        .and_then(|value| value.udata_value()))
}

fn target(entry: &Entry<'_, '_>) -> Result<Option<UnitOffset>, gimli::Error> {
    reference(entry, gimli::DW_AT_type)
}

/// The entry that an attribute refers to, if it is in the same unit.
pub(crate) fn reference(
    entry: &Entry<'_, '_>,
    attribute: gimli::DwAt,
) -> Result<Option<UnitOffset>, gimli::Error> {
    Ok(match entry.attr_value(attribute)? {
        Some(AttributeValue::UnitRef(offset)) => Some(offset),
        _ => None,
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use std::{fs, process::Command};

    use super::*;

    /// An object with debugging information.
    pub(crate) fn compile(source: &str) -> Vec<u8> {
        compile_with(source, &["-g"])
    }

    /// An object that is compiled with these options.
    pub(crate) fn compile_with(source: &str, options: &[&str]) -> Vec<u8> {
        let directory = tempfile::tempdir().unwrap();
        let (input, output) = (directory.path().join("x.c"), directory.path().join("x.o"));
        fs::write(&input, source).unwrap();
        let status = Command::new("gcc")
            .args(options)
            .args(["-c", "-o"])
            .arg(&output)
            .arg(&input)
            .status();
        assert!(status.unwrap().success());
        fs::read(output).unwrap()
    }

    /// What is said of a structure that is changed so.
    fn said(before: &str, after: &str) -> Vec<String> {
        let source = |members: &str| {
            compile(&format!(
                "struct inner {{ int x; }}; struct s {{ {members} }}; struct s variable;"
            ))
        };
        let refusals = compare("x.o", &source(before), &source(after), None).unwrap();
        refusals
            .into_iter()
            .map(|refusal| format!("{}: {}", refusal.place, refusal.what))
            .collect()
    }

    #[test]
    fn changed_layouts() {
        for (before, after, what) in [
            (
                "int a;",
                "int a; int b;",
                "new: b; 4 bytes, and 8 with the patch",
            ),
            (
                "long a; int b;",
                "long a;",
                "removed: b; 16 bytes, and 8 with the patch",
            ),
            (
                "int a; int b;",
                "int b; int a;",
                "a and 1 more are others or elsewhere",
            ),
            ("int a;", "unsigned a;", "a is another one or elsewhere"),
            ("int a:3;", "int a:4;", "a is another one or elsewhere"),
            ("int a[3]; int b;", "int a[2]; int c; int b;", "new: c"),
            (
                "union { int a; char b; };",
                "union { int a; long b; };",
                "b is another one or elsewhere; 4 bytes, and 8 with the patch",
            ),
        ] {
            let expected = format!("x.o: struct s: its layout changes ({what})");
            assert_eq!(said(before, after), [expected], "{before} {after}");
        }
    }

    #[test]
    fn structures_that_only_a_typedef_names() {
        let source =
            |members: &str| compile(&format!("typedef struct {{ {members} }} s_t; s_t v;"));
        let refusals = compare("x.o", &source("int a;"), &source("int a, b;"), None).unwrap();
        assert_eq!(refusals.len(), 1);
        assert_eq!(
            (&refusals[0].place[..], &refusals[0].what[..]),
            (
                "x.o: s_t",
                "its layout changes (new: b; 4 bytes, and 8 with the patch)"
            )
        );
    }

    #[test]
    fn variables_of_structures_without_a_name() {
        let said = |before: &str, after: &str, rest: &str| {
            let source = |members: &str| {
                let structure = format!("struct {{ {members} }}");
                compile_with(&rest.replace("S", &structure), &["-g", "-O2"])
            };
            let refusals = compare("x.o", &source(before), &source(after), None).unwrap();
            let places: Vec<_> = refusals.into_iter().map(|refusal| refusal.place).collect();
            places
        };
        let swapped = |rest: &str| said("int a; int b;", "int b; int a;", rest);
        let inline = "static inline int g(void) { static S v; return ++v.a; }";
        for (rest, name) in [
            (
                "static S v[2]; int f(int i) { return ++v[i].a; }",
                "variable v",
            ),
            ("extern S v; int f(void) { return ++v.a; }", "variable v"),
            ("S *const *v;", "variable v"),
            (
                "int f(void) { static S v; return ++v.a; }",
                "variable v of f()",
            ),
            (
                &format!("{inline} int f(void) {{ return g(); }}"),
                "variable v of g()",
            ),
            (
                "int f(void *p) { S *v = p; return ++v->a; }",
                "variable v of f()",
            ),
            ("struct s { S *v; } s;", "struct s"),
            ("typedef S *t; t v;", "t"),
        ] {
            assert_eq!(swapped(rest), [format!("x.o: {name}")], "{rest}");
        }
        let block = "{ static S v; ++v.a; }";
        let other = "{ static struct { char a; } v; ++v.a; }";
        let blocks = |first: &str| compile(&format!("void f(void) {{ {first} {other} }}"));
        let (one, two) = (blocks(""), blocks(&block.replace('S', "struct { int a; }")));
        for (before, after) in [(&one, &two), (&two, &one)] {
            assert!(compare("x.o", before, after, None).unwrap().is_empty());
        }
        let local = "int use(void *); int f(void) { S v = { 1, 2 }; return use(&v); }";
        assert!(swapped(local).is_empty());
        assert!(said(
            "int a;",
            "signed int a;",
            "static S v[2]; void *f(void) { return v; }"
        )
        .is_empty());
    }

    #[test]
    fn the_same_layout() {
        assert!(said("int a;", "signed int a;").is_empty());
        assert!(said("struct inner *a; char b[4];", "void *a; char b[4];").is_empty());
    }

    #[test]
    fn users_of_a_structure() {
        let source = |members: &str| {
            compile(&format!(
                "struct s {{ {members} }}; typedef struct {{ {members} }} t; typedef const struct s *p; \
                 int by_pointer(p s) {{ return 0; }} \
                 static inline void inlined(struct s *s) {{}} \
                 void in_a_block(void) {{ {{ struct s all[2]; inlined(all); }} }} \
                 void other(t *t) {{}}"
            ))
        };
        let refusals = compare("x.o", &source("int a;"), &source("int a, b;"), None).unwrap();
        let users: Vec<_> = refusals
            .iter()
            .map(|refusal| refusal.users.clone())
            .collect();
        let expected = ["in x.o: by_pointer, in_a_block, inlined", "in x.o: other"];
        assert_eq!(users, expected.map(|text| Some(text.to_owned())));
    }

    #[test]
    fn objects_without_information() {
        let source = "struct s { int a; } s;";
        let said = |source: &str, options: &[&str]| {
            let object = compile_with(source, options);
            let refusals = compare("x.o", &object, &object, None).unwrap().into_iter();
            refusals.map(|refusal| refusal.what).next()
        };
        let expected = Some("it has no debugging information".to_owned());
        assert_eq!(said(source, &["-g"]), None);
        assert_eq!(said(source, &["-g0"]), expected);
        for version in ["-gdwarf-4", "-gdwarf-5"] {
            assert_eq!(
                said(source, &[version, "-gsplit-dwarf"]),
                expected,
                "{version}"
            );
        }
        assert_eq!(said("", &["-g0"]), None);
    }

    #[test]
    fn users_are_told() {
        let names = |count: usize| (0..count).map(|number| format!("f{number}")).collect();
        assert_eq!(tell_users("x.o", &names(0), None), None);
        assert_eq!(
            tell_users("x.o", &names(2), Some(&names(9))).unwrap(),
            "in x.o: f0, f1; elsewhere in the kernel: f2, f3, f4, f5, f6 and 2 more"
        );
        assert_eq!(
            tell_users("x.o", &names(0), Some(&names(1))).unwrap(),
            "elsewhere in the kernel: f0"
        );
    }

    #[test]
    fn members() {
        let object = compile("struct s { struct { int deep; }; } a; struct t { int other; } b;");
        assert_eq!(with_member(&object, "deep").unwrap(), ["struct s"]);
        assert!(with_member(&object, "none").unwrap().is_empty());
    }
}
