// SPDX-License-Identifier: GPL-2.0

//! Events for tracing, `events/livepatch` in tracefs.
//!
//! ```text
//! klp_transition_start     patch, target              A transition starts.
//! klp_transition_reverse   patch, target              It turns round; `target` is the new one.
//! klp_task_switched        comm, pid, how             A task has switched.
//! klp_signal               comm, pid, kthread         A task that has not switched is nudged.
//! klp_transition_complete  patch, target, duration    All tasks have switched.
//! klp_patch_released       patch, forced              The core has given a patch up.
//! ```
//!
//! BPF programs find an event by its name alone, without `livepatch`; so the names have a prefix of
//! their own.
//!
//! * `target` is `patched` or `unpatched`.
//! * `how`: `stack`, a pass found that it sleeps outside the functions; `schedule`, it found so
//!   itself when it was about to sleep; `interrupt`, an interrupt found that it runs outside them;
//!   `user_exit`, it left the kernel; `idle`, an idle task went through its loop; `offline`, the
//!   idle task of a CPU that is offline; `force`.
//! * `duration` is in nanoseconds since `klp_transition_start`, or since the last
//!   `klp_transition_reverse`.
//! * `forced`: the module of the patch stays for ever, since nobody knows whether a task runs it.
//!
//! All `klp_task_switched` of a transition come before its `klp_transition_complete`. A task that
//! is born has its parent's state and is no event; one that exits before it has switched is none
//! either. An enabling that fails before any task is asked to switch has neither start nor
//! completion. `klp_patch_released` comes once for each patch on whose module the core took a
//! reference, accepted or not; one that is rejected before that, such as one that is not marked as
//! a livepatch or not compatible with those that are installed, is no event. Unless the patch was
//! forced, the reference is gone when the event comes, and the module may be gone too. Tasks have
//! their PIDs in the initial namespace.
//!
//! The events are defined in C, in `tracepoints.h`: a module cannot do it in Rust. They are there
//! as soon as the module is: the taint of a module that is marked as a livepatch does not keep
//! events away, nor do those of a module that is out of the tree or unsigned. While perf or a BPF
//! program uses one, the module cannot be unloaded (`EWOULDBLOCK`). Unloading it empties the
//! buffer of tracefs if one was enabled.
//!
//! # Contexts
//!
//! An event that is off costs a call and a jump. Any context in which RCU is watching, but NMI.
//! RCU is watching wherever these are called:
//!
//! * [`task_switched`] on the way to user space: the loop in `exit_to_user_mode_loop()`, which
//!   also schedules and delivers signals, comes before the kernel tells RCU that it leaves.
//! * In the idle loop: after `schedule_idle()`, when the CPU has left the idle state.
//! * In `__schedule()`: at its very beginning, where the kernel has a tracepoint of its own, and
//!   before it takes a lock of the scheduler, so a BPF program may wake tasks.
//! * In an interrupt that looks at the task it has interrupted.
//! * By a pass: after the scheduler's locks have been released, for the same reason.
//! * By force.
//!
//! Preemption is disabled in these six, but for idle tasks of CPUs that are offline. With
//! `PREEMPT_RT` that is no obstacle: the tracers must cope with it for the sake of `sched_switch`.
//! A pass and force, and [`signal`], hold `tasklist_lock` for reading, unless the task is an idle
//! one. The others are in process context, under the registry lock; [`patch_released`] may be
//! without.

use crate::{
    bindings,
    pure::patch_state::Target, //
};
use kernel::{
    ffi::c_int,
    prelude::*,
    task::Task,
    time::Delta, //
};

/// How a task switches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// A pass looked at its stack.
    Stack,
    /// It looked at its stack in `__schedule()`.
    Schedule,
    /// An interrupt looked at its stack.
    Interrupt,
    /// It leaves the kernel.
    UserExit,
    /// It is an idle task in its loop.
    Idle,
    /// It is the idle task of a CPU that is offline.
    Offline,
    /// Somebody forced it to.
    Force,
}

impl Way {
    fn as_raw(self) -> c_int {
        let raw = match self {
            Self::Stack => bindings::livepatch_way_LIVEPATCH_WAY_STACK,
            Self::Schedule => bindings::livepatch_way_LIVEPATCH_WAY_SCHEDULE,
            Self::Interrupt => bindings::livepatch_way_LIVEPATCH_WAY_INTERRUPT,
            Self::UserExit => bindings::livepatch_way_LIVEPATCH_WAY_USER_EXIT,
            Self::Idle => bindings::livepatch_way_LIVEPATCH_WAY_IDLE,
            Self::Offline => bindings::livepatch_way_LIVEPATCH_WAY_OFFLINE,
            Self::Force => bindings::livepatch_way_LIVEPATCH_WAY_FORCE,
        };
        // CAST: A small number.
        raw as c_int
    }
}

/// A transition of `patch` starts.
pub(crate) fn transition_start(patch: &CStr, target: Target) {
    // SAFETY: The name is a string, which the event copies.
    unsafe {
        bindings::livepatch_trace_transition_start(patch.as_char_ptr(), target.state().as_raw())
    };
}

/// The transition of `patch` has turned round, to `target`.
pub(crate) fn transition_reverse(patch: &CStr, target: Target) {
    // SAFETY: The name is a string, which the event copies.
    unsafe {
        bindings::livepatch_trace_transition_reverse(patch.as_char_ptr(), target.state().as_raw())
    };
}

/// All tasks have switched to `target`, `duration` after the transition started or turned round.
pub(crate) fn transition_complete(patch: &CStr, target: Target, duration: Delta) {
    let duration = u64::try_from(duration.as_nanos()).unwrap_or(0);
    // SAFETY: The name is a string, which the event copies.
    unsafe {
        bindings::livepatch_trace_transition_complete(
            patch.as_char_ptr(),
            target.state().as_raw(),
            duration,
        )
    };
}

/// The core has given `patch` up: its directory is gone, and so is the reference on its module,
/// unless the patch was `forced`.
pub(crate) fn patch_released(patch: &CStr, forced: bool) {
    // SAFETY: The name is a string, which the event copies.
    unsafe { bindings::livepatch_trace_patch_released(patch.as_char_ptr(), forced) };
}

/// `task` has switched, `how`.
pub(crate) fn task_switched(task: &Task, how: Way) {
    // SAFETY: A `Task` that is borrowed lives.
    unsafe { bindings::livepatch_trace_task_switched(task.as_ptr(), how.as_raw()) };
}

/// `task` has not switched and is nudged.
pub(crate) fn signal(task: &Task) {
    // SAFETY: A `Task` that is borrowed lives.
    unsafe { bindings::livepatch_trace_signal(task.as_ptr()) };
}
