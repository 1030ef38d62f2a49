// SPDX-License-Identifier: GPL-2.0

//! Looking at what runs on a CPU, by interrupting it.
//!
//! The first interrupt comes from another CPU ([`Looks::start`]), those after it from a timer of
//! the CPU itself: no thread has to be scheduled in between, which takes a while where a CPU is
//! busy. There is a timer for each CPU, as a static; [`crate::transition`] says what a look does,
//! in `livepatch_look()`.
//!
//! C headers: [`include/linux/smp.h`](srctree/include/linux/smp.h),
//! [`include/linux/hrtimer.h`](srctree/include/linux/hrtimer.h)

use super::cpu::{
    self,
    CpusReadGuard, //
};
use crate::bindings;
use kernel::task::Task;

/// The timers of all CPUs. No look is under way after it has been dropped, which sleeps.
///
/// # Invariants
///
/// The timers have been initialised, and there is no other value of this type.
pub(crate) struct Looks(());

impl Looks {
    /// Makes looks possible.
    ///
    /// # Safety
    ///
    /// There must be no other value of this type.
    pub(crate) unsafe fn new() -> Self {
        // SAFETY: Nobody uses the timers: there is no other value, by the safety requirements, and
        // one that was dropped has cancelled them.
        unsafe { bindings::livepatch_looks_init() };
        // INVARIANT: Just initialised; the rest by the safety requirements.
        Self(())
    }

    /// Notes that the CPU where `task` is now is to be looked at. Any context.
    pub(crate) fn want(&self, task: &Task) {
        // SAFETY: A `Task` that is borrowed lives.
        unsafe { bindings::livepatch_looks_want(task.as_ptr()) };
    }

    /// Interrupts each CPU that has been noted and looks at what runs there; if that does not
    /// switch, up to `times` times more.
    ///
    /// Returns when all have been interrupted; CPUs that are offline are not. The guard, which only
    /// a context that may sleep can get, is evidence that interrupts are enabled, so that two CPUs
    /// can interrupt each other.
    pub(crate) fn start(&self, _: &CpusReadGuard, times: u32) {
        for cpu in cpu::possible_cpus() {
            // SAFETY: The CPU is a possible one, and its timer is initialised by the type's
            // invariants. Interrupts are enabled, as the guard says.
            unsafe { bindings::livepatch_looks_start(cpu.number(), times) };
        }
    }
}

impl Drop for Looks {
    fn drop(&mut self) {
        // SAFETY: The timers are initialised by the type's invariants. Nobody starts a look
        // meanwhile: that takes a reference to the value.
        unsafe { bindings::livepatch_looks_cancel() };
    }
}
