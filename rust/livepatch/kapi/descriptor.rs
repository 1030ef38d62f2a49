// SPDX-License-Identifier: GPL-2.0

//! What a patch module describes: `struct klp_patch`, `klp_object`, `klp_func`.
//!
//! They live in the patch module's memory. The core reads the fields that the module filled in, keeps those current
//! that modules read, and hands the same pointers to callbacks; nothing of the core's own is kept there.
//!
//! C header: [`include/linux/livepatch.h`](srctree/include/linux/livepatch.h)
//!
//! # Concurrency
//!
//! Everything here happens under the core's lock, in process context.

use super::module::ModulePtr;
use crate::bindings;
use core::ptr::NonNull;
use kernel::{
    error::to_result,
    prelude::*, //
};

/// A `struct klp_patch`.
///
/// # Invariants
///
/// The structure and all that it points to exist until the patch module's exit or failed init function has returned,
/// which waits for the core to be done with the patch.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct PatchDescriptor(NonNull<bindings::klp_patch>);

/// A `struct klp_object` of such a patch.
///
/// # Invariants
///
/// As for [`PatchDescriptor`].
#[derive(Clone, Copy)]
pub(crate) struct ObjectDescriptor(NonNull<bindings::klp_object>);

/// A `struct klp_func` of such an object.
///
/// # Invariants
///
/// As for [`PatchDescriptor`].
#[derive(Clone, Copy)]
pub(crate) struct FuncDescriptor(NonNull<bindings::klp_func>);

/// A `struct klp_state` of a patch.
///
/// # Invariants
///
/// As for [`PatchDescriptor`].
#[derive(Clone, Copy)]
pub(crate) struct StateDescriptor(NonNull<bindings::klp_state>);

// SAFETY: only used under the core's lock.
unsafe impl Send for PatchDescriptor {}
// SAFETY: identifier and version never change, and nothing else is read.
unsafe impl Send for StateDescriptor {}
// SAFETY: as above.
unsafe impl Sync for StateDescriptor {}
// SAFETY: as above.
unsafe impl Send for ObjectDescriptor {}
// SAFETY: as above.
unsafe impl Send for FuncDescriptor {}

/// # Safety
///
/// `name` must be null or point to a NUL-terminated string that exists for `'a`.
unsafe fn string<'a>(name: *const kernel::ffi::c_char) -> Option<&'a CStr> {
    // SAFETY: not null; the caller promises the rest.
    (!name.is_null()).then(|| unsafe { CStr::from_char_ptr(name) })
}

impl PatchDescriptor {
    /// Wraps what a patch module passed.
    ///
    /// # Safety
    ///
    /// `patch` must be null or point to a structure for which the type's invariant holds.
    pub(crate) unsafe fn from_raw(patch: *mut bindings::klp_patch) -> Option<Self> {
        // INVARIANT: the caller says so.
        NonNull::new(patch).map(Self)
    }

    fn as_ptr(self) -> *mut bindings::klp_patch {
        self.0.as_ptr()
    }

    /// The patch module.
    pub(crate) fn module(self) -> Option<ModulePtr> {
        // SAFETY: the structure exists, and its module with it.
        unsafe { ModulePtr::from_raw((*self.as_ptr()).mod_) }
    }

    /// Whether it replaces all other patches.
    pub(crate) fn replace(self) -> bool {
        // SAFETY: the structure exists.
        unsafe { (*self.as_ptr()).replace }
    }

    /// The objects; `None` if the module gave none.
    pub(crate) fn objects(self) -> Option<impl Iterator<Item = ObjectDescriptor>> {
        // SAFETY: the structure exists.
        let mut next = NonNull::new(unsafe { (*self.as_ptr()).objs })?;
        Some(core::iter::from_fn(move || {
            let object = ObjectDescriptor(next);
            // SAFETY: the entry is not behind the last one, since all before it were not the last.
            let entry = unsafe { next.as_ref() };
            if entry.name.is_null() && entry.funcs.is_null() {
                return None;
            }
            // SAFETY: the last entry is empty, so there is one behind this.
            next = unsafe { next.add(1) };
            Some(object)
        }))
    }

    /// The system states that the patch changes.
    pub(crate) fn states(self) -> impl Iterator<Item = StateDescriptor> {
        // SAFETY: the structure exists.
        let mut next = NonNull::new(unsafe { (*self.as_ptr()).states });
        core::iter::from_fn(move || {
            let state = StateDescriptor(next?);
            if state.id() == 0 {
                return None;
            }
            // SAFETY: the last entry has no identifier, so there is one behind this.
            next = Some(unsafe { state.0.add(1) });
            Some(state)
        })
    }

    /// Keeps `enabled` current.
    pub(crate) fn set_enabled(self, enabled: bool) {
        // SAFETY: the structure exists; the core's lock excludes other writers.
        unsafe { (*self.as_ptr()).enabled = enabled };
    }

    /// Keeps `forced` current.
    pub(crate) fn set_forced(self) {
        // SAFETY: as above.
        unsafe { (*self.as_ptr()).forced = true };
    }
}

impl StateDescriptor {
    /// The C structure.
    pub(crate) fn as_ptr(self) -> *mut bindings::klp_state {
        self.0.as_ptr()
    }

    /// Its identifier; 0 in the entry behind the last one.
    pub(crate) fn id(self) -> usize {
        // SAFETY: the structure exists.
        unsafe { (*self.as_ptr()).id }
    }

    /// The version of the change.
    pub(crate) fn version(self) -> u32 {
        // SAFETY: the structure exists.
        unsafe { (*self.as_ptr()).version }
    }
}

impl ObjectDescriptor {
    fn as_ptr(self) -> *mut bindings::klp_object {
        self.0.as_ptr()
    }

    /// The name of the module, `None` for vmlinux.
    pub(crate) fn name(&self) -> Option<&CStr> {
        // SAFETY: the structure exists, and its strings with it.
        unsafe { string((*self.as_ptr()).name) }
    }

    /// The functions; `None` if the module gave none.
    pub(crate) fn funcs(self) -> Option<impl Iterator<Item = FuncDescriptor>> {
        // SAFETY: the structure exists.
        let mut next = NonNull::new(unsafe { (*self.as_ptr()).funcs })?;
        Some(core::iter::from_fn(move || {
            let func = FuncDescriptor(next);
            // SAFETY: the entry is not behind the last one, since all before it were not the last.
            let entry = unsafe { next.as_ref() };
            if entry.old_name.is_null() && entry.new_func.is_null() && entry.old_sympos == 0 {
                return None;
            }
            // SAFETY: the last entry is empty, so there is one behind this.
            next = unsafe { next.add(1) };
            Some(func)
        }))
    }

    /// Keeps `mod` current.
    pub(crate) fn set_module(self, module: Option<ModulePtr>) {
        let module = module.map_or(core::ptr::null_mut(), ModulePtr::as_ptr);
        // SAFETY: the structure exists; the core's lock excludes other writers.
        unsafe { (*self.as_ptr()).mod_ = module };
    }

    /// Keeps `patched` current.
    pub(crate) fn set_patched(self, patched: bool) {
        // SAFETY: as above.
        unsafe { (*self.as_ptr()).patched = patched };
    }

    fn callbacks(self) -> *mut bindings::klp_callbacks {
        // SAFETY: the structure exists.
        unsafe { &raw mut (*self.as_ptr()).callbacks }
    }

    /// Calls `pre_patch`. From here on `post_unpatch` will be called, unless this fails.
    pub(crate) fn pre_patch(self) -> Result {
        // SAFETY: the structure exists.
        let callback = unsafe { (*self.callbacks()).pre_patch };
        let result = match callback {
            // SAFETY: the module's function, called as it expects: in process context, with its own object.
            Some(callback) => match unsafe { callback(self.as_ptr()) } {
                0 => Ok(()),
                // Whatever is not 0 is a failure; a positive value is no errno and becomes `EINVAL`.
                errno => to_result(errno).and(Err(EINVAL)),
            },
            None => Ok(()),
        };
        // SAFETY: the structure exists.
        unsafe { (*self.callbacks()).post_unpatch_enabled = result.is_ok() };
        result
    }

    /// Calls `post_patch`.
    pub(crate) fn post_patch(self) {
        // SAFETY: the structure exists.
        if let Some(callback) = unsafe { (*self.callbacks()).post_patch } {
            // SAFETY: the module's function, called as it expects.
            unsafe { callback(self.as_ptr()) };
        }
    }

    /// Calls `pre_unpatch`.
    pub(crate) fn pre_unpatch(self) {
        // SAFETY: the structure exists.
        if let Some(callback) = unsafe { (*self.callbacks()).pre_unpatch } {
            // SAFETY: the module's function, called as it expects.
            unsafe { callback(self.as_ptr()) };
        }
    }

    /// Calls `post_unpatch`, if `pre_patch` succeeded.
    pub(crate) fn post_unpatch(self) {
        // SAFETY: the structure exists.
        let enabled = unsafe { (*self.callbacks()).post_unpatch_enabled };
        // SAFETY: as above.
        let callback = unsafe { (*self.callbacks()).post_unpatch };
        if let (true, Some(callback)) = (enabled, callback) {
            // SAFETY: the module's function, called as it expects.
            unsafe { callback(self.as_ptr()) };
        }
        // SAFETY: the structure exists.
        unsafe { (*self.callbacks()).post_unpatch_enabled = false };
    }
}

impl FuncDescriptor {
    fn as_ptr(self) -> *mut bindings::klp_func {
        self.0.as_ptr()
    }

    /// The name of the function to be patched.
    pub(crate) fn old_name(&self) -> Option<&CStr> {
        // SAFETY: the structure exists, and its strings with it.
        unsafe { string((*self.as_ptr()).old_name) }
    }

    /// The address of the replacement, 0 if the module gave none.
    pub(crate) fn new_func(self) -> usize {
        // SAFETY: the structure exists.
        unsafe { (*self.as_ptr()).new_func as usize }
    }

    /// Which symbol of the name is meant; 0 if there is only one.
    pub(crate) fn sympos(self) -> usize {
        // SAFETY: the structure exists.
        unsafe { (*self.as_ptr()).old_sympos }
    }

    /// Keeps `old_func` and `old_size` current.
    pub(crate) fn set_old(self, address: usize, size: usize) {
        // SAFETY: the structure exists; the core's lock excludes other writers.
        let func = unsafe { &mut *self.as_ptr() };
        func.old_func = address as *mut _;
        func.old_size = size;
    }

    /// Keeps `new_size` current.
    pub(crate) fn set_new_size(self, size: usize) {
        // SAFETY: as above.
        unsafe { (*self.as_ptr()).new_size = size };
    }

    /// Keeps `patched` current.
    pub(crate) fn set_patched(self, patched: bool) {
        // SAFETY: as above.
        unsafe { (*self.as_ptr()).patched = patched };
    }
}
