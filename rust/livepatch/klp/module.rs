// SPDX-License-Identifier: GPL-2.0

//! The part of `struct module` that belongs to livepatch: `klp`, `klp_alive`, `klp_info`.
//!
//! A module is alive, to livepatch, from `klp_module_coming()` to `klp_module_going()`, which take
//! the registry lock.
//!
//! C header: [`include/linux/module.h`](srctree/include/linux/module.h)

use super::elf::{
    Sections,
    Stage, //
};
use crate::{
    bindings,
    kapi::module::ModulePtr,
    lock::LockHeld, //
};
use kernel::{
    prelude::*,
    sync::rcu, //
};

/// Returns whether a module is marked `livepatch=Y`.
pub(crate) fn is_livepatch(module: ModulePtr) -> bool {
    // SAFETY: The module exists, by the invariants of `ModulePtr`, and the field does not change.
    unsafe { (*module.as_ptr()).klp }
}

/// Finds the module called `name` if it is alive. Process context.
///
/// No reference is taken, since patching a module must not keep it from being unloaded.
pub(crate) fn find_alive(name: &CStr, _held: &LockHeld) -> Option<ModulePtr> {
    let _rcu = rcu::read_lock();
    // SAFETY: RCU, which is held, keeps the list of modules; the name is NUL-terminated.
    let module = unsafe { bindings::find_module(name.as_char_ptr()) };
    if module.is_null() {
        return None;
    }
    // SAFETY: RCU keeps the module while it is held. The registry lock, which is held, keeps others
    // from writing to the field.
    if !unsafe { (*module).klp_alive } {
        return None;
    }
    // SAFETY: A module that is alive goes through `klp_module_going()` before it goes, which waits
    // for the registry lock and has the core forget it.
    unsafe { ModulePtr::from_raw(module) }
}

/// Notes whether a module is alive.
pub(crate) fn set_alive(module: ModulePtr, alive: bool, _held: &LockHeld) {
    // SAFETY: The module exists, by the invariants of `ModulePtr`, and the registry lock, which is
    // held, keeps others from using the field.
    unsafe { (*module.as_ptr()).klp_alive = alive };
}

/// Returns the sections of a livepatch module's ELF file, which the loader keeps for late
/// relocations; `None` if it has kept none.
pub(crate) fn sections<'a>(module: &'a ModulePtr, _held: &'a LockHeld) -> Option<Sections<'a>> {
    // SAFETY: The module exists, by the invariants of `ModulePtr`; the loader has set the pointer
    // before the module could register a patch.
    let info = unsafe { (*module.as_ptr()).klp_info };
    if info.is_null() {
        return None;
    }
    // SAFETY: The loader keeps it as long as the module exists, and does not change it.
    let info = unsafe { &*info };
    // SAFETY: The module exists, by the invariants of `ModulePtr`; the field does not change any
    // more.
    let strings = unsafe { (*module.as_ptr()).core_kallsyms.strtab };
    // SAFETY: The loader keeps all of this as long as the module exists, and has moved the symbol
    // table there; the registry lock, which is held, keeps others from writing to the symbols.
    unsafe {
        Sections::from_raw(
            *module,
            Stage::Loaded,
            info.sechdrs,
            u32::from(info.hdr.e_shnum),
            info.secstrings,
            strings,
            info.symndx,
        )
    }
}
