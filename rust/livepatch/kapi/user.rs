// SPDX-License-Identifier: GPL-2.0

//! Who still needs this module's code, though no reference on the module says so.
//!
//! The kernel holds a module by its reference count, but a task may sleep in a function that the module was called back
//! through, and a released object may still have its destructor to run. They are counted here, and [`see_off`] waits for
//! them when the module goes.

use super::cpu;
use core::sync::atomic::{
    AtomicUsize,
    Ordering, //
};
use kernel::{
    prelude::*,
    sync::{
        Arc,
        Completion,
        SetOnce, //
    },
};

/// How many there are, plus one until [`see_off`].
static USERS: AtomicUsize = AtomicUsize::new(1);

/// Completed when the last one has left.
static LAST_ONE_LEFT: SetOnce<Arc<Completion>> = SetOnce::new();

/// Somebody who needs the module's code.
pub(crate) struct User(());

impl User {
    /// Counts one more. Any context.
    pub(crate) fn new() -> Self {
        // ORDERING: `see_off` has waited for all tasks that were on the way here.
        USERS.fetch_add(1, Ordering::Relaxed);
        Self(())
    }
}

impl Drop for User {
    fn drop(&mut self) {
        leave();
    }
}

fn leave() {
    // ORDERING: what a user did comes before what `see_off` does next; pairs with the same operation of the last one, and
    // then with the completion's lock.
    if USERS.fetch_sub(1, Ordering::AcqRel) == 1 {
        if let Some(left) = LAST_ONE_LEFT.as_ref() {
            left.complete_all();
        }
    }
}

/// Makes [`see_off`] possible; to be called once, before there are any users.
///
/// # Errors
///
/// `ENOMEM`.
pub(crate) fn init() -> Result {
    let left = Arc::pin_init(Completion::new(), GFP_KERNEL)?;
    kernel::warn_on!(!LAST_ONE_LEFT.populate(left));
    Ok(())
}

/// Returns when nobody needs the module's code any more but the caller. Sleeps.
///
/// To be called once, when nothing leads into the module any more and whoever was on the way in has been waited for.
pub(crate) fn see_off() {
    leave();
    if let Some(left) = LAST_ONE_LEFT.as_ref() {
        left.wait_for_completion();
    }
    // The last instructions behind `leave`, in which a task may have been preempted.
    cpu::synchronize_tasks();
}
