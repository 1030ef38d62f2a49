// SPDX-License-Identifier: GPL-2.0

//! CPUs, preemption, and waiting for all of them.
//!
//! C headers: [`include/linux/cpu.h`](srctree/include/linux/cpu.h),
//! [`include/linux/preempt.h`](srctree/include/linux/preempt.h)
//!
//! # Examples
//!
//! ```ignore
//! let cpus = CpusReadGuard::new();
//! for cpu in cpu::possible_cpus() {
//!     if cpus.is_online(cpu) {
//!         cpus.wake_if_idle(cpu);
//!     }
//! }
//! ```

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
        // SAFETY: Only changes a counter of the current task, and the guard's `Drop` balances it.
        unsafe { bindings::livepatch_preempt_disable() };
        // INVARIANT: Just disabled.
        Self(NotThreadSafe)
    }
}

impl Drop for PreemptGuard {
    fn drop(&mut self) {
        // SAFETY: Balances the call in `new`.
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
        // SAFETY: The caller may sleep; `Drop` balances it.
        unsafe { bindings::cpus_read_lock() };
        // INVARIANT: Just taken.
        Self(NotThreadSafe)
    }

    /// Returns whether `cpu` is online.
    pub(crate) fn is_online(&self, cpu: PossibleCpu) -> bool {
        // SAFETY: Reads a bit of a mask, in which a possible CPU has one.
        unsafe { bindings::livepatch_cpu_online(cpu.0) }
    }

    /// Makes the idle task of `cpu`, if that is what runs there, go through its loop once.
    pub(crate) fn wake_if_idle(&self, cpu: PossibleCpu) {
        // SAFETY: CPU hotplug is held off, by the type's invariant, and the CPU is a possible one.
        unsafe { bindings::wake_up_if_idle(cpu.0 as i32) };
    }
}

impl Drop for CpusReadGuard {
    fn drop(&mut self) {
        // SAFETY: Balances the call in `new`.
        unsafe { bindings::cpus_read_unlock() };
    }
}

/// A CPU that this machine can have, online or not.
///
/// # Invariants
///
/// Its bit in `cpu_possible_mask`, which does not change after boot, is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PossibleCpu(u32);

impl PossibleCpu {
    /// Returns the number by which C knows the CPU.
    pub(crate) fn number(self) -> u32 {
        self.0
    }
}

/// Returns all CPUs that this machine can have.
pub(crate) fn possible_cpus() -> impl Iterator<Item = PossibleCpu> {
    (0..kernel::cpu::nr_cpu_ids())
        // SAFETY: Reads a bit of a mask; the range keeps `cpu` inside it.
        .filter(|&cpu| unsafe { bindings::livepatch_cpu_possible(cpu) })
        // INVARIANT: The bit is set.
        .map(PossibleCpu)
}

/// Returns when every CPU has been where preemption is possible: whatever ran with preemption
/// disabled at the time of the call is over. A full memory barrier on every other CPU. Sleeps.
///
/// Stronger than `synchronize_rcu()`: it also covers code that runs where RCU is not watching, such
/// as on the way to and from idle, and functions there can be patched. The C core has each CPU run
/// a work item, which takes a while where a CPU is busy. An interrupt is enough if it comes in user
/// space or where the preemption counter is 0: then the CPU is in no such piece of code, and what
/// it runs next sees what was written before the call. A CPU that is idle, where preemption is
/// always disabled, or that is not found at such a place a few times, runs a work item.
pub(crate) fn synchronize_all() {
    // SAFETY: The caller may sleep.
    unsafe { bindings::livepatch_synchronize_cpus() };
}

/// Waits a moment, 10 ms. Sleeps.
///
/// For those who wait for what nobody tells of, such as memory that they need and have no way to do
/// without.
pub(crate) fn wait_a_moment() {
    // SAFETY: The caller may sleep.
    unsafe { bindings::msleep(10) };
}

/// Waits until every task has scheduled voluntarily, run in user space, or exited for good.
///
/// Then nothing is left preempted in module code that nothing can enter any more. It does not wait
/// for tasks that *sleep* there; nor, with `PREEMPT_RT`, for those that wait for a `spinlock_t` or
/// `rwlock_t` there, which counts as scheduling voluntarily. It has no bound if a kernel thread
/// never sleeps by itself. May sleep for a long time.
pub(crate) fn synchronize_tasks() {
    // SAFETY: The caller may sleep.
    unsafe { bindings::synchronize_rcu_tasks() };
}

/// A write memory barrier, `smp_wmb()`.
///
/// The `kernel` crate's names for it differ between releases.
pub(crate) fn write_barrier() {
    // SAFETY: A barrier is allowed in any context.
    unsafe { bindings::smp_wmb() };
}

/// A read memory barrier, `smp_rmb()`.
pub(crate) fn read_barrier() {
    // SAFETY: A barrier is allowed in any context.
    unsafe { bindings::smp_rmb() };
}
