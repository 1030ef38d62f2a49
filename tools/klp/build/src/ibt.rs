// SPDX-License-Identifier: GPL-2.0

//! Functions of the kernel that cannot be called by a pointer, though a patch takes their addresses.
//!
//! With indirect branch tracking (IBT), a call by a pointer has to arrive at an instruction `endbr64`.
//! `objtool` lists the functions whose addresses nothing in the kernel takes, in the section
//! `.ibt_endbr_seal`, and when the kernel starts, or a module is loaded, it overwrites this
//! instruction in them. Code that calls one of them by a pointer is stopped.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use object::elf;

use crate::{
    elf::{File, Relocation, Section},
    error::{read, Refusal, Result},
    image::Image,
};

/// The list of functions without `endbr64`.
const SEALED: &str = ".ibt_endbr_seal";

/// What begins the names of the symbols of livepatch relocations.
const REFERENCE: &str = ".klp.sym.";

/// A function of the patch that takes the address of one that cannot be called by it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Taken {
    /// The function or variable of the patch.
    user: String,
    /// The function of the kernel.
    function: String,
}

impl Taken {
    /// The refusal, given the place of what has the address.
    pub(crate) fn refusal(&self, place: impl Fn(&str) -> String) -> Refusal {
        Refusal::new(
            place(&self.user),
            format!("it takes the address of {}", self.function),
            "nothing in the kernel does, so the kernel has made that function one that cannot be called \
             by a pointer (IBT)",
            "take the address of a new function that calls it",
        )
    }
}

/// Finds what takes such addresses in the module of a patch. `modules` are the files of the
/// modules that it patches, by name.
pub(crate) fn taken(
    image: &Image,
    modules: &BTreeMap<String, PathBuf>,
    patch: &Path,
) -> Result<Vec<Taken>> {
    let data = read(patch)?;
    let patch = File::parse(&data)?;
    let sealed = sealed(image);
    let mut all = of_patch(&patch, "vmlinux", &|name, position| {
        let known = image.symbols(name).get(position.saturating_sub(1));
        known.is_some_and(|symbol| sealed.contains(&symbol.address))
    });
    for (name, path) in modules {
        let data = read(path)?;
        let module = File::parse(&data)?;
        let sealed = sealed_of_module(&module);
        all.extend(of_patch(&patch, name, &|name, position| {
            let mut known = module.symbols.iter().filter(|symbol| symbol.name == name);
            let known = known.nth(position.saturating_sub(1));
            known.is_some_and(|symbol| sealed.contains(&(symbol.section, symbol.value)))
        }));
    }
    Ok(all)
}

/// The addresses of functions that cannot be called by a pointer. Each entry says how far from it
/// one is.
fn sealed(image: &Image) -> BTreeSet<u64> {
    let (address, entries) = image.section(SEALED).unwrap_or_default();
    let entries = entries.chunks_exact(4).zip((address..).step_by(4));
    entries
        .filter_map(|(entry, place)| {
            let distance = i32::from_le_bytes(entry.try_into().ok()?);
            Some(place.wrapping_add_signed(distance.into()))
        })
        .collect()
}

/// The same in a module, by section and offset.
fn sealed_of_module(module: &File<'_>) -> BTreeSet<(usize, u64)> {
    let lists = module
        .sections
        .iter()
        .filter(|section| section.name == SEALED);
    let entries = lists.flat_map(|section| &section.relocations);
    entries
        .map(|entry| {
            let symbol = &module.symbols[entry.symbol];
            (
                symbol.section,
                symbol.value.wrapping_add_signed(entry.addend),
            )
        })
        .collect()
}

/// What takes addresses of functions of an object of which `sealed` is true, by name and position.
fn of_patch(patch: &File<'_>, object: &str, sealed: &dyn Fn(&str, usize) -> bool) -> Vec<Taken> {
    let mut all = Vec::new();
    for (index, section) in patch.sections.iter().enumerate() {
        if !may_keep_pointers(section) {
            continue;
        }
        for relocation in &section.relocations {
            let symbol = patch.symbols[relocation.symbol].name;
            let reference = symbol
                .strip_prefix(REFERENCE)
                .and_then(|rest| rest.strip_prefix(object)?.strip_prefix('.'))
                .and_then(|rest| rest.rsplit_once(','));
            let Some((name, position)) = reference else {
                continue;
            };
            let position = position.parse().unwrap_or_default();
            if !takes_address(section, relocation) || !sealed(name, position) {
                continue;
            }
            let user = patch.definitions().find(|symbol| {
                let range = symbol.value..symbol.value + symbol.size;
                symbol.section == index && range.contains(&relocation.offset)
            });
            let taken = Taken {
                user: user.map_or(section.name, |symbol| symbol.name).into(),
                function: name.into(),
            };
            if !all.contains(&taken) {
                all.push(taken);
            }
        }
    }
    all
}

/// Whether it is code or data; other sections have addresses that nothing is called by.
fn may_keep_pointers(section: &Section<'_>) -> bool {
    section.is_code() || section.name.starts_with(".data") || section.name.starts_with(".rodata")
}

/// Whether a relocation gives an address, and is not part of a call or jump.
fn takes_address(section: &Section<'_>, relocation: &Relocation) -> bool {
    match relocation.kind {
        elf::R_X86_64_64 | elf::R_X86_64_32 | elf::R_X86_64_32S => true,
        elf::R_X86_64_PC32 if section.is_code() => {
            let start = relocation.offset as usize;
            let before = section.data.get(..start).unwrap_or_default();
            // call, jmp; jumps with a condition.
            !matches!(before, [.., 0xe8 | 0xe9] | [.., 0x0f, 0x80..=0x8f])
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::elf::Symbol;

    const BASE: u64 = 0xffff_ffff_8100_0000;

    #[test]
    fn lists_of_the_kernel() {
        let mut entries = Vec::new();
        entries.extend((-0x100_i32).to_le_bytes());
        entries.extend((-0x104_i32).to_le_bytes());
        let image = Image::of(&[(BASE, &[0; 16]), (BASE + 0x100, &entries)], &[]);
        assert!(sealed(&image).is_empty());
        let image = image.with_name(1, SEALED);
        assert_eq!(Vec::from_iter(sealed(&image)), [BASE]);
    }

    fn symbol(name: &str, section: usize, value: u64) -> Symbol<'_> {
        Symbol {
            name,
            kind: elf::STT_FUNC,
            local: true,
            weak: false,
            section,
            value,
            size: 16,
        }
    }

    fn section<'a>(name: &'a str, flags: u32, data: &'a [u8]) -> Section<'a> {
        Section {
            name,
            flags: flags.into(),
            entry_size: 0,
            data,
            relocations: Vec::new(),
        }
    }

    fn relocation(offset: u64, kind: u32, symbol: usize) -> Relocation {
        Relocation {
            offset,
            kind,
            symbol,
            addend: 0,
        }
    }

    #[test]
    fn lists_of_modules() {
        let mut list = section(SEALED, 0, b"");
        list.relocations = vec![relocation(0, elf::R_X86_64_PC32, 0)];
        list.relocations[0].addend = 0x20;
        let module = File {
            sections: vec![section("", 0, b""), list],
            symbols: vec![symbol("", 7, 0)],
        };
        assert_eq!(Vec::from_iter(sealed_of_module(&module)), [(7, 0x20)]);
    }

    /// Who takes the address of a function, if the patch has this code before the place of its
    /// address.
    fn users(code: &[u8], kind: u32, reference: &str) -> Vec<String> {
        let mut text = section(".text.f", elf::SHF_EXECINSTR, code);
        text.relocations = vec![relocation(code.len() as u64, kind, 1)];
        let patch = File {
            sections: vec![section("", 0, b""), text],
            symbols: vec![symbol("f", 1, 0), symbol(reference, 0, 0)],
        };
        let sealed = |name: &str, position| (name, position) == ("g.x", 2);
        let taken = of_patch(&patch, "vmlinux", &sealed).into_iter();
        taken
            .map(|taken| format!("{} {}", taken.user, taken.function))
            .collect()
    }

    #[test]
    fn addresses_in_code() {
        let there = ".klp.sym.vmlinux.g.x,2";
        for (code, kind, found) in [
            (&b"\x48\x8d\x05"[..], elf::R_X86_64_PC32, true),
            (b"\x48\xc7\xc0", elf::R_X86_64_32S, true),
            // A displacement that looks like a call.
            (b"\x48\xc7\x45\xe8", elf::R_X86_64_32S, true),
            (b"\xe8", elf::R_X86_64_PC32, false),
            (b"\xe9", elf::R_X86_64_PLT32, false),
            (b"\x0f\x84", elf::R_X86_64_PC32, false),
        ] {
            let expected: &[&str] = if found { &["f g.x"] } else { &[] };
            assert_eq!(users(code, kind, there), expected, "{code:x?}");
        }
        let kind = elf::R_X86_64_64;
        assert!(users(b"", kind, ".klp.sym.vmlinux.g.x,1").is_empty());
        assert!(users(b"", kind, ".klp.sym.module.g.x,2").is_empty());
        assert!(users(b"", kind, "g.x").is_empty());
    }
}
