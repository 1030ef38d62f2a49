// SPDX-License-Identifier: GPL-2.0

//! Debug messages, off until they are switched on in `/sys/kernel/debug/dynamic_debug/control`.
//!
//! Texts, files and functions are the C core's: users and the kernel's selftests select them by
//! these. Any context.

use crate::kapi::{
    dyndbg::pr_debug,
    task::TaskExt, //
};
use kernel::{
    ffi::c_int,
    prelude::*,
    task::Task, //
};

/// A transition is prepared.
pub(crate) fn initializing(patch: &CStr, verb: &str) {
    pr_debug!(
        "transition.c",
        "klp_init_transition",
        "'%s': initializing %s transition",
        "'{}': initializing {} transition\n",
        patch,
        verb
    );
}

/// All tasks have switched.
pub(crate) fn completing(patch: &CStr, verb: &str) {
    pr_debug!(
        "transition.c",
        "klp_complete_transition",
        "'%s': completing %s transition",
        "'{}': completing {} transition\n",
        patch,
        verb
    );
}

/// A patch could not be applied.
pub(crate) fn canceling(patch: &CStr) {
    pr_debug!(
        "transition.c",
        "klp_cancel_transition",
        "'%s': canceling patching transition, going to unpatch",
        "'{}': canceling patching transition, going to unpatch\n",
        patch
    );
}

/// A transition turns round.
pub(crate) fn reversing(patch: &CStr, from: &str, to: &str) {
    pr_debug!(
        "transition.c",
        "klp_reverse_transition",
        "'%s': reversing transition from %s",
        "'{}': reversing transition from {} to {}\n",
        patch,
        from,
        to
    );
}

/// A task cannot be switched since it runs.
pub(crate) fn running(task: &Task) {
    pr_debug!(
        "transition.c",
        "klp_try_switch_task",
        "%s: %s:%d is running",
        "klp_try_switch_task: {}:{} is running\n",
        task.comm().as_cstr(),
        task.pid()
    );
}

/// A task cannot be switched since its stack cannot be relied on.
pub(crate) fn unreliable(task: &Task) {
    pr_debug!(
        "transition.c",
        "klp_try_switch_task",
        "%s: %s:%d has an unreliable stack",
        "klp_try_switch_task: {}:{} has an unreliable stack\n",
        task.comm().as_cstr(),
        task.pid()
    );
}

/// A task cannot be switched since it runs `function`.
pub(crate) fn sleeping_on(task: &Task, function: &CStr) {
    pr_debug!(
        "transition.c",
        "klp_try_switch_task",
        "%s: %s:%d is sleeping on function %s",
        "klp_try_switch_task: {}:{} is sleeping on function {}\n",
        task.comm().as_cstr(),
        task.pid(),
        function
    );
}

/// A task cannot be switched since the scheduler gave an errno instead of a look at it.
pub(crate) fn unknown(task: &Task, errno: c_int) {
    pr_debug!(
        "transition.c",
        "klp_try_switch_task",
        "%s: Unknown error code (%d) when trying to switch %s:%d",
        "klp_try_switch_task: Unknown error code ({}) when trying to switch {}:{}\n",
        errno,
        task.comm().as_cstr(),
        task.pid()
    );
}
