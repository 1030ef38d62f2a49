// SPDX-License-Identifier: GPL-2.0

//! The sections of a livepatch module's ELF file, and its relocations.
//!
//! C headers: [`include/linux/elf.h`](srctree/include/linux/elf.h),
//! [`include/linux/moduleloader.h`](srctree/include/linux/moduleloader.h)
//!
//! # Concurrency
//!
//! The loader reads a module's sections before anybody else knows of the module; after that,
//! everything here happens under the registry lock.

use crate::{
    bindings,
    kapi::module::ModulePtr, //
};
use core::{
    marker::PhantomData,
    ptr::NonNull, //
};
use kernel::{
    error::to_result,
    ffi::c_char,
    prelude::*, //
};

type Header = bindings::elf64_shdr;
type Relocation = bindings::elf64_rela;
type RawSymbol = bindings::elf64_sym;

/// The section headers of a module.
///
/// # Invariants
///
/// `headers` points to `count` headers, which describe memory of `module` that exists for `'a`, as
/// far as they are marked `SHF_ALLOC` or are the symbol table, whose index `symbols` is. Names are
/// offsets into `names` and `strings`, which hold NUL-terminated strings: the loader has checked
/// that. Nobody else writes to the values of the symbols meanwhile.
pub(crate) struct Sections<'a> {
    module: ModulePtr,
    headers: NonNull<Header>,
    count: u32,
    names: *const c_char,
    strings: *const c_char,
    symbols: u32,
    _lifetime: PhantomData<&'a Header>,
}

impl Sections<'_> {
    /// Wraps what the loader passes.
    ///
    /// # Safety
    ///
    /// The type's invariants must hold.
    pub(crate) unsafe fn from_raw(
        module: ModulePtr,
        headers: *mut Header,
        count: u32,
        names: *const c_char,
        strings: *const c_char,
        symbols: u32,
    ) -> Option<Self> {
        // INVARIANT: By the safety requirements.
        Some(Self {
            module,
            headers: NonNull::new(headers)?,
            count,
            names,
            strings,
            symbols,
            _lifetime: PhantomData,
        })
    }

    fn header(&self, index: u32) -> Option<&Header> {
        // SAFETY: There are `count` headers, by the type's invariant.
        (index < self.count).then(|| unsafe { self.headers.add(index as usize).as_ref() })
    }

    /// The section at `index`.
    pub(crate) fn get(&self, index: u32) -> Option<Section<'_>> {
        Some(Section {
            all: self,
            index,
            header: self.header(index)?,
        })
    }

    /// Returns all sections of the module.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Section<'_>> {
        (1..self.count).filter_map(|index| self.get(index))
    }

    /// The index of the symbol table.
    pub(crate) fn symbol_table(&self) -> u32 {
        self.symbols
    }
}

/// One section of a module.
pub(crate) struct Section<'a> {
    all: &'a Sections<'a>,
    index: u32,
    header: &'a Header,
}

impl<'a> Section<'a> {
    /// Whether it is one of livepatch relocations.
    pub(crate) fn is_livepatch(&self) -> bool {
        self.header.sh_flags & u64::from(bindings::SHF_RELA_LIVEPATCH) != 0
    }

    /// Whether it stays when the module has been loaded.
    pub(crate) fn is_allocated(&self) -> bool {
        self.header.sh_flags & u64::from(bindings::SHF_ALLOC) != 0
    }

    /// The name of the section.
    pub(crate) fn name(&self) -> &'a CStr {
        let name = self.all.names.wrapping_add(self.header.sh_name as usize);
        // SAFETY: A string among the section names, by the invariants of `Sections`.
        unsafe { CStr::from_char_ptr(name) }
    }

    /// Returns the index of the symbol of each of its relocations.
    ///
    /// The section must be allocated, or the module be loading.
    pub(crate) fn symbol_indices(&self) -> impl ExactSizeIterator<Item = u32> + '_ {
        let count = self.header.sh_size as usize / size_of::<Relocation>();
        let first = self.header.sh_addr as *const Relocation;
        (0..count).map(move |index| {
            // SAFETY: The section has `count` entries and exists, by the invariants of `Sections`.
            let info = unsafe { (*first.add(index)).r_info };
            (info >> 32) as u32
        })
    }

    /// Returns the symbol at `index` of the module's symbol table.
    pub(crate) fn symbol(&self, index: u32) -> Option<Symbol<'a>> {
        let table = self.all.header(self.all.symbols)?;
        if index as usize >= table.sh_size as usize / size_of::<RawSymbol>() {
            return None;
        }
        let first = NonNull::new(table.sh_addr as *mut RawSymbol)?;
        Some(Symbol {
            // SAFETY: The table has that many entries and exists, by the invariants of `Sections`.
            raw: unsafe { first.add(index as usize) },
            strings: self.all.strings,
            _lifetime: PhantomData,
        })
    }

    /// Writes the relocations: every symbol must have its value. Sleeps.
    ///
    /// # Errors
    ///
    /// `ENOEXEC` if a place does not hold what it should or a value does not fit, after a message.
    pub(crate) fn relocate(&self) -> Result {
        // SAFETY: All of it belongs to the module, by the invariants of `Sections`.
        to_result(unsafe {
            bindings::apply_relocate_add(
                self.all.headers.as_ptr(),
                self.all.strings,
                self.all.symbols,
                self.index,
                self.all.module.as_ptr(),
            )
        })
    }

    /// Undoes [`Self::relocate`]. Sleeps.
    pub(crate) fn clear(&self) {
        // SAFETY: All of it belongs to the module, by the invariants of `Sections`; the section was
        // written before.
        unsafe {
            bindings::clear_relocate_add(
                self.all.headers.as_ptr(),
                self.all.strings,
                self.all.symbols,
                self.index,
                self.all.module.as_ptr(),
            )
        };
    }
}

/// A symbol of the module.
#[derive(Clone, Copy)]
pub(crate) struct Symbol<'a> {
    raw: NonNull<RawSymbol>,
    strings: *const c_char,
    _lifetime: PhantomData<&'a RawSymbol>,
}

impl<'a> Symbol<'a> {
    /// Whether it is marked to be resolved by the core.
    pub(crate) fn is_livepatch(&self) -> bool {
        // SAFETY: An entry of the symbol table, which exists by the invariants of `Sections`.
        let section = unsafe { (*self.raw.as_ptr()).st_shndx };
        u32::from(section) == bindings::SHN_LIVEPATCH
    }

    /// The name of the symbol.
    pub(crate) fn name(&self) -> &'a CStr {
        // SAFETY: An entry of the symbol table, which exists by the invariants of `Sections`.
        let offset = unsafe { (*self.raw.as_ptr()).st_name };
        // SAFETY: A string among the names of symbols, by the invariants of `Sections`.
        unsafe { CStr::from_char_ptr(self.strings.wrapping_add(offset as usize)) }
    }

    /// Sets its value.
    pub(crate) fn set_value(&self, value: usize) {
        // SAFETY: An entry of the symbol table, by the invariants of `Sections`; only the address
        // is taken.
        let field = unsafe { &raw mut (*self.raw.as_ptr()).st_value };
        // SAFETY: Nobody else writes to it, by the invariants of `Sections`; volatile, since
        // kallsyms reads it without a lock.
        unsafe { field.write_volatile(value as u64) };
    }
}
