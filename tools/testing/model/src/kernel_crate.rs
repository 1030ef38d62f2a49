// SPDX-License-Identifier: GPL-2.0

//! What the files of the core use of the `kernel` crate.

/// The parameters of the module.
pub(crate) mod module_parameters {
    /// A parameter that has its default.
    pub(crate) struct Parameter;

    impl Parameter {
        /// Returns the value.
        pub(crate) fn value(&self) -> u32 {
            3600
        }
    }

    /// After how many seconds the log warns.
    #[allow(non_upper_case_globals)]
    pub(crate) static stall_warning: Parameter = Parameter;
}

pub mod prelude {
    //! `kernel::prelude`.

    pub use crate::{pr_notice, pr_warn};
    pub use std::ffi::CStr;

    /// A box.
    pub type KBox<T> = Box<T>;
}

/// Prints what nobody reads.
#[macro_export]
macro_rules! pr_notice {
    ($format:literal $(, $argument:expr)* $(,)?) => {{ $(let _ = &$argument;)* }};
}

/// Prints what nobody reads.
#[macro_export]
macro_rules! pr_warn {
    ($format:literal $(, $argument:expr)* $(,)?) => {{ $(let _ = &$argument;)* }};
}

/// Returns the task that runs on this CPU.
#[macro_export]
macro_rules! current {
    () => {
        $crate::task::current()
    };
}

pub mod cpu {
    //! `kernel::cpu`.

    /// Returns how many numbers of CPUs there are.
    pub fn nr_cpu_ids() -> u32 {
        crate::machine::machine().cpu_count()
    }
}

pub mod ffi {
    //! `kernel::ffi`.

    pub use std::ffi::{c_int, c_void};
}

pub mod str {
    //! `kernel::str`.

    pub use std::ffi::CString;
}

pub mod task {
    //! `kernel::task`.

    use crate::bindings::task_struct;
    use std::cell::UnsafeCell;

    /// The number of a task.
    pub type Pid = i32;

    /// A task.
    #[repr(transparent)]
    pub struct Task(UnsafeCell<task_struct>);

    impl Task {
        /// Makes one.
        pub(crate) fn new(inner: task_struct) -> Self {
            Self(UnsafeCell::new(inner))
        }

        /// Returns C's view of it.
        pub fn as_ptr(&self) -> *mut task_struct {
            self.0.get()
        }

        /// Returns its number.
        pub fn pid(&self) -> Pid {
            self.inner().pid
        }

        /// The model's view of it.
        pub(crate) fn inner(&self) -> &task_struct {
            // SAFETY: All that changes in it can be changed through shared references.
            unsafe { &*self.as_ptr() }
        }
    }

    impl PartialEq for Task {
        fn eq(&self, other: &Self) -> bool {
            std::ptr::eq(self, other)
        }
    }

    /// Returns the task that runs on this CPU.
    pub fn current() -> &'static Task {
        crate::machine::machine().current()
    }
}

pub mod time {
    //! `kernel::time`, in which no time passes.

    use std::marker::PhantomData;

    /// A clock.
    #[derive(Clone, Copy)]
    pub struct Monotonic;

    /// A point in time.
    #[derive(Clone, Copy)]
    pub struct Instant<C>(PhantomData<C>);

    /// The time between two points.
    pub struct Delta;

    impl<C> Instant<C> {
        /// The present.
        pub fn now() -> Self {
            Self(PhantomData)
        }

        /// The time since then.
        pub fn elapsed(&self) -> Delta {
            Delta
        }
    }

    impl Delta {
        /// In milliseconds.
        pub fn as_millis(&self) -> i64 {
            0
        }
    }
}

pub mod types {
    //! `kernel::types`.

    use std::marker::PhantomData;

    /// Keeps what has it in its thread.
    pub type NotThreadSafe = PhantomData<*mut ()>;

    /// The only value.
    #[allow(non_upper_case_globals)]
    pub const NotThreadSafe: NotThreadSafe = PhantomData;
}
