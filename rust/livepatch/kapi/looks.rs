// SPDX-License-Identifier: GPL-2.0

//! Looking at what runs on a CPU, by interrupting it.
//!
//! The first interrupt comes from another CPU ([`start`]), those after it from a timer of the CPU
//! itself: no thread has to be scheduled in between, which takes a while where a CPU is busy. There
//! is a timer for each CPU, as a static; [`crate::transition`] says what a look does, in
//! `livepatch_look()`.
//!
//! C headers: [`include/linux/smp.h`](srctree/include/linux/smp.h),
//! [`include/linux/hrtimer.h`](srctree/include/linux/hrtimer.h)

use super::cpu;
use crate::bindings;
use kernel::task::Task;

/// Makes the looks usable.
///
/// # Safety
///
/// Must be called once, before anything else here.
pub(crate) unsafe fn init() {
    // SAFETY: Called once and first, by the safety requirements.
    unsafe { bindings::livepatch_looks_init() };
}

/// Notes that the CPU where `task` is now is to be looked at. Any context.
pub(crate) fn want(task: &Task) {
    // SAFETY: A `Task` that is borrowed lives.
    unsafe { bindings::livepatch_looks_want(task.as_ptr()) };
}

/// Interrupts each CPU that has been noted and looks at what runs there; if that does not switch,
/// up to `times` times more. Process context, with interrupts enabled.
///
/// Returns when all have been interrupted; CPUs that have gone offline are not.
pub(crate) fn start(times: u32) {
    for cpu in cpu::possible_cpus() {
        // SAFETY: The CPU is a possible one. The interrupts are enabled, so that two CPUs can
        // interrupt each other.
        unsafe { bindings::livepatch_looks_start(cpu.number(), times) };
    }
}

/// Ends the looks, and returns when none is under way. Sleeps. Nobody may start any meanwhile.
pub(crate) fn cancel() {
    // SAFETY: The caller may sleep; the timers are initialised.
    unsafe { bindings::livepatch_looks_cancel() };
}
