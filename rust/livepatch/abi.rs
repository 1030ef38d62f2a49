// SPDX-License-Identifier: GPL-2.0

//! What C calls: the entry points of the livepatch core, by their C names.
//!
//! As a module the core cannot define the kernel's own symbols; [`crate::takeover`] redirects the built-in functions to
//! these. Each checks its pointers, calls safe code and maps the result.
//!
//! # Contexts
//!
//! The first three sleep, in process context: under the module loader or a module's init function. They may still be
//! asleep here when the core is handed back, so they are counted ([`User`]), and then go on in the built-in core. So are
//! those of relocations and shadow variables, which may sleep too; they do the same whoever is in charge. The others do
//! not sleep; see [`crate::transition`].

use crate::{
    bindings,
    kapi::{
        descriptor::{
            PatchDescriptor,
            StateDescriptor, //
        },
        elf::Sections,
        module::{
            ModulePtr,
            State, //
        },
        shadow::Key,
        task,
        user::User, //
    },
    registry::{
        self,
        Outcome, //
    },
    reloc,
    shadow::{
        self,
        Existing, //
    },
    state, transition,
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

/// `int klp_apply_section_relocs(struct module *pmod, Elf_Shdr *sechdrs, const char *shstrtab, const char *strtab,
/// unsigned int symndx, unsigned int secndx, const char *objname)`
///
/// # Safety
///
/// `pmod` must be a module that is being loaded, and the rest its sections, symbols and their names, which the loader has
/// checked; `secndx` one of livepatch relocations. `objname` must be null or a string.
pub(crate) unsafe extern "C" fn klp_apply_section_relocs(
    pmod: *mut bindings::module,
    sechdrs: *mut bindings::elf64_shdr,
    shstrtab: *const c_char,
    strtab: *const c_char,
    symndx: c_uint,
    secndx: c_uint,
    objname: *const c_char,
) -> c_int {
    let _user = User::new();
    // SAFETY: the loader waits for us.
    let Some(pmod) = (unsafe { ModulePtr::from_raw(pmod) }) else {
        return EINVAL.to_errno();
    };
    let count = symndx.max(secndx) + 1;
    // SAFETY: promised by the caller; nobody else knows of the module yet.
    let sections = unsafe { Sections::from_raw(pmod, sechdrs, count, shstrtab, strtab, symndx) };
    let Some(sections) = sections else {
        return EINVAL.to_errno();
    };
    // SAFETY: a string that stays during the call, if it is one, says the caller.
    let object = (!objname.is_null()).then(|| unsafe { CStr::from_char_ptr(objname) });
    errno(reloc::apply(&sections, secndx, object))
}

/// `struct klp_state *klp_get_state(struct klp_patch *patch, unsigned long id)`
///
/// # Safety
///
/// `patch` must be null or as `include/linux/livepatch.h` demands, and exist during the call.
pub(crate) unsafe extern "C" fn klp_get_state(
    patch: *mut bindings::klp_patch,
    id: c_ulong,
) -> *mut bindings::klp_state {
    // SAFETY: it exists, says the caller.
    let patch = unsafe { PatchDescriptor::from_raw(patch) };
    patch
        .and_then(|patch| state::of(patch, id))
        .map_or(core::ptr::null_mut(), StateDescriptor::as_ptr)
}

/// `void *klp_shadow_get(void *obj, unsigned long id)`
///
/// # Safety
///
/// None needed.
pub(crate) unsafe extern "C" fn klp_shadow_get(object: *mut c_void, id: c_ulong) -> *mut c_void {
    as_ptr(shadow::get(Key { object, id }))
}

fn as_ptr(data: Option<NonNull<c_void>>) -> *mut c_void {
    data.map_or(core::ptr::null_mut(), NonNull::as_ptr)
}

/// What [`klp_shadow_alloc`] and [`klp_shadow_get_or_alloc`] share.
///
/// # Safety
///
/// As for these.
unsafe fn shadow_alloc(
    key: Key,
    size: usize,
    flags: bindings::gfp_t,
    existing: Existing,
    ctor: bindings::klp_shadow_ctor_t,
    ctor_data: *mut c_void,
) -> *mut c_void {
    let _user = User::new();
    let construct = |data: NonNull<c_void>| match ctor {
        // SAFETY: the caller's function, called as it expects.
        Some(ctor) => unsafe { ctor(key.object, data.as_ptr(), ctor_data) },
        None => 0,
    };
    as_ptr(shadow::alloc(key, size, flags, existing, construct))
}

/// `void *klp_shadow_alloc(void *obj, unsigned long id, size_t size, gfp_t gfp_flags, klp_shadow_ctor_t ctor,
/// void *ctor_data)`
///
/// # Safety
///
/// `flags` must suit the context. `ctor` must be callable with `object`, `size` bytes of zeroes and `ctor_data`, under a
/// spinlock.
pub(crate) unsafe extern "C" fn klp_shadow_alloc(
    object: *mut c_void,
    id: c_ulong,
    size: usize,
    flags: bindings::gfp_t,
    ctor: bindings::klp_shadow_ctor_t,
    ctor_data: *mut c_void,
) -> *mut c_void {
    // SAFETY: promised by the caller.
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

/// `void *klp_shadow_get_or_alloc(void *obj, unsigned long id, size_t size, gfp_t gfp_flags, klp_shadow_ctor_t ctor,
/// void *ctor_data)`
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
    // SAFETY: promised by the caller.
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

/// `void klp_shadow_free(void *obj, unsigned long id, klp_shadow_dtor_t dtor)`
///
/// # Safety
///
/// `dtor` must be callable with the object and the data of such a variable, under a spinlock.
pub(crate) unsafe extern "C" fn klp_shadow_free(
    object: *mut c_void,
    id: c_ulong,
    dtor: bindings::klp_shadow_dtor_t,
) {
    let _user = User::new();
    shadow::free(Key { object, id }, |object, data| {
        if let Some(dtor) = dtor {
            // SAFETY: the caller's function, called as it expects.
            unsafe { dtor(object, data.as_ptr()) };
        }
    });
}

/// `void klp_shadow_free_all(unsigned long id, klp_shadow_dtor_t dtor)`
///
/// # Safety
///
/// As for [`klp_shadow_free`].
pub(crate) unsafe extern "C" fn klp_shadow_free_all(
    id: c_ulong,
    dtor: bindings::klp_shadow_dtor_t,
) {
    let _user = User::new();
    shadow::free_all(id, |object, data| {
        if let Some(dtor) = dtor {
            // SAFETY: the caller's function, called as it expects.
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
    klp_shadow_get: unsafe extern "C" fn(*mut c_void, c_ulong) -> *mut c_void;
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
