// SPDX-License-Identifier: GPL-2.0

//! The entry points of the livepatch core that C calls, by their C names.
//!
//! As a module the core cannot define the kernel's own symbols; [`mod@crate::takeover`] redirects
//! the built-in functions to these. Each checks its pointers, calls safe code and maps the result.
//! That a function has the prototype of its C namesake is checked at the end of this file.
//!
//! # Contexts
//!
//! The first three sleep, in process context: under the module loader or a module's init function.
//! They may still be asleep here when the core is handed back, so they are counted ([`InFlight`]),
//! and then go on in the built-in core. So are those of relocations and shadow variables, which may
//! sleep too; they do the same whoever is in charge. The others neither sleep nor take a lock on
//! which `PREEMPT_RT` would; see [`mod@crate::transition`].

use crate::{
    bindings,
    kapi::{
        in_flight::InFlight,
        module::{
            ModulePtr,
            State, //
        },
        task,
        warn::warn_once, //
    },
    klp::{
        descriptor::{
            StateDescriptor,
            UncheckedPatch, //
        },
        elf::{
            Sections,
            Stage, //
        },
        shadow::Key, //
    },
    registry::{
        self,
        NotInCharge, //
    },
    reloc,
    shadow::{
        self,
        Existing, //
    },
    state,
    transition::{
        self,
        Look, //
    }, //
};
use core::ptr::NonNull;
use kernel::{
    ffi::{
        c_char,
        c_int,
        c_uint,
        c_ulong,
        c_void, //
    },
    prelude::*, //
};

fn errno(result: Result) -> c_int {
    match result {
        Ok(()) => 0,
        Err(error) => error.to_errno(),
    }
}

/// Registers a patch and starts to enable it.
///
/// # Safety
///
/// `patch` must be null or as `include/linux/livepatch.h` demands, and belong to a module whose
/// init function calls. If this succeeds, nothing of the patch may be freed but by the module's
/// exit function, or by an init function that fails then, if no transition is under way and the
/// core has no reason to look at the patch again: nobody writes to its files, and no module that it
/// names comes or goes.
pub(crate) unsafe extern "C" fn klp_enable_patch(patch: *mut bindings::klp_patch) -> c_int {
    let _in_flight = InFlight::new();
    // SAFETY: The patch module's memory stays while its init function runs, and then as long as the
    // core has a reference on the module.
    let Some(unchecked) = (unsafe { UncheckedPatch::from_raw(patch) }) else {
        return EINVAL.to_errno();
    };
    match registry::enable(unchecked) {
        Ok(result) => errno(result),
        // SAFETY: It is not redirected any more, and `patch` is what it demands, by the safety
        // requirements.
        Err(NotInCharge) => unsafe { bindings::klp_enable_patch(patch) },
    }
}

/// Patches a module that is being loaded.
///
/// # Safety
///
/// `module` must be a module that is being loaded, which waits for us.
pub(crate) unsafe extern "C" fn klp_module_coming(module: *mut bindings::module) -> c_int {
    let _in_flight = InFlight::new();
    // SAFETY: The loader waits for us, and calls `klp_module_going` before the module goes.
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
        Ok(result) => errno(result),
        // SAFETY: It is not redirected any more, and `module` is what it demands, by the safety
        // requirements.
        Err(NotInCharge) => unsafe { bindings::klp_module_coming(module) },
    }
}

/// Takes the patches off a module that is being unloaded or could not be loaded.
///
/// # Safety
///
/// `module` must be a module that is being unloaded or could not be loaded, which waits for us.
pub(crate) unsafe extern "C" fn klp_module_going(module: *mut bindings::module) {
    let _in_flight = InFlight::new();
    // SAFETY: The loader waits for us before it frees the module.
    let Some(going) = (unsafe { ModulePtr::from_raw(module) }) else {
        return;
    };
    if kernel::warn_on!(going.state() == State::Other) {
        return;
    }
    if let Err(NotInCharge) = registry::module_going(going) {
        // SAFETY: It is not redirected any more, and `module` is what it demands, by the safety
        // requirements.
        unsafe { bindings::klp_module_going(module) };
    }
}

/// Gives a task that is being forked the state of its parent.
///
/// # Safety
///
/// `child` must be a task that the current one is forking, with `tasklist_lock` held for writing.
pub(crate) unsafe extern "C" fn klp_copy_process(child: *mut bindings::task_struct) {
    // SAFETY: The parent, which is in `copy_process()`, holds the child.
    transition::copy_process(unsafe { task::from_raw(child) });
}

/// Switches the current task, which leaves the kernel or idles, if it has to.
///
/// # Safety
///
/// `task` must be the current task.
pub(crate) unsafe extern "C" fn klp_update_patch_state(task: *mut bindings::task_struct) {
    // SAFETY: It is the current task by the safety requirements, which lives while it runs.
    transition::update_patch_state(unsafe { task::from_raw(task) });
}

/// Switches the current task, which is about to be scheduled out, if it can.
///
/// # Safety
///
/// The current task must be on its way through `__schedule()`, with preemption disabled and no
/// scheduler lock held.
pub(crate) unsafe extern "C" fn __klp_sched_try_switch() {
    transition::sched_try_switch();
}

/// Looks at the current task from an interrupt, for `helpers.c`.
///
/// # Safety
///
/// The caller must be a hard interrupt that has come in user space or where the current task could
/// be preempted.
#[no_mangle]
unsafe extern "C" fn livepatch_look() -> c_uint {
    match transition::look() {
        Look::Over => bindings::livepatch_look_result_LIVEPATCH_LOOK_OVER,
        Look::Switched => bindings::livepatch_look_result_LIVEPATCH_LOOK_SWITCHED,
        Look::Again => bindings::livepatch_look_result_LIVEPATCH_LOOK_AGAIN,
    }
}

/// Finds the latest version of a system state that an older patch has.
///
/// # Safety
///
/// Must be called by a callback of the patch in transition.
pub(crate) unsafe extern "C" fn klp_get_prev_state(id: c_ulong) -> *mut bindings::klp_state {
    if !transition::is_running() {
        warn_once!(c"klp_get_prev_state() called outside a transition");
        return core::ptr::null_mut();
    }
    state::previous(id)
}

/// Writes the livepatch relocations in one section of a module that is being loaded.
///
/// # Safety
///
/// `pmod` must be a module that is being loaded, and the rest its sections, symbols and their
/// names, which the loader has checked; `secndx` one of livepatch relocations. `objname` must be
/// null or a string.
pub(crate) unsafe extern "C" fn klp_apply_section_relocs(
    pmod: *mut bindings::module,
    sechdrs: *mut bindings::elf64_shdr,
    shstrtab: *const c_char,
    strtab: *const c_char,
    symndx: c_uint,
    secndx: c_uint,
    objname: *const c_char,
) -> c_int {
    let _in_flight = InFlight::new();
    // SAFETY: The loader waits for us before it goes on with the module.
    let Some(pmod) = (unsafe { ModulePtr::from_raw(pmod) }) else {
        return EINVAL.to_errno();
    };
    // SAFETY: The section is there, by the safety requirements; only the address is taken.
    let target = unsafe { &raw const (*sechdrs.add(secndx as usize)).sh_info };
    // SAFETY: The section is there; the loader does not see to it that its header is aligned.
    let target = unsafe { target.read_unaligned() };
    // The loader, which does not say how many there are, has seen to it that these are there.
    let count = symndx.max(secndx).max(target) + 1;
    // SAFETY: They are the module's by the safety requirements; nobody else knows of the module
    // yet.
    let sections = unsafe {
        Sections::from_raw(
            pmod,
            Stage::Loading,
            sechdrs,
            count,
            shstrtab,
            strtab,
            symndx,
        )
    };
    let Some(sections) = sections else {
        return EINVAL.to_errno();
    };
    // SAFETY: It is a string that stays during the call, by the safety requirements.
    let object = (!objname.is_null()).then(|| unsafe { CStr::from_char_ptr(objname) });
    errno(reloc::apply(&sections, secndx, object))
}

/// Finds a system state of a patch.
///
/// # Safety
///
/// `patch` must be null or as `include/linux/livepatch.h` demands, and exist during the call.
pub(crate) unsafe extern "C" fn klp_get_state(
    patch: *mut bindings::klp_patch,
    id: c_ulong,
) -> *mut bindings::klp_state {
    // SAFETY: A patch module keeps its structure, by the safety requirements.
    let patch = unsafe { UncheckedPatch::from_raw(patch) };
    patch
        .and_then(|patch| state::find(patch.states(), id))
        .map_or(core::ptr::null_mut(), StateDescriptor::as_ptr)
}

fn as_ptr(data: Option<NonNull<c_void>>) -> *mut c_void {
    data.map_or(core::ptr::null_mut(), NonNull::as_ptr)
}

/// Makes a shadow variable, or does with one that exists as `existing` demands.
///
/// # Safety
///
/// As for [`klp_shadow_alloc`].
unsafe fn shadow_alloc(
    key: Key,
    size: usize,
    flags: bindings::gfp_t,
    existing: Existing,
    ctor: bindings::klp_shadow_ctor_t,
    ctor_data: *mut c_void,
) -> *mut c_void {
    // Before the call is counted, so that a look at what exists does not touch memory that all
    // processors share. Nothing here sleeps or takes a lock, so whoever is preempted here when the
    // module goes has been counted or left when ftrace has waited for all tasks.
    if let Some(data) = shadow::get(key) {
        return as_ptr(existing.answer(key, data));
    }
    let _in_flight = InFlight::new();
    let construct = |data: NonNull<c_void>| match ctor {
        // SAFETY: It is callable with these, by the safety requirements.
        Some(ctor) => unsafe { ctor(key.object, data.as_ptr(), ctor_data) },
        None => 0,
    };
    as_ptr(shadow::alloc(key, size, flags, existing, construct))
}

/// Makes a shadow variable that must not exist yet.
///
/// # Safety
///
/// `flags` must suit the context. `ctor` must be callable with `object`, `size` bytes of zeroes and
/// `ctor_data`, under a spinlock.
pub(crate) unsafe extern "C" fn klp_shadow_alloc(
    object: *mut c_void,
    id: c_ulong,
    size: usize,
    flags: bindings::gfp_t,
    ctor: bindings::klp_shadow_ctor_t,
    ctor_data: *mut c_void,
) -> *mut c_void {
    // SAFETY: By the safety requirements, which are the same.
    unsafe {
        shadow_alloc(
            Key { object, id },
            size,
            flags,
            Existing::Refuse,
            ctor,
            ctor_data,
        )
    }
}

/// Gives a shadow variable, which it makes if it does not exist.
///
/// # Safety
///
/// As for [`klp_shadow_alloc`].
pub(crate) unsafe extern "C" fn klp_shadow_get_or_alloc(
    object: *mut c_void,
    id: c_ulong,
    size: usize,
    flags: bindings::gfp_t,
    ctor: bindings::klp_shadow_ctor_t,
    ctor_data: *mut c_void,
) -> *mut c_void {
    // SAFETY: By the safety requirements, which are the same.
    unsafe {
        shadow_alloc(
            Key { object, id },
            size,
            flags,
            Existing::Take,
            ctor,
            ctor_data,
        )
    }
}

/// Frees a shadow variable.
///
/// # Safety
///
/// `dtor` must be callable with the object and the data of such a variable, under a spinlock.
pub(crate) unsafe extern "C" fn klp_shadow_free(
    object: *mut c_void,
    id: c_ulong,
    dtor: bindings::klp_shadow_dtor_t,
) {
    let _in_flight = InFlight::new();
    shadow::free(Key { object, id }, |object, data| {
        if let Some(dtor) = dtor {
            // SAFETY: It is callable with these, by the safety requirements.
            unsafe { dtor(object, data.as_ptr()) };
        }
    });
}

/// Frees all shadow variables with an identifier.
///
/// # Safety
///
/// As for [`klp_shadow_free`].
pub(crate) unsafe extern "C" fn klp_shadow_free_all(
    id: c_ulong,
    dtor: bindings::klp_shadow_dtor_t,
) {
    let _in_flight = InFlight::new();
    shadow::free_all(id, |object, data| {
        if let Some(dtor) = dtor {
            // SAFETY: It is callable with these, by the safety requirements.
            unsafe { dtor(object, data.as_ptr()) };
        }
    });
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
    livepatch_look: unsafe extern "C" fn() -> c_uint;
    klp_get_prev_state: unsafe extern "C" fn(c_ulong) -> *mut bindings::klp_state;
    klp_apply_section_relocs: unsafe extern "C" fn(
        *mut bindings::module,
        *mut bindings::elf64_shdr,
        *const c_char,
        *const c_char,
        c_uint,
        c_uint,
        *const c_char,
    ) -> c_int;
    klp_get_state: unsafe extern "C" fn(
        *mut bindings::klp_patch,
        c_ulong,
    ) -> *mut bindings::klp_state;
    klp_shadow_alloc: unsafe extern "C" fn(
        *mut c_void,
        c_ulong,
        usize,
        bindings::gfp_t,
        bindings::klp_shadow_ctor_t,
        *mut c_void,
    ) -> *mut c_void;
    klp_shadow_get_or_alloc: unsafe extern "C" fn(
        *mut c_void,
        c_ulong,
        usize,
        bindings::gfp_t,
        bindings::klp_shadow_ctor_t,
        *mut c_void,
    ) -> *mut c_void;
    klp_shadow_free: unsafe extern "C" fn(*mut c_void, c_ulong, bindings::klp_shadow_dtor_t);
    klp_shadow_free_all: unsafe extern "C" fn(c_ulong, bindings::klp_shadow_dtor_t);
}
