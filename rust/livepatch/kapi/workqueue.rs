// SPDX-License-Identifier: GPL-2.0

//! A queue of one's own, and work that lives in a static.
//!
//! The `kernel` crate's work items are owned by the queue while they wait; the core wants items
//! that can be brought forward, and that are certainly over when the module goes.
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
//! let queue = OwnedQueue::new(c"example")?;
//! HELLO.run_after(&queue, msecs_to_jiffies(1000));
//! // Not that late.
//! HELLO.run_now();
//! HELLO.cancel();
//! drop(queue);
//! ```

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
pub(crate) struct OwnedQueue(NonNull<bindings::workqueue_struct>);

// SAFETY: A queue is not bound to a thread.
unsafe impl Send for OwnedQueue {}
// SAFETY: Any thread may put work on a queue, which has a lock of its own.
unsafe impl Sync for OwnedQueue {}

impl OwnedQueue {
    /// Makes a queue called `name`, whose work goes before that of busy tasks of an ordinary
    /// priority.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(name: &CStr) -> Result<Self> {
        // SAFETY: The format takes one string; 0 is the default for the number of items at a time.
        let queue = unsafe {
            bindings::alloc_workqueue_noprof(
                c"%s".as_char_ptr(),
                bindings::wq_flags_WQ_UNBOUND | bindings::wq_flags_WQ_HIGHPRI,
                0,
                name.as_char_ptr(),
            )
        };
        NonNull::new(queue).map(Self).ok_or(ENOMEM)
    }
}

impl Drop for OwnedQueue {
    fn drop(&mut self) {
        // SAFETY: Nobody else has the queue. Waits for what is queued and running; delayed items
        // must have been cancelled.
        unsafe { bindings::destroy_workqueue(self.0.as_ptr()) };
    }
}

/// A function to be called later by a queue.
///
/// # Invariants
///
/// [`Self::init`] has been called before anything else, once; the value never moves afterwards.
pub(crate) struct StaticWork {
    inner: Opaque<bindings::delayed_work>,
    /// The queue where it was put last; null if that may not exist any more.
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

    /// Runs the function on `queue` after `delay`, earlier or later than a previous call asked for.
    /// Any context but NMI.
    pub(crate) fn run_after(&'static self, queue: &OwnedQueue, delay: Jiffies) {
        // ORDERING: The queue was there before anybody could know of it.
        self.queue.store(queue.0.as_ptr(), Ordering::Relaxed);
        // SAFETY: The item is initialised, by the type's invariant, and the queue is borrowed.
        unsafe {
            bindings::mod_delayed_work_on(
                bindings::wq_misc_consts_WORK_CPU_UNBOUND as i32,
                queue.0.as_ptr(),
                self.inner.get(),
                delay,
            )
        };
    }

    /// Runs the function on `queue` after `delay`, or earlier if a previous call asked for that.
    /// Any context but NMI.
    pub(crate) fn run_within(&'static self, queue: &OwnedQueue, delay: Jiffies) {
        // ORDERING: The queue was there before anybody could know of it.
        self.queue.store(queue.0.as_ptr(), Ordering::Relaxed);
        // SAFETY: The item is initialised, by the type's invariant, and the queue is borrowed. It
        // does nothing if the item is waiting.
        unsafe {
            bindings::queue_delayed_work_on(
                bindings::wq_misc_consts_WORK_CPU_UNBOUND as i32,
                queue.0.as_ptr(),
                self.inner.get(),
                delay,
            )
        };
    }

    /// Runs the function at once on the queue where it was put last, if any. Any context but NMI;
    /// the locks of workqueues and timers are raw ones.
    pub(crate) fn run_now(&'static self) {
        let queue = self.queue.load(Ordering::Relaxed);
        if queue.is_null() {
            return;
        }
        // SAFETY: The item is initialised, by the type's invariant; the queue is still there, since
        // `cancel` comes before it goes, and then nobody calls this any more.
        unsafe {
            bindings::mod_delayed_work_on(
                bindings::wq_misc_consts_WORK_CPU_UNBOUND as i32,
                queue,
                self.inner.get(),
                0,
            )
        };
    }

    /// Takes the item off its queue and waits until it does not run. Sleeps.
    ///
    /// Nobody may use the item at the same time.
    pub(crate) fn cancel(&'static self) {
        self.queue.store(core::ptr::null_mut(), Ordering::Relaxed);
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
