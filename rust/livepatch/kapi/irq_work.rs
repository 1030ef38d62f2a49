// SPDX-License-Identifier: GPL-2.0

//! Work for contexts in which little is allowed.
//!
//! C header: [`include/linux/irq_work.h`](srctree/include/linux/irq_work.h)

use super::workqueue::Work;
use crate::bindings;
use kernel::types::Opaque;

/// Runs a function soon, with interrupts disabled, on behalf of a context in which little is
/// allowed.
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

    /// Sets the function, which must not sleep.
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
        // SAFETY: Nobody uses the item yet, by the safety requirements; the rest of an unused one
        // is zeroes.
        unsafe { (*self.0.get()).func = Some(run::<F>) };
    }

    /// Has the function run. Any context.
    pub(crate) fn trigger(&'static self) {
        // SAFETY: The item is initialised, by the type's invariant.
        unsafe { bindings::irq_work_queue(self.0.get()) };
    }

    /// Waits until the function does not run and is not about to. Sleeps.
    ///
    /// Nobody may trigger it at the same time.
    pub(crate) fn synchronize(&'static self) {
        // SAFETY: The item is initialised, by the type's invariant.
        unsafe { bindings::irq_work_sync(self.0.get()) };
    }
}
