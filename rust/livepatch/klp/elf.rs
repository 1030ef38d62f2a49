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

/// What of a module's sections there is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The module is being loaded: all of them.
    Loading,
    /// The loader has finished: what is in the module's memory, without that of its init function
    /// when it has run.
    Loaded,
}

/// The section headers of a module.
///
/// # Invariants
///
/// `headers` points to `count` headers, which describe memory of `module` that exists for `'a`, as
/// far as `stage` says, and the symbol table, whose index `symbols` is. Names are offsets into
/// `names` and `strings`, which hold NUL-terminated strings: the loader has checked that. Nobody
/// else writes to the values of the symbols meanwhile.
pub(crate) struct Sections<'a> {
    module: ModulePtr,
    stage: Stage,
    headers: NonNull<Header>,
    count: u32,
    names: *const c_char,
    strings: *const c_char,
    symbols: u32,
    _lifetime: PhantomData<&'a Header>,
}

impl Sections<'_> {
    /// Wraps what the loader passes; `None` if the headers are not aligned.
    ///
    /// # Safety
    ///
    /// The type's invariants must hold.
    pub(crate) unsafe fn from_raw(
        module: ModulePtr,
        stage: Stage,
        headers: *mut Header,
        count: u32,
        names: *const c_char,
        strings: *const c_char,
        symbols: u32,
    ) -> Option<Self> {
        // INVARIANT: By the safety requirements.
        Some(Self {
            module,
            stage,
            headers: NonNull::new(headers).filter(|headers| headers.is_aligned())?,
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

    fn is_loading(&self) -> bool {
        self.stage == Stage::Loading
    }

    /// Whether relocations may be for a section: it is part of the program, and the loader has
    /// found room for it.
    fn may_change(&self, header: &Header) -> bool {
        match header.sh_type {
            // While they are read, they must stay as they are.
            bindings::SHT_RELA
            | bindings::SHT_REL
            | bindings::SHT_SYMTAB
            | bindings::SHT_STRTAB => false,
            bindings::SHT_NULL | bindings::SHT_NOBITS => is_allocated(header),
            // The loader keeps variables of each CPU elsewhere until it has finished.
            _ => self.is_loading() || is_allocated(header),
        }
    }

    /// Whether a section of the module is in memory at this moment.
    fn is_in_memory(&self, header: &Header) -> bool {
        let in_module = || self.module.memory_around(header.sh_addr as usize);
        self.is_loading() || in_module().is_some()
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

    /// Whether it consists of relocations with addends, as it has to.
    pub(crate) fn has_relocations(&self) -> bool {
        self.header.sh_type == bindings::SHT_RELA
    }

    /// Whether it stays when the module has been loaded.
    pub(crate) fn is_allocated(&self) -> bool {
        is_allocated(self.header)
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
        self.relocations()
            .map(|relocation| symbol_index(&relocation))
    }

    fn relocations(&self) -> impl ExactSizeIterator<Item = Relocation> {
        let count = self.header.sh_size as usize / size_of::<Relocation>();
        let first = self.header.sh_addr as *const Relocation;
        // SAFETY: The section has `count` entries and exists, by the invariants of `Sections`; the
        // loader does not see to it that they are aligned.
        (0..count).map(move |index| unsafe { first.add(index).read_unaligned() })
    }

    /// Returns the symbol at `index` of the module's symbol table.
    pub(crate) fn symbol(&self, index: u32) -> Option<Symbol<'a>> {
        let table = self.all.header(self.all.symbols)?;
        if index as usize >= table.sh_size as usize / size_of::<RawSymbol>() {
            return None;
        }
        let first = NonNull::new(table.sh_addr as *mut RawSymbol)?;
        if !first.is_aligned() {
            return None;
        }
        Some(Symbol {
            // SAFETY: The table has that many entries and exists, by the invariants of `Sections`.
            raw: unsafe { first.add(index as usize) },
            strings: self.all.strings,
            _lifetime: PhantomData,
        })
    }

    /// Returns the places that its relocations change; `None` if they are gone since the module's
    /// init function has run.
    ///
    /// The loader looks at neither places nor symbols. The section must have relocations, and be
    /// allocated or the module loading.
    ///
    /// # Errors
    ///
    /// The index of the first relocation that is not within the section that it is for, or for one
    /// that is not kept in memory or does not belong to the program, or of which the symbol is not
    /// there.
    pub(crate) fn places(&self) -> Result<Option<Places<'_>>, u32> {
        let target = self.all.header(self.header.sh_info);
        let kept = target.filter(|target| self.all.may_change(target));
        let size = kept.map_or(0, |target| target.sh_size);
        for (relocation, index) in self.relocations().zip(0..) {
            let end = relocation.r_offset.checked_add(width(&relocation));
            let is_inside = end.is_some_and(|end| end <= size);
            if !is_inside || self.symbol(symbol_index(&relocation)).is_none() {
                return Err(index);
            }
        }
        let in_memory = kept.is_some_and(|target| self.all.is_in_memory(target));
        // INVARIANT: Just checked.
        Ok(in_memory.then_some(Places(self)))
    }
}

/// Whether a section stays when the module has been loaded; that of the init function stays until
/// that has run.
fn is_allocated(header: &Header) -> bool {
    header.sh_flags & u64::from(bindings::SHF_ALLOC) != 0
}

/// The index of the symbol of a relocation.
fn symbol_index(relocation: &Relocation) -> u32 {
    (relocation.r_info >> 32) as u32
}

/// How many bytes a relocation changes; on architectures other than x86-64, at least.
fn width(relocation: &Relocation) -> u64 {
    match relocation.r_info as u32 {
        #[cfg(CONFIG_X86_64)]
        bindings::R_X86_64_NONE => 0,
        #[cfg(CONFIG_X86_64)]
        bindings::R_X86_64_64 | bindings::R_X86_64_PC64 => 8,
        #[cfg(CONFIG_X86_64)]
        _ => 4,
        #[cfg(not(CONFIG_X86_64))]
        _ => 1,
    }
}

/// The places that the relocations of a section change.
///
/// # Invariants
///
/// Each place is in a section that is in memory, or was when this was made, and each symbol in the
/// module's table.
pub(crate) struct Places<'a>(&'a Section<'a>);

impl Places<'_> {
    /// Writes the relocations: every symbol must have its value. Sleeps.
    ///
    /// # Errors
    ///
    /// `ENOEXEC` if a place does not hold what it should or a value does not fit, after a message.
    pub(crate) fn relocate(self) -> Result {
        let all = self.0.all;
        // SAFETY: All of it belongs to the module, by the invariants of `Sections` and by ours. As
        // with the built-in core, one case is left: the memory of an init function that returns in
        // another task at this instant, if relocations there are for an object that comes now.
        to_result(unsafe {
            bindings::apply_relocate_add(
                all.headers.as_ptr(),
                all.strings,
                all.symbols,
                self.0.index,
                all.module.as_ptr(),
            )
        })
    }

    /// Undoes [`Self::relocate`]. Sleeps.
    pub(crate) fn clear(self) {
        let all = self.0.all;
        // SAFETY: As in `relocate`; the section was written before.
        unsafe {
            bindings::clear_relocate_add(
                all.headers.as_ptr(),
                all.strings,
                all.symbols,
                self.0.index,
                all.module.as_ptr(),
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
