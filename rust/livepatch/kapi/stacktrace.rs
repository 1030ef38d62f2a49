// SPDX-License-Identifier: GPL-2.0

//! Stacks: traces that can be relied on, and what else is on them.
//!
//! C header: [`include/linux/stacktrace.h`](srctree/include/linux/stacktrace.h)

use super::{
    cpu::PreemptGuard,
    task::{
        Inactive,
        Quiescent, //
    }, //
};
use crate::bindings;
use core::{
    marker::PhantomData,
    ops::Range,
    ptr::NonNull, //
};

/// Addresses from a stack in this CPU's buffer.
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
        // SAFETY: Just claimed, and `count` entries written; preemption is disabled.
        unsafe { Self::from_raw(entries, count) }
    }

    /// Saves the words on the stack of `task` that could be addresses in `span`; `None` if this
    /// need not be all, or in a call inside a call.
    fn save_text_words(
        task: &Inactive<'_>,
        span: Range<usize>,
        _preempt: &'a PreemptGuard,
    ) -> Option<Self> {
        let mut count = 0;
        // SAFETY: Preemption is disabled. The task does not run, by the type's invariant; `count`
        // is valid for writes.
        let entries = unsafe {
            bindings::livepatch_save_text_words(task.as_ptr(), span.start, span.len(), &mut count)
        };
        // SAFETY: Just claimed, and `count` entries written; preemption is disabled.
        unsafe { Self::from_raw(entries, count) }
    }

    /// Takes what a helper has saved; `None` for null.
    ///
    /// # Safety
    ///
    /// If `entries` is not null, this CPU's buffer must be claimed for the value that is returned,
    /// and have `count` entries; preemption must be disabled for `'a`.
    unsafe fn from_raw(entries: *mut usize, count: u32) -> Option<Self> {
        // INVARIANT: By the safety requirements.
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

/// Passes all words on the stack of `task` that could be addresses in `span`, whether they are
/// return addresses or not, to `f`.
///
/// Code that the task runs, is to return to, or was interrupted in is among them, with the exact
/// address, as [`with_stack`] would see it. To look for it takes a fraction of the time, since
/// nothing has to be known of the functions that the stack belongs to.
///
/// Returns `None` if there could be addresses that are not on the stack as they are: if a tracer of
/// returns keeps return addresses elsewhere, or if there is an address of code or data outside the
/// kernel's image. That may be code that runs in the place of some that was patched, such as what
/// kprobes copy. Returns `None`, too, if there are too many words, if the stack is not where it
/// should be, in a call inside `f`, and on architectures other than x86-64.
pub(crate) fn with_text_words<R>(
    task: &Inactive<'_>,
    span: Range<usize>,
    preempt: &PreemptGuard,
    f: impl FnOnce(&[usize]) -> R,
) -> Option<R> {
    Some(f(Trace::save_text_words(task, span, preempt)?.entries()))
}

/// Makes [`with_text_words`] possible.
///
/// # Safety
///
/// Must be called once, before anything else of this module.
pub(crate) unsafe fn init() {
    // SAFETY: Nobody uses what it writes, by the safety requirements.
    unsafe { bindings::livepatch_stacks_init() };
}

/// Returns whether this architecture can tell a stack that can be relied on from one that cannot.
pub(crate) const fn have_reliable_stacks() -> bool {
    cfg!(CONFIG_STACKTRACE) && cfg!(CONFIG_HAVE_RELIABLE_STACKTRACE)
}
