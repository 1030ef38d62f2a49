// SPDX-License-Identifier: GPL-2.0

//! What `reloc.rs` and `klp/elf.rs` use of C, and a machine that has one module.
#![allow(non_camel_case_types, clippy::missing_safety_doc)]

use crate::{
    error::{Error, Result, EINVAL},
    kernel_crate,
    pure::sympos::{LookupError, Wanted},
};
use module::ModulePtr;
use std::{
    cell::RefCell,
    ffi::{c_char, c_int, c_void},
};

pub(crate) const SHF_RELA_LIVEPATCH: u32 = 0x0010_0000;
pub(crate) const SHF_ALLOC: u32 = 2;
pub(crate) const SHT_NULL: u32 = 0;
pub(crate) const SHT_PROGBITS: u32 = 1;
pub(crate) const SHT_SYMTAB: u32 = 2;
pub(crate) const SHT_STRTAB: u32 = 3;
pub(crate) const SHT_RELA: u32 = 4;
pub(crate) const SHT_NOBITS: u32 = 8;
pub(crate) const SHT_REL: u32 = 9;
pub(crate) const SHN_LIVEPATCH: u32 = 0xff20;

/// The header of a section.
#[derive(Clone, Debug, Default)]
pub(crate) struct elf64_shdr {
    pub(crate) sh_name: u32,
    pub(crate) sh_flags: u64,
    pub(crate) sh_addr: u64,
    pub(crate) sh_size: u64,
    pub(crate) sh_type: u32,
    pub(crate) sh_info: u32,
}

/// A relocation.
#[derive(Clone, Debug, Default)]
pub(crate) struct elf64_rela {
    pub(crate) r_offset: u64,
    pub(crate) r_info: u64,
    pub(crate) r_addend: i64,
}

/// A symbol.
#[derive(Clone, Debug, Default)]
pub(crate) struct elf64_sym {
    pub(crate) st_name: u32,
    pub(crate) st_shndx: u16,
    pub(crate) st_value: u64,
}

/// A symbol of the kernel or of a module: the object, the name, the address.
pub(crate) type Known = (&'static [u8], &'static [u8], usize);

/// What the module loader did, by index of the section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Done {
    Written(u32),
    Cleared(u32),
}

thread_local! {
    static KNOWN: RefCell<Vec<Known>> = const { RefCell::new(Vec::new()) };
    static DONE: RefCell<Vec<Done>> = const { RefCell::new(Vec::new()) };
}

/// Sets the symbols that there are.
pub(crate) fn set_known(known: Vec<Known>) {
    KNOWN.set(known);
}

/// Returns what was done since the last call.
pub(crate) fn done() -> Vec<Done> {
    DONE.take()
}

pub(crate) unsafe fn apply_relocate_add(
    _: *mut elf64_shdr,
    _: *const c_char,
    _: u32,
    index: u32,
    _: *mut c_void,
) -> c_int {
    DONE.with_borrow_mut(|done| done.push(Done::Written(index)));
    0
}

pub(crate) unsafe fn clear_relocate_add(
    _: *mut elf64_shdr,
    _: *const c_char,
    _: u32,
    index: u32,
    _: *mut c_void,
) {
    DONE.with_borrow_mut(|done| done.push(Done::Cleared(index)));
}

/// Looks for symbols of an object, one after the other.
pub(crate) fn find_all(object: Option<&[u8]>, wanted: &mut [Wanted<'_>]) -> Result {
    KNOWN.with_borrow(|known| {
        for wanted in wanted {
            for (of, name, address) in known {
                if *of == object.unwrap_or(b"vmlinux") && *name == wanted.name() {
                    let _ = wanted.visit(*address);
                }
            }
        }
    });
    Ok(())
}

/// Notes why a symbol was not found.
pub(crate) fn report(miss: LookupError, _: Option<&[u8]>, name: &[u8], _: usize) -> Error {
    kernel_crate::print(&format!("{miss:?} {}", name.escape_ascii()));
    EINVAL
}

pub(crate) mod module {
    //! `kapi::module`.

    /// A module.
    #[derive(Clone, Copy)]
    pub(crate) struct ModulePtr;

    impl ModulePtr {
        pub(crate) fn as_ptr(self) -> *mut std::ffi::c_void {
            std::ptr::null_mut()
        }

        /// Everything belongs to the module.
        pub(crate) fn memory_around(self, _: usize) -> Option<std::ops::Range<usize>> {
            Some(0..usize::MAX)
        }
    }
}

pub(crate) mod loaded {
    //! `klp::module`.

    use super::*;
    use crate::{
        klp::elf::{Sections, Stage},
        lock::LockHeld,
    };

    /// A module in memory.
    #[derive(Clone, Debug, Default)]
    pub(crate) struct Image {
        pub(crate) headers: Vec<elf64_shdr>,
        pub(crate) names: Vec<u8>,
        pub(crate) strings: Vec<u8>,
        pub(crate) symbols: Vec<elf64_sym>,
        pub(crate) relocations: Vec<Vec<elf64_rela>>,
    }

    thread_local! {
        static IMAGE: RefCell<Image> = RefCell::default();
    }

    /// Sets the module that there is.
    pub(crate) fn set_image(image: Image) {
        IMAGE.set(image);
    }

    /// Returns the module.
    pub(crate) fn image() -> Image {
        IMAGE.with_borrow(Image::clone)
    }

    /// Returns the sections of the module.
    pub(crate) fn sections(module: &ModulePtr, _: &LockHeld) -> Option<Sections<'static>> {
        IMAGE.with_borrow_mut(|image| {
            // The symbol table is the last section, and the first one is none.
            let last = image.headers.len() - 1;
            for (header, relocations) in image.headers[1..last].iter_mut().zip(&image.relocations) {
                header.sh_addr = relocations.as_ptr() as u64;
                header.sh_size = size_of_val(&relocations[..]) as u64;
                header.sh_type = SHT_RELA;
            }
            // What they change.
            image.headers[0] = elf64_shdr {
                sh_type: SHT_PROGBITS,
                sh_flags: u64::from(SHF_ALLOC),
                sh_size: 1 << 20,
                ..elf64_shdr::default()
            };
            let symbols = &mut image.symbols;
            let table = &mut image.headers[last];
            table.sh_addr = symbols.as_mut_ptr() as u64;
            table.sh_size = size_of_val(&symbols[..]) as u64;
            // SAFETY: A test keeps the image until it has another one, and uses the sections no
            // longer.
            unsafe {
                Sections::from_raw(
                    *module,
                    Stage::Loaded,
                    image.headers.as_mut_ptr(),
                    image.headers.len() as u32,
                    image.names.as_ptr().cast(),
                    image.strings.as_ptr().cast(),
                    last as u32,
                )
            }
        })
    }
}
