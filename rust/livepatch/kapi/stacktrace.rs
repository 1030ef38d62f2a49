// SPDX-License-Identifier: GPL-2.0

//! Stack traces that can be relied on.
//!
//! C header: [`include/linux/stacktrace.h`](srctree/include/linux/stacktrace.h)

use super::{
    cpu::PreemptGuard,
    task::Quiescent, //
};
use crate::bindings;
use core::{
    marker::PhantomData,
    ptr::NonNull, //
};

/// A stack trace in this CPU's buffer.
///
/// # Invariants
///
/// `entries` points to `count` entries in a buffer that is claimed, so nobody else uses them.
/// Preemption stays disabled while the value exists.
struct Trace<'a> {
    entries: NonNull<usize>,
    count: usize,
    _preempt: PhantomData<&'a PreemptGuard>,
}

impl<'a> Trace<'a> {
    /// Saves the stack trace of `task`; `None` if it cannot be relied on or is too deep, or if the
    /// buffer is in use: a call inside a call.
    fn save(task: &Quiescent<'_>, _preempt: &'a PreemptGuard) -> Option<Self> {
        let mut count = 0;
        // SAFETY: Preemption is disabled. The task does not run or is the current one, by the
        // type's invariant; `count` is valid for writes.
        let entries = unsafe { bindings::livepatch_save_stack(task.as_ptr(), &mut count) };
        // INVARIANT: Just claimed, and `count` entries written; the guard is borrowed.
        NonNull::new(entries).map(|entries| Self {
            entries,
            count: count as usize,
            _preempt: PhantomData,
        })
    }

    fn entries(&self) -> &[usize] {
        // SAFETY: There are that many and nobody else uses them, by the type's invariants.
        unsafe { core::slice::from_raw_parts(self.entries.as_ptr(), self.count) }
    }
}

impl Drop for Trace<'_> {
    fn drop(&mut self) {
        // SAFETY: Preemption is still disabled, so it is this CPU's buffer that was claimed.
        unsafe { bindings::livepatch_release_stack() };
    }
}

/// Passes the return addresses on the stack of `task`, innermost first, to `f`.
///
/// Returns `None` if the stack cannot be relied on or is too deep, or in a call inside `f`: the
/// buffer belongs to the CPU.
pub(crate) fn with_stack<R>(
    task: &Quiescent<'_>,
    preempt: &PreemptGuard,
    f: impl FnOnce(&[usize]) -> R,
) -> Option<R> {
    Some(f(Trace::save(task, preempt)?.entries()))
}

/// Returns whether this architecture can tell a stack that can be relied on from one that cannot.
pub(crate) const fn have_reliable_stacks() -> bool {
    cfg!(CONFIG_STACKTRACE) && cfg!(CONFIG_HAVE_RELIABLE_STACKTRACE)
}
