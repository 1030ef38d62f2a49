// SPDX-License-Identifier: GPL-2.0

//! The ftrace handler: where a call of a patched function goes.
//!
//! `livepatch_ftrace_thunk()` in `helpers.c` is the callback; it disables preemption, asks
//! [`livepatch_select`], and sets the instruction pointer. `handler.md` follows a call instruction
//! by instruction.
//!
//! # Contexts and concurrency
//!
//! Any context, NMI included, with preemption disabled, at the same time as anything else here. The
//! handler takes no lock, allocates nothing and calls nothing that can be traced. What it reaches
//! through [`static@TABLE`] is freed only after it has been unlinked and every CPU been
//! synchronised with. A task that was preempted in ftrace's trampoline, before the callback
//! disabled preemption, may still arrive with an address that is in no filter any more: it finds an
//! empty stack and goes on in the original function.

use crate::{
    bindings,
    kapi::warn::warn_once,
    pure::{
        patch_state::PatchState,
        table::{
            NoPatchState,
            View,
            ORIGINAL, //
        }, //
    },
};
use core::sync::atomic::{
    AtomicPtr,
    Ordering, //
};

/// The table that handlers use.
static TABLE: AtomicPtr<View> = AtomicPtr::new((&raw const NOTHING).cast_mut());

/// The table while nothing is intercepted.
static NOTHING: View = View::of_nothing();

/// Makes handlers use a table, or none.
///
/// # Safety
///
/// `table` must stay until another one has been set and every CPU been synchronised with after
/// that.
pub(crate) unsafe fn set_table(table: Option<&View>) {
    let table = core::ptr::from_ref(table.unwrap_or(&NOTHING)).cast_mut();
    // ORDERING: Publishes the table's slots; pairs with the acquire load in `livepatch_select`.
    TABLE.store(table, Ordering::Release);
}

/// Decides where a call that arrived at `ip` goes; 0 leaves it alone.
///
/// # Safety
///
/// Preemption must be disabled until the decision has been carried out.
#[no_mangle]
unsafe extern "C" fn livepatch_select(ip: usize) -> usize {
    // ORDERING: Pairs with the release store in `set_table`.
    let table = TABLE.load(Ordering::Acquire);
    // SAFETY: A table that was reachable with preemption disabled is alive until it is enabled
    // again.
    let Some(slot) = (unsafe { &*table }).find(ip) else {
        return ORIGINAL;
    };
    // SAFETY: Reads a field of the current task, which any context may.
    let raw = || unsafe { bindings::livepatch_current_patch_state() };
    // SAFETY: Preemption is disabled by the safety requirements.
    let choice = unsafe { slot.select(|| PatchState::from_raw(raw())) };
    choice.unwrap_or_else(no_patch_state)
}

/// Takes the older code for a task that left the list of tasks before the transition began.
#[cold]
fn no_patch_state(NoPatchState(older): NoPatchState) -> usize {
    warn_once!(c"a function is in transition and the task has no state");
    older
}

// The declaration that the C side has.
const _: unsafe extern "C" fn(usize) -> usize = livepatch_select;
const _: unsafe extern "C" fn(usize, usize, *mut bindings::ftrace_ops, *mut bindings::ftrace_regs) =
    bindings::livepatch_ftrace_thunk;
