// SPDX-License-Identifier: GPL-2.0

//! What C calls: the entry points of the livepatch core, by their C names.
//!
//! As a module the core cannot define the kernel's own symbols; [`crate::takeover`] redirects the built-in functions to
//! these. Each checks its pointers, calls safe code and maps the result.
//!
//! # Contexts
//!
//! The first three sleep, in process context: under the module loader or a module's init function. They may still be
//! asleep here when the core is handed back, so they are counted ([`User`]), and then go on in the built-in core. The
//! others do not sleep; see [`crate::transition`].

use crate::{
    bindings,
    kapi::{
        descriptor::{
            PatchDescriptor,
            StateDescriptor, //
        },
        module::{
            ModulePtr,
            State, //
        },
        task,
        user::User, //
    },
    registry::{
        self,
        Outcome, //
    },
    state, transition,
};
use kernel::{
    ffi::{
        c_int,
        c_ulong, //
    },
    prelude::*, //
};

fn errno(result: Result) -> c_int {
    match result {
        Ok(()) => 0,
        Err(error) => error.to_errno(),
    }
}

/// `int klp_enable_patch(struct klp_patch *patch)`
///
/// # Safety
///
/// `patch` must be null or as `include/linux/livepatch.h` demands, in the memory of a module whose init function calls.
pub(crate) unsafe extern "C" fn klp_enable_patch(patch: *mut bindings::klp_patch) -> c_int {
    let _user = User::new();
    // SAFETY: the patch module's memory stays while its init function runs, and then as long as the core has a reference
    // on the module.
    let Some(descriptor) = (unsafe { PatchDescriptor::from_raw(patch) }) else {
        return EINVAL.to_errno();
    };
    match registry::enable(descriptor) {
        Outcome::Done(result) => errno(result),
        // SAFETY: not redirected any more; the caller promises the rest.
        Outcome::NotInCharge => unsafe { bindings::klp_enable_patch(patch) },
    }
}

/// `int klp_module_coming(struct module *mod)`
///
/// # Safety
///
/// `module` must be a module that is being loaded, which waits for us.
pub(crate) unsafe extern "C" fn klp_module_coming(module: *mut bindings::module) -> c_int {
    let _user = User::new();
    // SAFETY: the loader waits for us, and calls `klp_module_going` before the module goes.
    let Some(coming) = (unsafe { ModulePtr::from_raw(module) }) else {
        return EINVAL.to_errno();
    };
    if kernel::warn_on!(coming.state() != State::Coming) {
        return EINVAL.to_errno();
    }
    if coming.name() == c"vmlinux" {
        pr_err!("vmlinux.ko: invalid module name\n");
        return EINVAL.to_errno();
    }
    match registry::module_coming(coming) {
        Outcome::Done(result) => errno(result),
        // SAFETY: not redirected any more; the caller promises the rest.
        Outcome::NotInCharge => unsafe { bindings::klp_module_coming(module) },
    }
}

/// `void klp_module_going(struct module *mod)`
///
/// # Safety
///
/// `module` must be a module that is being unloaded or could not be loaded, which waits for us.
pub(crate) unsafe extern "C" fn klp_module_going(module: *mut bindings::module) {
    let _user = User::new();
    // SAFETY: the loader waits for us.
    let Some(going) = (unsafe { ModulePtr::from_raw(module) }) else {
        return;
    };
    if kernel::warn_on!(going.state() == State::Other) {
        return;
    }
    if let Outcome::NotInCharge = registry::module_going(going) {
        // SAFETY: not redirected any more; the caller promises the rest.
        unsafe { bindings::klp_module_going(module) };
    }
}

/// `void klp_copy_process(struct task_struct *child)`
///
/// # Safety
///
/// `child` must be a task that the current one is forking, with `tasklist_lock` held for writing.
pub(crate) unsafe extern "C" fn klp_copy_process(child: *mut bindings::task_struct) {
    // SAFETY: it exists, says the caller.
    transition::copy_process(unsafe { task::from_raw(child) });
}

/// `void klp_update_patch_state(struct task_struct *task)`
///
/// # Safety
///
/// `task` must be the current task.
pub(crate) unsafe extern "C" fn klp_update_patch_state(task: *mut bindings::task_struct) {
    // SAFETY: it exists, says the caller.
    transition::update_patch_state(unsafe { task::from_raw(task) });
}

/// `void __klp_sched_try_switch(void)`
///
/// # Safety
///
/// The current task must be on its way through `__schedule()`, with preemption disabled and no scheduler lock held.
pub(crate) unsafe extern "C" fn __klp_sched_try_switch() {
    transition::sched_try_switch();
}

/// `struct klp_state *klp_get_prev_state(unsigned long id)`
///
/// # Safety
///
/// Must be called by a callback of the patch in transition.
pub(crate) unsafe extern "C" fn klp_get_prev_state(id: c_ulong) -> *mut bindings::klp_state {
    state::previous(id).map_or(core::ptr::null_mut(), StateDescriptor::as_ptr)
}

/// Makes sure that a function has the type that C calls it by.
macro_rules! same_type {
    ($($name:ident: $type:ty;)+) => { $(
        const _: $type = bindings::$name;
        const _: $type = $name;
    )+ };
}

same_type! {
    klp_enable_patch: unsafe extern "C" fn(*mut bindings::klp_patch) -> c_int;
    klp_module_coming: unsafe extern "C" fn(*mut bindings::module) -> c_int;
    klp_module_going: unsafe extern "C" fn(*mut bindings::module);
    klp_copy_process: unsafe extern "C" fn(*mut bindings::task_struct);
    klp_update_patch_state: unsafe extern "C" fn(*mut bindings::task_struct);
    __klp_sched_try_switch: unsafe extern "C" fn();
    klp_get_prev_state: unsafe extern "C" fn(c_ulong) -> *mut bindings::klp_state;
}
