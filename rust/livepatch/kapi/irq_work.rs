// SPDX-License-Identifier: GPL-2.0

//! Work for contexts in which little is allowed.
//!
//! C header: [`include/linux/irq_work.h`](srctree/include/linux/irq_work.h)

use super::workqueue::Work;
use crate::bindings;
use kernel::types::Opaque;

/// Runs a function soon, in an interrupt, on behalf of a context in which little is allowed.
///
/// With `PREEMPT_RT` too, where such items are left to a thread of the CPU unless they ask for the
/// interrupt. That thread has the lowest of the real-time priorities: one busy task with a higher
/// one would keep the function from running, and [`Self::synchronize`] from returning, for as long
/// as it likes; and the thread is parked some time before its CPU is offline.
///
/// # Invariants
///
/// [`Self::init`] has been called before anything else, once; the value never moves afterwards.
pub(crate) struct StaticTrigger(Opaque<bindings::irq_work>);

// SAFETY: Items may be queued from any CPU at the same time.
unsafe impl Sync for StaticTrigger {}

impl StaticTrigger {
    /// Makes space for one.
    ///
    /// # Safety
    ///
    /// [`Self::init`] must be called before any other method.
    pub(crate) const unsafe fn uninit() -> Self {
        Self(Opaque::zeroed())
    }

    /// Sets the function, which must not sleep. With `PREEMPT_RT` it must not take a `spinlock_t`
    /// either.
    ///
    /// # Safety
    ///
    /// Must be called once only, before any other method.
    pub(crate) unsafe fn init<F: Work>(&'static self) {
        /// Called by the interrupt.
        ///
        /// # Safety
        ///
        /// Any argument will do, since it is not looked at.
        unsafe extern "C" fn run<F: Work>(_work: *mut bindings::irq_work) {
            F::run();
        }
        let work = self.0.get();
        // SAFETY: Nobody uses the item yet, by the safety requirements; the rest of an unused one
        // is zeroes.
        unsafe { (*work).func = Some(run::<F>) };
        // SAFETY: Nobody uses the item yet, by the safety requirements.
        unsafe { (*work).node.__bindgen_anon_1.u_flags = bindings::IRQ_WORK_HARD_IRQ };
    }

    /// Has the function run. Any context.
    ///
    /// Not on a CPU that is offline, as its idle task may find it: nothing would run there, and
    /// neither would the function anywhere else, since the item would stay queued.
    pub(crate) fn trigger(&'static self) {
        // SAFETY: The item is initialised, by the type's invariant.
        unsafe { bindings::livepatch_trigger(self.0.get()) };
    }

    /// Waits until the function does not run and is not about to. Sleeps.
    ///
    /// Nobody may trigger it at the same time.
    pub(crate) fn synchronize(&'static self) {
        // SAFETY: The item is initialised, by the type's invariant.
        unsafe { bindings::irq_work_sync(self.0.get()) };
    }
}
