// SPDX-License-Identifier: GPL-2.0

//! Which modules the core knows of: `klp_alive` of `struct module`.
//!
//! A module is known from `klp_module_coming()` to `klp_module_going()`, which take the registry lock.
//!
//! C header: [`include/linux/module.h`](srctree/include/linux/module.h)

use crate::{
    bindings,
    kapi::module::ModulePtr,
    lock::LockHeld, //
};
use kernel::{
    prelude::*,
    sync::rcu, //
};

/// Finds the module called `name` if it is loaded and known. Process context.
///
/// No reference is taken, since patching a module must not keep it from being unloaded.
pub(crate) fn find(name: &CStr, _held: &LockHeld) -> Option<ModulePtr> {
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
    // SAFETY: A known module goes through `klp_module_going()` before it goes, which waits for the
    // registry lock.
    unsafe { ModulePtr::from_raw(module) }
}

/// Notes that the core knows of a module or has forgotten it.
pub(crate) fn set(module: ModulePtr, alive: bool, _held: &LockHeld) {
    // SAFETY: The module exists by the invariants of `ModulePtr`, and the registry lock, which is
    // held, keeps others from using the field.
    unsafe { (*module.as_ptr()).klp_alive = alive };
}
