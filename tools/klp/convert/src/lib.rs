// SPDX-License-Identifier: GPL-2.0

//! Turns a kernel module's references to unexported symbols into livepatch relocations.
//!
//! The kernel's loader resolves ordinary undefined symbols against exported symbols only. In a module marked
//! `livepatch=Y` it also resolves relocations in sections named `.klp.rela.OBJECT.SECTION` against symbols named
//! `.klp.sym.OBJECT.NAME,POSITION`, exported or not. `Documentation/livepatch/module-elf-format.rst` describes the
//! format. [`convert`] moves the relocations against a given list of symbols into such sections.

mod elf;
mod late;
mod symbols;

use std::collections::BTreeMap;

pub use symbols::{Position, SymbolMap, Symbols};

use elf::{Elf, Rela};

/// Marks a section of livepatch relocations (`SHF_RELA_LIVEPATCH`).
pub const SHF_RELA_LIVEPATCH: u64 = 0x0010_0000;
/// The section of symbols that livepatch relocations refer to (`SHN_LIVEPATCH`).
pub const SHN_LIVEPATCH: u16 = 0xff20;

/// What the kernel appends to a signed module.
const SIGNATURE: &[u8] = b"~Module signature appended~\n";

/// What [`convert`] did.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// None of the symbols is undefined in the module; perhaps it was converted before.
    NothingToDo,
    /// Relocations were moved.
    Converted {
        /// The new contents of the module's file.
        file: Vec<u8>,
        /// How many relocations.
        relocations: usize,
        /// How many symbols. One that only debugging information refers to counts, though no relocation moves.
        symbols: usize,
    },
}

/// Moves the relocations in `file`, a module, against undefined symbols that are in `symbols`.
///
/// All these symbols are marked, even without a relocation: the loader refuses a module with one that it does not know.
/// With `map`, symbols of vmlinux must be in it, and their positions are checked.
///
/// # Errors
///
/// A message for the user: the file is no unsigned module marked as a livepatch, or damaged; a symbol
/// is not in the map, not clear, or cannot be expressed in the format; or a section that refers to a
/// symbol of another module cannot be relocated when that comes.
pub fn convert(file: &[u8], symbols: &Symbols, map: Option<&SymbolMap>) -> Result<Outcome, String> {
    if file.ends_with(SIGNATURE) {
        return Err("signed: convert before signing, or the signature becomes invalid".into());
    }
    let mut elf = Elf::parse(file)?;

    // The new names of the symbols to be converted, by index.
    let mut converted = BTreeMap::new();
    for symbol in elf.undefined_symbols()? {
        let (index, symbol) = symbol?;
        let Some(wanted) = symbols.get(&symbol.name) else {
            continue;
        };
        if symbol.weak
            && wanted.object == "vmlinux"
            && map.is_some_and(|map| map.count(&symbol.name) == 0)
        {
            // The kernel does not have it, and the module can do without.
            continue;
        }
        let position = wanted.position(&symbol.name, map)?;
        let name = format!(".klp.sym.{}.{},{position}", wanted.object, symbol.name);
        converted.insert(index, (wanted.object.clone(), name));
    }

    if converted.is_empty() {
        return Ok(Outcome::NothingToDo);
    }
    if !is_marked(&elf)? {
        return Err(
            "not marked as a livepatch: add MODULE_INFO(livepatch, \"Y\"), or the loader ignores the relocations"
                .into(),
        );
    }

    // Relocations by where they go: the object, and the section that they change.
    let mut moved: BTreeMap<(&str, usize), Vec<Rela>> = BTreeMap::new();
    let mut relocations = 0;
    for section in elf.relocation_sections()? {
        let mut kept = Vec::new();
        for rela in section.relas {
            match converted.get(&rela.symbol()) {
                Some((object, name)) => {
                    check_late(&elf.section_name(section.target)?, object, name)?;
                    moved
                        .entry((object, section.target))
                        .or_default()
                        .push(rela);
                    relocations += 1;
                }
                None => kept.push(rela),
            }
        }
        elf.set_relocations(section.index, &kept)?;
    }

    for (index, (_, name)) in &converted {
        elf.rename_symbol(*index, name, SHN_LIVEPATCH)?;
    }
    for ((object, target), relas) in moved {
        let name = format!(".klp.rela.{object}.{}", elf.section_name(target)?);
        elf.add_relocation_section(&name, target, SHF_RELA_LIVEPATCH, &relas)?;
    }
    Ok(Outcome::Converted {
        file: elf.write()?,
        relocations,
        symbols: converted.len(),
    })
}

/// Refuses a relocation that would come too late.
fn check_late(section: &str, object: &str, name: &str) -> Result<(), String> {
    match late::obstacle(section) {
        Some(reason) if object != "vmlinux" => Err(format!(
            "section {section} refers to {name}, but {section} {reason}, and {object} may come later: \
             use the symbol in code that runs when {object} is there"
        )),
        _ => Ok(()),
    }
}

/// Whether the module says `livepatch=Y`.
fn is_marked(elf: &Elf<'_>) -> Result<bool, String> {
    let info = elf.section_data(".modinfo")?;
    Ok(info.is_some_and(|info| {
        info.split(|byte| *byte == 0)
            .any(|entry| entry == b"livepatch=Y")
    }))
}
