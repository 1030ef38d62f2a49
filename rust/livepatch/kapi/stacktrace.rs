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

/// This CPU's buffer for a stack trace.
///
/// # Invariants
///
/// `0` points to `LIVEPATCH_MAX_STACK_ENTRIES` entries that are claimed, so nobody else uses them.
/// Preemption stays disabled while the value exists.
struct Entries<'a>(NonNull<usize>, PhantomData<&'a PreemptGuard>);

impl<'a> Entries<'a> {
    /// Claims the buffer, `None` if it is in use: a call inside a call.
    fn claim(_preempt: &'a PreemptGuard) -> Option<Self> {
        // SAFETY: Preemption is disabled.
        let entries = unsafe { bindings::livepatch_claim_stack_entries() };
        // INVARIANT: Just claimed; the guard is borrowed.
        NonNull::new(entries).map(|entries| Self(entries, PhantomData))
    }
}

impl Drop for Entries<'_> {
    fn drop(&mut self) {
        // SAFETY: Preemption is still disabled, so it is this CPU's buffer that was claimed.
        unsafe { bindings::livepatch_release_stack_entries() };
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
    let entries = Entries::claim(preempt)?;
    // SAFETY: The task does not run or is the current one, by the type's invariant. The buffer has
    // that many entries and is claimed.
    let count = unsafe {
        bindings::stack_trace_save_tsk_reliable(
            task.as_ptr(),
            entries.0.as_ptr(),
            bindings::LIVEPATCH_MAX_STACK_ENTRIES,
        )
    };
    let count = usize::try_from(count).ok()?;
    // SAFETY: `count` entries were written just now, and nobody else uses the buffer.
    Some(f(unsafe {
        core::slice::from_raw_parts(entries.0.as_ptr(), count)
    }))
}

/// Returns whether this architecture can tell a stack that can be relied on from one that cannot.
pub(crate) fn have_reliable_stacks() -> bool {
    // SAFETY: Evaluates a constant of the configuration.
    unsafe { bindings::livepatch_have_reliable_stack() }
}
