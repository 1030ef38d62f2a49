// SPDX-License-Identifier: GPL-2.0

//! A value that is read with preemption disabled while it is being replaced.

use super::cpu::{
    self,
    PreemptGuard, //
};
use core::sync::atomic::{
    AtomicPtr,
    Ordering, //
};
use kernel::prelude::*;

/// Holds a value or nothing.
///
/// Reading is lock-free and works in any context with preemption disabled, also where RCU is not
/// watching.
///
/// # Invariants
///
/// The pointer is null or came from a [`KBox`]; what it pointed to is freed only after every CPU
/// has been where preemption is possible.
pub(crate) struct Published<T>(AtomicPtr<T>);

impl<T: Send + Sync> Published<T> {
    /// Makes one that holds nothing.
    pub(crate) const fn new() -> Self {
        Self(AtomicPtr::new(core::ptr::null_mut()))
    }

    /// Returns the present value, which stays as long as preemption stays disabled.
    pub(crate) fn get<'a>(&self, _preempt: &'a PreemptGuard) -> Option<&'a T> {
        // ORDERING: Pairs with the release in `replace`.
        let value = self.0.load(Ordering::Acquire);
        // SAFETY: Null, or not freed while preemption is disabled, by the type's invariant.
        unsafe { value.as_ref() }
    }

    /// Publishes `new` and returns what was there before, which nobody reads any more. Sleeps if
    /// there was something.
    pub(crate) fn replace(&self, new: Option<KBox<T>>) -> Option<KBox<T>> {
        let new = new.map_or(core::ptr::null_mut(), KBox::into_raw);
        // ORDERING: Release publishes what `new` points to; pairs with the acquire in `get`.
        let old = self.0.swap(new, Ordering::AcqRel);
        if old.is_null() {
            return None;
        }
        // INVARIANT: Readers that got the old pointer are over after this.
        cpu::synchronize_all();
        // SAFETY: It came from a `KBox`, by the type's invariant, and after the swap nobody else
        // has it.
        Some(unsafe { KBox::from_raw(old) })
    }
}
