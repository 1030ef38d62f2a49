// SPDX-License-Identifier: GPL-2.0

//! A queue of one's own, and work that lives in a static.
//!
//! The `kernel` crate's work items are owned by the queue while they wait; the core wants items
//! that can be brought forward, and that are certainly over when the module goes. So a queue knows
//! the items that may be put on it, and takes them off before it goes.
//!
//! C header: [`include/linux/workqueue.h`](srctree/include/linux/workqueue.h)
//!
//! # Examples
//!
//! ```ignore
//! struct Hello;
//!
//! impl Work for Hello {
//!     fn run() {
//!         pr_info!("hello\n");
//!     }
//! }
//!
//! // SAFETY: `init` below comes before any other method.
//! static HELLO: StaticWork = unsafe { StaticWork::uninit() };
//!
//! // SAFETY: This is called once, when nobody uses the item yet.
//! unsafe { HELLO.init::<Hello>() };
//! static ITEMS: [&StaticWork; 1] = [&HELLO];
//! let queue = OwnedQueue::new(c"example", &ITEMS)?;
//! HELLO.run_after(&queue, msecs_to_jiffies(1000));
//! // Not that late.
//! HELLO.run_now();
//! // If it has not run yet, it does not.
//! drop(queue);
//! ```

use super::cpu::{
    self,
    PreemptGuard, //
};
use crate::bindings;
use core::{
    ptr::NonNull,
    sync::atomic::{
        AtomicPtr,
        Ordering, //
    },
};
use kernel::{
    prelude::*,
    time::Jiffies,
    types::Opaque, //
};

/// A workqueue that exists as long as this.
///
/// # Invariants
///
/// Nothing is ever put on the queue but `items`.
pub(crate) struct OwnedQueue {
    queue: NonNull<bindings::workqueue_struct>,
    items: &'static [&'static StaticWork],
}

// SAFETY: A queue is not bound to a thread.
unsafe impl Send for OwnedQueue {}
// SAFETY: Any thread may put work on a queue, which has a lock of its own.
unsafe impl Sync for OwnedQueue {}

impl OwnedQueue {
    /// Makes a queue called `name` for `items`, whose work goes before that of busy tasks of an
    /// ordinary priority.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(name: &CStr, items: &'static [&'static StaticWork]) -> Result<Self> {
        // SAFETY: The format takes one string; 0 is the default for the number of items at a time.
        let queue = unsafe {
            bindings::alloc_workqueue_noprof(
                c"%s".as_char_ptr(),
                bindings::wq_flags_WQ_UNBOUND | bindings::wq_flags_WQ_HIGHPRI,
                0,
                name.as_char_ptr(),
            )
        };
        // INVARIANT: Nothing is on it yet.
        NonNull::new(queue)
            .map(|queue| Self { queue, items })
            .ok_or(ENOMEM)
    }

    /// The C structure, if `item` may be put on the queue; a warning if not.
    fn for_item(&self, item: &'static StaticWork) -> Option<*mut bindings::workqueue_struct> {
        let is_known = self.items.iter().any(|known| core::ptr::eq(*known, item));
        (!kernel::warn_on!(!is_known)).then_some(self.queue.as_ptr())
    }
}

impl Drop for OwnedQueue {
    /// Takes all items off the queue and waits until none runs. Sleeps.
    fn drop(&mut self) {
        for item in self.items {
            item.forget(self.queue.as_ptr());
        }
        // For those that have seen the queue in `StaticWork::run_now`.
        cpu::synchronize_all();
        for item in self.items {
            item.cancel();
        }
        // SAFETY: Nothing is on the queue or about to be put on it: only `items` have ever been, by
        // the type's invariant, and they have forgotten it and been cancelled. Nobody borrows it.
        unsafe { bindings::destroy_workqueue(self.queue.as_ptr()) };
    }
}

/// A function to be called later by a queue.
///
/// # Invariants
///
/// [`Self::init`] has been called before anything else, once; the value never moves afterwards.
/// `queue` is null or points to a queue that exists, and goes on to do so as long as preemption is
/// disabled.
pub(crate) struct StaticWork {
    inner: Opaque<bindings::delayed_work>,
    /// The queue where it was put last.
    queue: AtomicPtr<bindings::workqueue_struct>,
}

// SAFETY: Any thread may use a work item, which is changed atomically.
unsafe impl Sync for StaticWork {}

impl StaticWork {
    /// Makes space for one.
    ///
    /// # Safety
    ///
    /// [`Self::init`] must be called before any other method.
    pub(crate) const unsafe fn uninit() -> Self {
        Self {
            inner: Opaque::uninit(),
            queue: AtomicPtr::new(core::ptr::null_mut()),
        }
    }

    /// Sets the function, which may sleep.
    ///
    /// # Safety
    ///
    /// Must be called once only, before any other method.
    pub(crate) unsafe fn init<F: Work>(&'static self) {
        let work = self.inner.get();
        // SAFETY: The memory is static, and nobody uses it yet by the safety requirements.
        unsafe {
            bindings::init_work_with_key(
                &raw mut (*work).work,
                Some(run::<F>),
                false,
                c"livepatch_work".as_char_ptr(),
                kernel::static_lock_class!().as_ptr(),
            )
        };
        // SAFETY: Nobody uses the memory yet by the safety requirements; the timer belongs to a
        // `delayed_work` and only the workqueue code uses it.
        unsafe {
            bindings::timer_init_key(
                &raw mut (*work).timer,
                Some(bindings::delayed_work_timer_fn),
                bindings::TIMER_IRQSAFE,
                c"livepatch_timer".as_char_ptr(),
                kernel::static_lock_class!().as_ptr(),
            )
        };
    }

    /// Runs the function on `queue`, which must have been made for it, after `delay`, earlier or
    /// later than a previous call asked for. Any context but NMI.
    pub(crate) fn run_after(&'static self, queue: &OwnedQueue, delay: Jiffies) {
        let Some(queue) = queue.for_item(self) else {
            return;
        };
        // ORDERING: The queue was there before anybody could know of it.
        // INVARIANT: It is borrowed, and has the item forget it before it goes.
        self.queue.store(queue, Ordering::Relaxed);
        // SAFETY: The item is initialised, by the type's invariant, and the queue is borrowed.
        unsafe {
            bindings::mod_delayed_work_on(
                bindings::wq_misc_consts_WORK_CPU_UNBOUND as i32,
                queue,
                self.inner.get(),
                delay,
            )
        };
    }

    /// Runs the function on `queue`, which must have been made for it, after `delay`, or earlier if
    /// a previous call asked for that. Any context but NMI.
    pub(crate) fn run_within(&'static self, queue: &OwnedQueue, delay: Jiffies) {
        let Some(queue) = queue.for_item(self) else {
            return;
        };
        // ORDERING: The queue was there before anybody could know of it.
        // INVARIANT: It is borrowed, and has the item forget it before it goes.
        self.queue.store(queue, Ordering::Relaxed);
        // SAFETY: The item is initialised, by the type's invariant, and the queue is borrowed. It
        // does nothing if the item is waiting.
        unsafe {
            bindings::queue_delayed_work_on(
                bindings::wq_misc_consts_WORK_CPU_UNBOUND as i32,
                queue,
                self.inner.get(),
                delay,
            )
        };
    }

    /// Runs the function at once on the queue where it was put last, if that is still there. Any
    /// context but NMI; the locks of workqueues and timers are raw ones.
    pub(crate) fn run_now(&'static self) {
        let _preempt = PreemptGuard::new();
        // ORDERING: The queue was there before anybody could know of it.
        let queue = self.queue.load(Ordering::Relaxed);
        if queue.is_null() {
            return;
        }
        // SAFETY: The item is initialised, by the type's invariant; by that, the queue stays there
        // as long as preemption is disabled.
        unsafe {
            bindings::mod_delayed_work_on(
                bindings::wq_misc_consts_WORK_CPU_UNBOUND as i32,
                queue,
                self.inner.get(),
                0,
            )
        };
    }

    /// Has [`Self::run_now`] not use `queue` any more, which goes.
    fn forget(&'static self, queue: *mut bindings::workqueue_struct) {
        // ORDERING: Whoever has read the pointer is waited for.
        let _ = self.queue.compare_exchange(
            queue,
            core::ptr::null_mut(),
            Ordering::Relaxed,
            Ordering::Relaxed,
        );
    }

    /// Takes the item off its queue and waits until it does not run. Sleeps.
    fn cancel(&'static self) {
        // SAFETY: The item is initialised, by the type's invariant; the caller may sleep.
        unsafe { bindings::cancel_delayed_work_sync(self.inner.get()) };
    }
}

/// The function of a [`StaticWork`] or a [`StaticTrigger`](super::irq_work::StaticTrigger).
pub(crate) trait Work {
    /// Runs in process context and may sleep, or in an interrupt and must not.
    fn run();
}

/// Called by the workqueue.
///
/// # Safety
///
/// Any argument will do, since it is not looked at.
unsafe extern "C" fn run<F: Work>(_work: *mut bindings::work_struct) {
    F::run();
}
