// SPDX-License-Identifier: GPL-2.0

//! The state of a task in a transition: `patch_state` and `TIF_PATCH_PENDING`.
//!
//! C headers: [`include/linux/sched.h`](srctree/include/linux/sched.h),
//! [`include/linux/livepatch_sched.h`](srctree/include/linux/livepatch_sched.h)

use crate::{
    bindings,
    pure::patch_state::PatchState, //
};
use core::sync::atomic::{
    AtomicI32,
    Ordering, //
};
use kernel::task::Task;

/// The part of a task that belongs to a transition.
///
/// The order of these accesses is up to the caller, but for
/// [`Self::test_and_clear_pending`].
pub(crate) trait PatchStateExt {
    /// Returns the state that the task has in the current transition.
    fn patch_state(&self) -> PatchState;
    /// Sets the state that the task has in the current transition.
    ///
    /// The task should not run, or be the current one, or no function be in
    /// transition: else a handler may act on the old state.
    fn set_patch_state(&self, state: PatchState);
    /// Returns whether the task still has to switch.
    fn is_pending(&self) -> bool;
    /// Makes the task switch when it leaves the kernel.
    fn set_pending(&self);
    /// Takes [`Self::set_pending`] back, or notes that the task has switched.
    fn clear_pending(&self);
    /// Does [`Self::clear_pending`] and returns whether the flag was set. A full memory barrier if
    /// it was.
    fn test_and_clear_pending(&self) -> bool;
}

/// Returns an atomic view of a task's `patch_state`.
fn state_of(task: &Task) -> &AtomicI32 {
    // SAFETY: A `Task` that is borrowed lives; only the address of the field is taken.
    let state = unsafe { &raw mut (*task.as_ptr()).patch_state };
    // SAFETY: The field is aligned and lives as long as the task, and everybody accesses it
    // atomically or, in C, as an aligned int.
    unsafe { AtomicI32::from_ptr(state) }
}

impl PatchStateExt for Task {
    fn patch_state(&self) -> PatchState {
        PatchState::from_raw(state_of(self).load(Ordering::Relaxed))
    }

    fn set_patch_state(&self, state: PatchState) {
        state_of(self).store(state.as_raw(), Ordering::Relaxed);
    }

    fn is_pending(&self) -> bool {
        // SAFETY: A `Task` that is borrowed lives.
        unsafe { bindings::livepatch_task_pending(self.as_ptr()) }
    }

    fn set_pending(&self) {
        // SAFETY: A `Task` that is borrowed lives.
        unsafe { bindings::livepatch_set_task_pending(self.as_ptr()) };
    }

    fn clear_pending(&self) {
        // SAFETY: A `Task` that is borrowed lives.
        unsafe { bindings::livepatch_clear_task_pending(self.as_ptr()) };
    }

    fn test_and_clear_pending(&self) -> bool {
        // SAFETY: A `Task` that is borrowed lives.
        unsafe { bindings::livepatch_test_and_clear_task_pending(self.as_ptr()) }
    }
}

/// Sets whether `__schedule()` tries to switch tasks on its way. Process context; sleeps.
pub(crate) fn set_switch_in_schedule(on: bool) {
    if on {
        // SAFETY: The caller may sleep.
        unsafe { bindings::livepatch_sched_switch_enable() };
    } else {
        // SAFETY: The caller may sleep.
        unsafe { bindings::livepatch_sched_switch_disable() };
    }
}
