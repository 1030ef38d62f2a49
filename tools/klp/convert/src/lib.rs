// SPDX-License-Identifier: GPL-2.0

//! Turns a kernel module's references to unexported symbols into livepatch relocations.
//!
//! The kernel's loader resolves ordinary undefined symbols against exported symbols only. In a
//! module marked `livepatch=Y` it also resolves relocations in sections named
//! `.klp.rela.OBJECT.SECTION` against symbols named `.klp.sym.OBJECT.NAME,POSITION`, exported or
//! not. `Documentation/livepatch/module-elf-format.rst` describes the format. [`convert`] moves the
//! relocations against a given list of symbols into such sections.

mod dwarf;
mod elf;
mod exports;
mod late;
mod map;
mod problem;
mod resolve;
mod symbols;
mod uses;

use std::{collections::BTreeMap, fmt};

pub use dwarf::function_start;
pub use exports::{module_symvers, ExportLine, Exports};
pub use late::obstacle as late_obstacle;
pub use map::SymbolMap;
pub use problem::Problem;
pub use resolve::{Known, Request};
pub use symbols::{object_name, Position, Symbols, Unexported};

use elf::{Elf, Rela};
use uses::Uses;

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
        /// The symbols. One that only debugging information refers to is among them, though no
        /// relocation moves.
        symbols: Vec<Converted>,
    },
}

/// A symbol that was converted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Converted {
    /// Its name.
    pub name: String,
    /// `vmlinux` or the module that has it.
    pub object: String,
    /// Which of several of the name it is, from 1; 0 if there is only one.
    pub position: usize,
    /// The places where it is used, for people.
    pub uses: Vec<String>,
}

/// The names of the symbols that `file`, a module, refers to without defining them.
///
/// # Errors
///
/// A message for the user: the file is no module, or damaged.
pub fn undefined_symbols(file: &[u8]) -> Result<Vec<String>, String> {
    let elf = Elf::parse(file)?;
    let symbols = elf.undefined_symbols()?;
    symbols
        .map(|symbol| symbol.map(|(_, symbol)| symbol.name))
        .collect()
}

/// Moves the relocations in `file`, a module, against the undefined symbols that `request` names.
///
/// All these symbols are marked, even without a relocation: the loader refuses a module with one
/// that it does not know. What is `known` of the kernel is used to see that each symbol is there,
/// and which of several is meant.
///
/// # Errors
///
/// The file is no unsigned module marked as a livepatch, or damaged; a symbol is not in the object,
/// not clear, or cannot be expressed in the format; or a section that refers to a symbol of another
/// module cannot be relocated when that comes. All problems with symbols are reported at once.
pub fn convert(file: &[u8], request: &Request, known: &Known) -> Result<Outcome, Vec<Problem>> {
    let one = |error: String| vec![Problem::from(error)];
    if file.ends_with(SIGNATURE) {
        return Err(one(
            "signed: convert before signing, or the signature becomes invalid".into(),
        ));
    }
    let mut elf = Elf::parse(file).map_err(one)?;
    let converted = converted(&elf, request, known)?;
    if converted.is_empty() {
        return Ok(Outcome::NothingToDo);
    }
    let relocations = move_relocations(&mut elf, &converted).map_err(one)?;
    Ok(Outcome::Converted {
        file: elf.write().map_err(one)?,
        relocations,
        symbols: converted.into_values().collect(),
    })
}

/// The symbols to be converted, by their indices.
fn converted(
    elf: &Elf<'_>,
    request: &Request,
    known: &Known,
) -> Result<BTreeMap<usize, Converted>, Vec<Problem>> {
    let one = |error: String| vec![Problem::from(error)];
    let mut uses = None;
    let mut converted = BTreeMap::new();
    let mut problems = Vec::new();
    for symbol in elf.undefined_symbols().map_err(one)? {
        let (index, symbol) = symbol.map_err(one)?;
        let resolved = resolve::resolve(request, known, &symbol.name, symbol.weak);
        if matches!(resolved, Ok(None)) {
            continue;
        }
        let uses = match &uses {
            Some(uses) => uses,
            None => uses.insert(Uses::new(elf).map_err(one)?),
        };
        let uses = uses.of(index);
        match resolved {
            Ok(Some(resolve::Resolved { object, position })) => {
                let name = symbol.name;
                converted.insert(
                    index,
                    Converted {
                        name,
                        object,
                        position,
                        uses,
                    },
                );
            }
            Ok(None) => (),
            Err(problem) => problems.push(problem.used_by(uses)),
        }
    }
    if problems.is_empty() {
        Ok(converted)
    } else {
        Err(problems)
    }
}

/// Does what [`convert`] does when it is clear what is meant; returns how many relocations were
/// moved.
fn move_relocations(
    elf: &mut Elf<'_>,
    converted: &BTreeMap<usize, Converted>,
) -> Result<usize, String> {
    if !is_marked(elf)? {
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
                Some(symbol) => {
                    check_late(&elf.section_name(section.target)?, symbol)?;
                    moved
                        .entry((&symbol.object, section.target))
                        .or_default()
                        .push(rela);
                    relocations += 1;
                }
                None => kept.push(rela),
            }
        }
        elf.set_relocations(section.index, &kept)?;
    }

    for (index, symbol) in converted {
        elf.rename_symbol(*index, &symbol.livepatch_name(), SHN_LIVEPATCH)?;
    }
    for ((object, target), relas) in moved {
        let name = format!(".klp.rela.{object}.{}", elf.section_name(target)?);
        elf.add_relocation_section(&name, target, SHF_RELA_LIVEPATCH, &relas)?;
    }
    Ok(relocations)
}

impl Converted {
    /// The name that the kernel's parser expects.
    fn livepatch_name(&self) -> String {
        format!(".klp.sym.{}.{},{}", self.object, self.name, self.position)
    }
}

/// As the user writes it: `OBJECT:NAME`, with `=N` if there are several.
impl fmt::Display for Converted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.object, self.name)?;
        match self.position {
            0 => Ok(()),
            position => write!(f, "={position}"),
        }
    }
}

/// Refuses a relocation that would come too late.
fn check_late(section: &str, symbol: &Converted) -> Result<(), String> {
    let (object, name) = (&symbol.object, symbol.livepatch_name());
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
