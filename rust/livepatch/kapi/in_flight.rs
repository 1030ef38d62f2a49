// SPDX-License-Identifier: GPL-2.0

//! Users of this module's code that hold no reference on the module.
//!
//! The kernel holds a module by its reference count, but a task may sleep in a function through
//! which the module was called back, and a released object may still have its destructor to run.
//! They are counted here, and [`wait_for_callers`] waits for them when the module goes.

use super::cpu;
use crate::bindings;
use core::sync::atomic::{
    AtomicUsize,
    Ordering, //
};
use kernel::types::Opaque;

/// The number of users, plus one until [`wait_for_callers`].
static IN_FLIGHT: AtomicUsize = AtomicUsize::new(1);

/// A completion in place: one that was allocated would be left in the static when the module goes.
///
/// # Invariants
///
/// [`init`] has initialised it before anybody uses it.
struct StaticCompletion(Opaque<bindings::completion>);

// SAFETY: Completions have their own lock.
unsafe impl Sync for StaticCompletion {}

/// Completed when the last user has left.
static LAST_ONE_LEFT: StaticCompletion = StaticCompletion(Opaque::uninit());

/// A user of the module's code.
pub(crate) struct InFlight(());

impl InFlight {
    /// Counts one more user. Any context.
    pub(crate) fn new() -> Self {
        // ORDERING: `wait_for_callers` comes after a wait for all tasks that were on the way here.
        IN_FLIGHT.fetch_add(1, Ordering::Relaxed);
        Self(())
    }
}

/// What follows in the module's code must not sleep, nor take a lock on which `PREEMPT_RT` sleeps;
/// freeing memory does. See [`cpu::synchronize_tasks`].
impl Drop for InFlight {
    fn drop(&mut self) {
        leave();
    }
}

/// Counts one user less.
fn leave() {
    // ORDERING: What a user did comes before what `wait_for_callers` does next; pairs with the same
    // operation of the last one, and then with the completion's lock.
    if IN_FLIGHT.fetch_sub(1, Ordering::AcqRel) == 1 {
        // SAFETY: It is initialised, by the type's invariant.
        unsafe { bindings::complete_all(LAST_ONE_LEFT.0.get()) };
    }
}

/// Makes this module usable.
///
/// # Safety
///
/// Must be called once, before anything else here.
pub(crate) unsafe fn init() {
    // SAFETY: The memory is static, and nobody uses it yet by the safety requirements.
    unsafe { bindings::init_completion(LAST_ONE_LEFT.0.get()) };
}

/// Waits until nobody but the caller needs the module's code any more. Sleeps.
///
/// To be called once, when nothing leads into the module any more and whoever was on the way in has
/// been waited for.
pub(crate) fn wait_for_callers() {
    leave();
    // SAFETY: It is initialised, by the type's invariant; the caller may sleep.
    unsafe { bindings::wait_for_completion(LAST_ONE_LEFT.0.get()) };
    // The last instructions after `leave`, in which a task may have been preempted. (The lock of a
    // completion is a raw one.)
    cpu::synchronize_tasks();
}
