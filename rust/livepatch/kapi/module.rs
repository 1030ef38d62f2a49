// SPDX-License-Identifier: GPL-2.0

//! Kernel modules.
//!
//! C header: [`include/linux/module.h`](srctree/include/linux/module.h)
//!
//! # Examples
//!
//! ```ignore
//! let module = module::this_module();
//! let reference = ModuleRef::try_get(module).ok_or(ENODEV)?;
//! // The module is not unloaded before `reference` is dropped.
//! drop(reference);
//! ```

use crate::bindings;
use core::{
    ops::Range,
    ptr::NonNull, //
};
use kernel::{
    prelude::*,
    types::{
        NotThreadSafe,
        Opaque, //
    }, //
};

/// Space for a module's name with its NUL (`MODULE_NAME_LEN`), in bytes.
pub(crate) const NAME_SIZE: usize = {
    let module = core::mem::MaybeUninit::<bindings::module>::uninit();
    // SAFETY: Only the address of the field is taken, for its type.
    let name = unsafe { &raw const (*module.as_ptr()).name };
    size_of_pointee(name)
};

const fn size_of_pointee<T>(_: *const T) -> usize {
    core::mem::size_of::<T>()
}

/// Points to a module.
///
/// # Invariants
///
/// The module exists: a reference is held, or the module's life cycle is held up by a caller that
/// waits for us, or whoever keeps the pointer is told before the module goes and forgets it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct ModulePtr(NonNull<bindings::module>);

// SAFETY: A pointer to a module is not bound to a thread.
unsafe impl Send for ModulePtr {}
// SAFETY: The fields that are read here do not change while the module exists, but for `state` and
// where its memory is, which are read by volatile loads.
unsafe impl Sync for ModulePtr {}

/// Where a module is in its life.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// Being loaded; its init function has not run.
    Coming,
    /// The module is being unloaded.
    Going,
    /// The module is in any other state.
    Other,
}

impl ModulePtr {
    /// Wraps a pointer that C passed; `None` if it is null.
    ///
    /// # Safety
    ///
    /// `module` must be null or point to a module for which the type's invariant holds.
    pub(crate) unsafe fn from_raw(module: *mut bindings::module) -> Option<Self> {
        // INVARIANT: By the safety requirements.
        NonNull::new(module).map(Self)
    }

    /// Returns the C structure.
    pub(crate) fn as_ptr(self) -> *mut bindings::module {
        self.0.as_ptr()
    }

    /// Returns the module's name.
    pub(crate) fn name(&self) -> &CStr {
        // SAFETY: The module exists, by the type's invariant; only the address is taken.
        let name = unsafe { &raw const (*self.as_ptr()).name };
        // SAFETY: The loader makes sure that the name ends within the array.
        unsafe { CStr::from_char_ptr(name.cast()) }
    }

    /// Returns where the module is in its life.
    pub(crate) fn state(self) -> State {
        // SAFETY: The module exists, by the type's invariant; only the address is taken.
        let state = unsafe { &raw const (*self.as_ptr()).state };
        // SAFETY: Valid for reads; volatile, since the loader may change it at any time.
        match unsafe { state.read_volatile() } {
            bindings::module_state_MODULE_STATE_COMING => State::Coming,
            bindings::module_state_MODULE_STATE_GOING => State::Going,
            _ => State::Other,
        }
    }

    /// Returns the part of the module's memory that `address` is in: text or data, for example.
    pub(crate) fn memory_around(self, address: usize) -> Option<Range<usize>> {
        let (mut start, mut end) = (0, 0);
        // SAFETY: The module exists, by the type's invariant; the results are valid for writes.
        unsafe { bindings::livepatch_module_memory(self.as_ptr(), address, &mut start, &mut end) }
            .then_some(start..end)
    }
}

/// Evidence that no module starts to be unloaded.
///
/// A module that is not [`State::Going`] stays so, as far as its exit function is concerned: that
/// has not begun to run. Its init function may still fail, and the module go for that reason.
///
/// # Invariants
///
/// `module_mutex` is held while a value of this type exists.
pub(crate) struct ModulesLocked(NotThreadSafe);

impl ModulesLocked {
    /// Locks the modules. Process context; sleeps. Nothing that takes `module_mutex` may be called
    /// before the value is dropped.
    pub(crate) fn new() -> Self {
        // SAFETY: The caller may sleep; `Drop` unlocks.
        unsafe { bindings::livepatch_modules_lock() };
        // INVARIANT: Just taken.
        Self(NotThreadSafe)
    }
}

impl Drop for ModulesLocked {
    fn drop(&mut self) {
        // SAFETY: Balances the lock in `new`.
        unsafe { bindings::livepatch_modules_unlock() };
    }
}

/// A reference on a module: it is not unloaded while this exists.
pub(crate) struct ModuleRef(ModulePtr);

impl ModuleRef {
    /// Takes a reference; `None` if the module is going.
    pub(crate) fn try_get(module: ModulePtr) -> Option<Self> {
        // SAFETY: The module exists, by the invariant of `ModulePtr`.
        unsafe { bindings::try_module_get(module.as_ptr()) }.then(|| Self(module))
    }

    /// Returns whether the reference is on this module.
    pub(crate) fn is_on(&self, module: ModulePtr) -> bool {
        self.0 == module
    }
}

impl Drop for ModuleRef {
    fn drop(&mut self) {
        // SAFETY: The reference was taken in `try_get`, and belongs to this value.
        unsafe { bindings::module_put(self.0.as_ptr()) };
    }
}

/// Returns this module.
pub(crate) fn this_module() -> ModulePtr {
    extern "C" {
        // Made by modpost. The way of the `kernel` crate to it differs between releases.
        static __this_module: Opaque<u8>;
    }
    // SAFETY: Only the address is taken.
    let module = unsafe { &__this_module }.get().cast();
    // SAFETY: The code that runs belongs to the module, so it exists.
    match unsafe { ModulePtr::from_raw(module) } {
        Some(module) => module,
        // PANIC: The address of a static is not null.
        None => unreachable!("a loadable module has a structure"),
    }
}
