// SPDX-License-Identifier: GPL-2.0

//! Livepatch relocations: references of a patch module to symbols that are not exported, or whose
//! module may come later.
//!
//! The format is described in `Documentation/livepatch/module-elf-format.rst`. Those for vmlinux
//! are written when the patch module is loaded, by the loader ([`apply`]); those for a module when
//! both are there, and cleared when it goes.
//!
//! # Contexts
//!
//! Process context; sleeps. [`apply`] needs no lock: nobody else changes the module yet. The
//! others run under the registry's.

use crate::{
    kapi::module::ModulePtr,
    klp::{
        elf::{
            Places,
            Section,
            Sections,
            Symbol, //
        },
        module, //
    },
    lock::LockHeld,
    pure::{
        names::{
            section_object,
            SymbolName, //
        },
        sort,
        sympos::Wanted, //
    },
    symbols,
};
use kernel::{
    prelude::*,
    str::BStr, //
};

/// Writes the relocations in the section at `index` if they are for `object`, a module, or for
/// vmlinux.
///
/// # Errors
///
/// `EINVAL` for a malformed section or symbol name and for a symbol that is not clear, `ENOEXEC` if
/// a place cannot be relocated; after a message. `ENOMEM`.
#[doc(alias = "klp_apply_section_relocs")]
pub(crate) fn apply(sections: &Sections<'_>, index: u32, object: Option<&CStr>) -> Result {
    let section = sections.get(index).ok_or(EINVAL)?;
    let table = sections.symbol_table();
    if is_for(&section, object.unwrap_or(c"vmlinux"))? {
        write(&section, table)?;
    }
    Ok(())
}

/// Writes the relocations of the patch module `pmod` for the module called `object`: the sections
/// before one that cannot be written are cleared again.
///
/// # Errors
///
/// As [`apply`]; also `EINVAL` for a section that is not in memory any more.
#[doc(alias = "klp_apply_object_relocs")]
pub(crate) fn apply_for(pmod: ModulePtr, object: &CStr, held: &LockHeld) -> Result {
    let Some(sections) = module::sections(&pmod, held) else {
        return Ok(());
    };
    let livepatch = || sections.iter().filter(Section::is_livepatch);
    for (count, section) in livepatch().enumerate() {
        if let Err(error) = write_for(&section, object, sections.symbol_table()) {
            clear(livepatch().take(count), object);
            return Err(error);
        }
    }
    Ok(())
}

/// Writes the relocations of a section of a module that has been loaded, if they are for `object`.
/// `table` is the index of the symbol table.
fn write_for(section: &Section<'_>, object: &CStr, table: u32) -> Result {
    if !is_for(section, object)? {
        return Ok(());
    }
    if !section.is_allocated() {
        pr_err!("section {} is not kept in memory\n", section.name());
        return Err(EINVAL);
    }
    write(section, table)
}

/// Writes the relocations of a section. `table` is the index of the symbol table.
fn write(section: &Section<'_>, table: u32) -> Result {
    if !section.has_relocations() {
        pr_err!("section {} has no relocations\n", section.name());
        return Err(ENOEXEC);
    }
    resolve(section, table)?;
    match section.places() {
        // Those of an init function that has run are of no use any more.
        Ok(places) => places.map_or(Ok(()), Places::relocate),
        Err(index) => {
            pr_err!(
                "section {} idx {} is for a place that is not there\n",
                section.name(),
                index
            );
            Err(ENOEXEC)
        }
    }
}

/// Clears the relocations of the patch module `pmod` for the module called `object`, which goes.
#[doc(alias = "klp_clear_object_relocs")]
pub(crate) fn clear_for(pmod: ModulePtr, object: &CStr, held: &LockHeld) {
    if let Some(sections) = module::sections(&pmod, held) {
        clear(sections.iter().filter(Section::is_livepatch), object);
    }
}

/// Clears those of the relocations in `sections` that are for the module called `object`.
fn clear<'a>(sections: impl Iterator<Item = Section<'a>>, object: &CStr) {
    for section in sections {
        match is_for(&section, object) {
            Ok(true) if section.is_allocated() && section.has_relocations() => {
                // An error: it was not written.
                if let Ok(Some(places)) = section.places() {
                    places.clear();
                }
            }
            Ok(_) => (),
            // As far as `apply_for` got.
            Err(_) => return,
        }
    }
}

fn is_for(section: &Section<'_>, object: &CStr) -> Result<bool> {
    let name = section.name();
    let Some(found) = section_object(name.to_bytes()) else {
        pr_err!("section {} has an incorrectly formatted name\n", name);
        return Err(EINVAL);
    };
    Ok(found == object.to_bytes())
}

/// The reason why a relocation cannot be written.
enum Fault<'a> {
    NoSymbol,
    Unmarked(Symbol<'a>),
    Malformed(Symbol<'a>),
    Vmlinux(&'a [u8]),
}

impl Fault<'_> {
    /// Prints it. `table` is the index of the symbol table, `index` that of the relocation.
    fn report(&self, section: &Section<'_>, table: u32, index: u32) {
        match self {
            Self::NoSymbol => pr_err!(
                "section {} idx {} refers to a symbol that is not there\n",
                section.name(),
                index
            ),
            Self::Unmarked(symbol) => pr_err!(
                "symbol {} at rela sec {} idx {} is not marked as a livepatch symbol\n",
                symbol.name(),
                table,
                index
            ),
            Self::Malformed(symbol) => pr_err!(
                "symbol {} has an incorrectly formatted name\n",
                symbol.name()
            ),
            Self::Vmlinux(name) => pr_err!(
                "invalid access to vmlinux symbol '{}' from module-specific livepatch relocation \
                 section\n",
                BStr::from_bytes(name)
            ),
        }
    }
}

/// A symbol that relocations of a section refer to.
struct Used<'a> {
    symbol: Symbol<'a>,
    name: SymbolName<'a>,
    /// The first relocation that refers to it, by index.
    first: u32,
}

/// Checks the symbol of a relocation, without looking for it.
fn examine<'a>(
    symbol: Option<Symbol<'a>>,
    for_vmlinux: bool,
) -> Result<(Symbol<'a>, SymbolName<'a>), Fault<'a>> {
    let symbol = symbol.ok_or(Fault::NoSymbol)?;
    if !symbol.is_livepatch() {
        return Err(Fault::Unmarked(symbol));
    }
    let name = SymbolName::parse(symbol.name().to_bytes()).ok_or(Fault::Malformed(symbol))?;
    // The order in which a module and its special sections come up leaves no good time for these.
    if name.object == b"vmlinux" && !for_vmlinux {
        return Err(Fault::Vmlinux(name.name));
    }
    Ok((symbol, name))
}

/// Returns each symbol index in a section with its first relocation, in the section's order.
///
/// A large patch has many more relocations than symbols, so no more than two numbers are kept for a
/// relocation.
///
/// # Errors
///
/// `ENOMEM`.
fn first_uses(section: &Section<'_>) -> Result<KVVec<(u32, u32)>> {
    let indices = section.symbol_indices();
    let mut uses = KVVec::with_capacity(indices.len(), GFP_KERNEL)?;
    for (symbol, relocation) in indices.zip(0..) {
        uses.push((symbol, relocation), GFP_KERNEL)?;
    }
    sort::by_key(&mut uses, |used| *used);
    let mut last = None;
    uses.retain(|(symbol, _)| last.replace(*symbol) != Some(*symbol));
    sort::by_key(&mut uses, |(_, relocation)| *relocation);
    Ok(uses)
}

/// Gives the symbols of a section's relocations their values.
///
/// The first fault in the section's order is reported.
#[doc(alias = "klp_resolve_symbols")]
fn resolve(section: &Section<'_>, table: u32) -> Result {
    let for_vmlinux = section_object(section.name().to_bytes()) == Some(b"vmlinux");
    let mut symbols = KVVec::new();
    let mut fault = None;
    for (index, first) in first_uses(section)? {
        match examine(section.symbol(index), for_vmlinux) {
            Ok((symbol, name)) => symbols.push(
                Used {
                    symbol,
                    name,
                    first,
                },
                GFP_KERNEL,
            )?,
            Err(found) => {
                fault = Some((first, found));
                break;
            }
        }
    }

    // One search for each object that they are in.
    sort::by_key(&mut symbols, |used| (used.name.object, used.first));
    let mut wanted = KVVec::with_capacity(symbols.len(), GFP_KERNEL)?;
    for (order, Used { name, .. }) in symbols.iter().enumerate() {
        wanted.push(Wanted::new(name.name, name.position, order), GFP_KERNEL)?;
    }
    let mut rest = &mut wanted[..];
    for group in symbols.chunk_by(|a, b| a.name.object == b.name.object) {
        let (these, others) = rest.split_at_mut(group.len());
        if let Some(Used { name, .. }) = group.first() {
            symbols::find_all(object_of(name.object), these)?;
        }
        rest = others;
    }

    let results = || symbols.iter().zip(wanted.iter().map(Wanted::result));
    for (used, result) in results() {
        if let Ok(address) = result {
            used.symbol.set_value(address);
        }
    }
    let missed = results().filter_map(|(used, result)| Some((used, result.err()?)));
    if let Some((Used { name, .. }, error)) = missed.min_by_key(|(used, _)| used.first) {
        let object = object_of(name.object);
        return Err(symbols::report(error, object, name.name, name.position));
    }
    if let Some((index, fault)) = fault {
        fault.report(section, table, index);
        return Err(EINVAL);
    }
    Ok(())
}

/// The object as the symbol search calls it: vmlinux is none.
fn object_of(name: &[u8]) -> Option<&[u8]> {
    (name != b"vmlinux").then_some(name)
}
