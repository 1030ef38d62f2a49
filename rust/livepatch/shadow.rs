// SPDX-License-Identifier: GPL-2.0

//! Shadow variables: data that patches attach to objects that have no room for it.
//!
//! The interface is described in `Documentation/livepatch/shadow-vars.rst`; users care for the data
//! themselves, this only keeps track of them.
//!
//! # Contexts
//!
//! [`get`]: any. The others: any in which a `spinlock_t` may be taken (not NMI; with `PREEMPT_RT`
//! only where preemption is enabled), as far as the allocation flags allow. Constructors and
//! destructors run under the table's lock, as a rule with interrupts disabled, so that each runs
//! once for a variable, and must not call back.

use crate::klp::shadow::{
    self,
    Key,
    Locked,
    Variable, //
};
use core::ptr::NonNull;
use kernel::{
    bindings::gfp_t,
    ffi::{
        c_int,
        c_void, //
    },
    sync::rcu, //
};

/// Meaning of a variable that exists already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Existing {
    /// The variable will do.
    Take,
    /// The variable is a mistake of the caller, worth a warning.
    Refuse,
}

impl Existing {
    /// Returns the answer to whoever asked for a variable that exists.
    pub(crate) fn answer(self, key: Key, data: NonNull<c_void>) -> Option<NonNull<c_void>> {
        match self {
            Self::Take => Some(data),
            Self::Refuse => {
                shadow::warn_duplicate(key);
                None
            }
        }
    }
}

/// Finds the data of a variable.
#[doc(alias = "klp_shadow_get")]
pub(crate) fn get(key: Key) -> Option<NonNull<c_void>> {
    shadow::get(key, &rcu::read_lock())
}

/// Makes a variable with `size` bytes of data, zeroes that `construct` may change.
///
/// `construct` is called for the variable that gets into the table only; what it returns is 0 or an
/// errno. `None` if that fails, after a message, if there is no memory, or if the variable exists
/// and is not wanted.
#[doc(alias = "klp_shadow_alloc")]
#[doc(alias = "klp_shadow_get_or_alloc")]
pub(crate) fn alloc(
    key: Key,
    size: usize,
    flags: gfp_t,
    existing: Existing,
    construct: impl FnOnce(NonNull<c_void>) -> c_int,
) -> Option<NonNull<c_void>> {
    let variable = Variable::new(key, size, flags)?;
    let data = variable.data();

    // Somebody may have been faster.
    let table = Locked::new();
    if let Some(data) = table.get(key) {
        drop(table);
        return existing.answer(key, data);
    }
    let errno = construct(data);
    if errno != 0 {
        drop(table);
        shadow::report_unconstructed(key, errno);
        return None;
    }
    table.insert(variable);
    Some(data)
}

/// Frees a variable, if there is one, after `destroy` has seen its object and data.
#[doc(alias = "klp_shadow_free")]
pub(crate) fn free(key: Key, destroy: impl FnOnce(*mut c_void, NonNull<c_void>)) {
    let table = Locked::new();
    if let Some(variable) = table.remove(key) {
        destroy(variable.object(), variable.data());
    }
}

/// Frees all variables with an identifier, whatever their objects are.
#[doc(alias = "klp_shadow_free_all")]
pub(crate) fn free_all(id: usize, mut destroy: impl FnMut(*mut c_void, NonNull<c_void>)) {
    Locked::new().drain(id, |variable| destroy(variable.object(), variable.data()));
}
