// SPDX-License-Identifier: GPL-2.0

//! CPUs, preemption, and waiting for all of them.
//!
//! C headers: [`include/linux/cpu.h`](srctree/include/linux/cpu.h),
//! [`include/linux/preempt.h`](srctree/include/linux/preempt.h)

use crate::bindings;
use kernel::types::NotThreadSafe;

/// Evidence that preemption is disabled.
///
/// # Invariants
///
/// Preemption is disabled while a value of this type exists.
pub(crate) struct PreemptGuard(NotThreadSafe);

impl PreemptGuard {
    /// Disables preemption, without being traced.
    pub(crate) fn new() -> Self {
        // SAFETY: no requirement; the guard's `Drop` balances it.
        unsafe { bindings::livepatch_preempt_disable() };
        // INVARIANT: just disabled.
        Self(NotThreadSafe)
    }
}

impl Drop for PreemptGuard {
    fn drop(&mut self) {
        // SAFETY: balances `new`.
        unsafe { bindings::livepatch_preempt_enable() };
    }
}

/// Evidence that no CPU comes or goes.
///
/// # Invariants
///
/// `cpus_read_lock()` is held while a value of this type exists.
pub(crate) struct CpusReadGuard(NotThreadSafe);

impl CpusReadGuard {
    /// Holds off CPU hotplug. May sleep.
    pub(crate) fn new() -> Self {
        // SAFETY: no requirement; `Drop` balances it.
        unsafe { bindings::cpus_read_lock() };
        // INVARIANT: just taken.
        Self(NotThreadSafe)
    }

    /// Whether `cpu` is online.
    pub(crate) fn is_online(&self, cpu: u32) -> bool {
        // SAFETY: reads a bit of a mask; `cpu` comes from `possible_cpus`.
        unsafe { bindings::livepatch_cpu_online(cpu) }
    }

    /// Makes the idle task of `cpu`, if that is what runs there, go through its loop once.
    pub(crate) fn wake_if_idle(&self, cpu: u32) {
        // SAFETY: CPU hotplug is held off, by the type's invariant.
        unsafe { bindings::wake_up_if_idle(cpu as i32) };
    }
}

impl Drop for CpusReadGuard {
    fn drop(&mut self) {
        // SAFETY: balances `new`.
        unsafe { bindings::cpus_read_unlock() };
    }
}

/// All CPUs that this machine can ever have.
pub(crate) fn possible_cpus() -> impl Iterator<Item = u32> {
    // SAFETY: reads a bit of a mask that does not change after boot; the range keeps `cpu` inside it.
    (0..kernel::cpu::nr_cpu_ids()).filter(|&cpu| unsafe { bindings::livepatch_cpu_possible(cpu) })
}

/// Does nothing: that it ran is what counts.
///
/// # Safety
///
/// None needed.
unsafe extern "C" fn nothing(_: *mut bindings::work_struct) {}

/// Returns when every CPU has scheduled: whatever ran with preemption disabled at the time of the call is over.
///
/// Stronger than `synchronize_rcu()`: it also covers code that runs where RCU is not watching, such as on the way to
/// and from idle, and functions there can be patched. A full memory barrier on every CPU. Sleeps.
pub(crate) fn synchronize_all() {
    loop {
        // SAFETY: `nothing` is a work function; the call may sleep, as ours may.
        if unsafe { bindings::schedule_on_each_cpu(Some(nothing)) } == 0 {
            return;
        }
        // Out of memory for a few bytes per CPU. Going on unsynchronised would be a use after free, and there is no
        // way to fail: wait until something has been reclaimed.
        // SAFETY: we may sleep.
        unsafe { bindings::msleep(10) };
    }
}

/// Returns when every task has scheduled voluntarily, run in user space, or exited for good: nothing is left preempted in
/// module code that nothing can enter any more. Sleeps, for long.
pub(crate) fn synchronize_tasks() {
    // SAFETY: we may sleep.
    unsafe { bindings::synchronize_rcu_tasks() };
}

/// `smp_wmb()`. The `kernel` crate's names for it differ between releases.
pub(crate) fn write_barrier() {
    // SAFETY: no requirement.
    unsafe { bindings::smp_wmb() };
}

/// `smp_rmb()`.
pub(crate) fn read_barrier() {
    // SAFETY: no requirement.
    unsafe { bindings::smp_rmb() };
}
