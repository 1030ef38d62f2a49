// SPDX-License-Identifier: GPL-2.0

use super::check;
use crate::{
    bindings::{
        self, elf64_rela, elf64_shdr, elf64_sym, loaded, loaded::Image, module::ModulePtr, Done,
        Known, SHF_ALLOC, SHF_RELA_LIVEPATCH, SHN_LIVEPATCH,
    },
    error::{Error, EINVAL},
    kernel_crate,
    lock::LockHeld,
    pure::names::{section_object, SymbolName},
    reloc,
};
use proptest::{
    collection::vec,
    prelude::*,
    sample::{select, subsequence},
};
use std::ffi::CStr;

/// The symbols that there may be.
const KNOWN: [Known; 6] = [
    (b"vmlinux", b"f", 0x1000),
    (b"vmlinux", b"twin", 0x2000),
    (b"vmlinux", b"twin", 0x3000),
    (b"mod", b"f", 0x4000),
    (b"mod", b"twin", 0x5000),
    (b"other", b"f", 0x6000),
];

/// A section: its name and flags, and the symbols of its relocations.
type Section = (&'static CStr, bool, bool, Vec<u32>);

fn section() -> impl Strategy<Value = Section> {
    let names = vec![
        c".klp.rela.vmlinux..text",
        c".klp.rela.mod..text",
        c".klp.rela.mod.data",
        c".klp.rela.other.text",
        c".klp.rela.",
        c".text",
    ];
    let mostly = || prop_oneof![6 => Just(true), 1 => Just(false)];
    (select(names), mostly(), mostly(), vec(0u32..7, 0..12))
}

/// A symbol: its name, and whether it is marked.
fn symbol() -> impl Strategy<Value = (&'static CStr, bool)> {
    let names = vec![
        c".klp.sym.vmlinux.f,0",
        c".klp.sym.vmlinux.twin,2",
        c".klp.sym.vmlinux.twin,0",
        c".klp.sym.mod.f,0",
        c".klp.sym.mod.f,1",
        c".klp.sym.mod.twin,2",
        c".klp.sym.other.f,1",
        c".klp.sym.mod.f",
    ];
    let marked = prop_oneof![12 => Just(true), 1 => Just(false)];
    // Those that are right more often.
    let name = prop_oneof![3 => select(names[..6].to_vec()), 1 => select(names)];
    (name, marked)
}

fn image(sections: &[Section], symbols: &[(&CStr, bool)]) -> Image {
    let mut image = Image {
        headers: vec![elf64_shdr::default()],
        names: vec![0],
        ..Image::default()
    };
    for (name, livepatch, allocated, relocations) in sections {
        let mut header = elf64_shdr {
            sh_name: image.names.len() as u32,
            ..elf64_shdr::default()
        };
        header.sh_flags |= u64::from(SHF_RELA_LIVEPATCH) * u64::from(*livepatch);
        header.sh_flags |= u64::from(SHF_ALLOC) * u64::from(*allocated);
        image.names.extend(name.to_bytes_with_nul());
        image.headers.push(header);
        let relocation = |symbol: &u32| elf64_rela {
            r_info: u64::from(*symbol) << 32,
            ..elf64_rela::default()
        };
        image
            .relocations
            .push(relocations.iter().map(relocation).collect());
    }
    image.headers.push(elf64_shdr::default());
    for (name, marked) in symbols {
        image.symbols.push(elf64_sym {
            st_name: image.strings.len() as u32,
            st_shndx: if *marked { SHN_LIVEPATCH as u16 } else { 1 },
            st_value: 0,
        });
        image.strings.extend(name.to_bytes_with_nul());
    }
    image
}

/// What the C core does about one section: resolves one relocation after the other, until one is
/// wrong. Sets the values of symbols, and returns what is said.
fn resolve(
    (name, _, _, relocations): &Section,
    symbols: &[(&CStr, bool)],
    known: &[Known],
    values: &mut [u64],
) -> Result<(), String> {
    let for_vmlinux = section_object(name.to_bytes()) == Some(b"vmlinux");
    for index in relocations {
        let Some((symbol, marked)) = symbols.get(*index as usize) else {
            return Err("section {} idx {} refers to a symbol that is not there".into());
        };
        if !marked {
            return Err(
                "symbol {} at rela sec {} idx {} is not marked as a livepatch symbol".into(),
            );
        }
        let Some(symbol) = SymbolName::parse(symbol.to_bytes()) else {
            return Err("symbol {} has an incorrectly formatted name".into());
        };
        if symbol.object == b"vmlinux" && !for_vmlinux {
            return Err(
                "invalid access to vmlinux symbol '{}' from module-specific livepatch relocation \
                 section"
                    .into(),
            );
        }
        let all: Vec<usize> = known
            .iter()
            .filter(|(object, name, _)| *object == symbol.object && *name == symbol.name)
            .map(|(_, _, address)| *address)
            .collect();
        let what = match (all.len(), symbol.position) {
            (0, _) => "NotFound",
            (1, 0) => "",
            (_, 0) => "Ambiguous",
            (count, position) if position > count => "NoSuchPosition",
            _ => "",
        };
        if !what.is_empty() {
            return Err(format!("{what} {}", symbol.name.escape_ascii()));
        }
        values[*index as usize] = all[symbol.position.max(1) - 1] as u64;
    }
    Ok(())
}

const BAD_NAME: &str = "section {} has an incorrectly formatted name";

#[test]
fn relocations() {
    let known = subsequence(KNOWN.to_vec(), 3..=KNOWN.len());
    let object = select(vec![c"mod", c"other"]);
    let cases = (vec(section(), 1..4), vec(symbol(), 1..7), known, object);
    check(
        "relocations",
        cases,
        |(sections, symbols, known, object)| {
            bindings::set_known(known.clone());
            let mut values = vec![0; symbols.len()];

            // All of a module.
            let (mut expected, mut done, mut written) = (Ok(()), Vec::new(), Vec::new());
            for (index, section) in (1..).zip(&sections) {
                let (name, livepatch, allocated, _) = section;
                if !livepatch {
                    continue;
                }
                expected = match section_object(name.to_bytes()) {
                    None => Err(BAD_NAME.to_owned()),
                    Some(of) if of != object.to_bytes() => continue,
                    Some(_) if !allocated => Err("section {} is not kept in memory".into()),
                    Some(_) => resolve(section, &symbols, &known, &mut values),
                };
                if expected.is_err() {
                    break;
                }
                done.push(Done::Written(index));
                written.push(index);
            }
            if expected.is_err() {
                done.extend(written.drain(..).map(Done::Cleared));
            }
            loaded::set_image(image(&sections, &symbols));
            let result = reloc::apply_for(ModulePtr, object, &LockHeld);
            let messages: Vec<String> = expected.clone().err().into_iter().collect();
            prop_assert_eq!(kernel_crate::messages(), messages);
            prop_assert_eq!(result, expected.clone().map_err(|_| EINVAL));
            prop_assert_eq!(bindings::done(), done);
            if expected.is_ok() {
                let found = loaded::image().symbols;
                prop_assert!(found.iter().map(|symbol| symbol.st_value).eq(values));
            }

            // It goes: what was written is cleared.
            reloc::clear_for(ModulePtr, object, &LockHeld);
            let cleared: Vec<Done> = bindings::done();
            for index in &written {
                prop_assert!(cleared.contains(&Done::Cleared(*index)));
            }
            if expected.is_ok() {
                prop_assert_eq!(cleared.len(), written.len());
            }
            // What is not in memory is not touched.
            for (index, (_, _, allocated, _)) in (1..).zip(&sections) {
                prop_assert!(*allocated || !cleared.contains(&Done::Cleared(index)));
            }
            kernel_crate::messages();

            // One section after the other, as the loader does.
            for (index, section) in (1..).zip(&sections) {
                let sections = loaded::sections(&ModulePtr, &LockHeld).expect("an image");
                for object in [None, Some(object)] {
                    let mut values = vec![0; symbols.len()];
                    let expected = match section_object(section.0.to_bytes()) {
                        None => Err(BAD_NAME.to_owned()),
                        Some(of) if of != object.unwrap_or(c"vmlinux").to_bytes() => Ok(false),
                        Some(_) => resolve(section, &symbols, &known, &mut values).map(|()| true),
                    };
                    let result = reloc::apply(&sections, index, object);
                    prop_assert_eq!(result, expected.clone().map(|_| ()).map_err(|_| EINVAL));
                    let messages: Vec<String> = expected.clone().err().into_iter().collect();
                    prop_assert_eq!(kernel_crate::messages(), messages);
                    let written = expected == Ok(true);
                    prop_assert_eq!(bindings::done().len(), usize::from(written));
                }
                let beyond = reloc::apply(&sections, 9, None);
                prop_assert_eq!(beyond, Err::<(), Error>(EINVAL));
            }
            Ok(())
        },
    );
}
