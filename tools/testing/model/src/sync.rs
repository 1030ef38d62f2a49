// SPDX-License-Identifier: GPL-2.0

//! `core::sync` and `kernel::sync`.

pub use std::sync::Arc;

pub mod aref {
    //! References that keep what they refer to.

    use std::{ops::Deref, ptr::NonNull};

    /// A reference to something that stays until the end of the model anyway.
    #[derive(Debug, PartialEq, Eq)]
    pub struct ARef<T>(NonNull<T>);

    impl<T> ARef<T> {
        /// Takes a reference over.
        ///
        /// # Safety
        ///
        /// What it points to lives until the end of the model.
        pub unsafe fn from_raw(pointer: NonNull<T>) -> Self {
            Self(pointer)
        }
    }

    impl<T> From<&T> for ARef<T> {
        fn from(reference: &T) -> Self {
            Self(NonNull::from(reference))
        }
    }

    impl<T> Deref for ARef<T> {
        type Target = T;

        fn deref(&self) -> &T {
            // SAFETY: Tasks, of which alone there are such references, live until the end.
            unsafe { self.0.as_ref() }
        }
    }
}

pub mod atomic {
    //! Loom's atomic types, as `core` and the `kernel` crate call them.
    //!
    //! Loom's are made anew for each execution of a model, and cannot be in a static. These can:
    //! each makes its own when it is used first in an execution. That must be before there is a
    //! second thread, and loom complains if it is not.

    use loom::sync::atomic as loom_atomic;
    pub use std::sync::atomic::Ordering;
    use std::{
        cell::{Cell, UnsafeCell},
        fmt,
    };

    thread_local! {
        /// The number of this execution, of all that there ever were. All threads of an execution
        /// are one thread of the host.
        static EXECUTION: Cell<u64> = const { Cell::new(0) };
        /// Whether the counters of the core take part, or are plain numbers.
        static WITH_COUNTERS: Cell<bool> = const { Cell::new(false) };
    }

    /// Begins an execution.
    pub(crate) fn begin(with_counters: bool) {
        static EXECUTIONS: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        EXECUTION.set(EXECUTIONS.fetch_add(1, Ordering::Relaxed) + 1);
        WITH_COUNTERS.set(with_counters);
    }

    /// A value of loom's that is made when it is needed.
    struct PerExecution<V, A> {
        initial: V,
        made: UnsafeCell<Option<(u64, A)>>,
    }

    impl<V: Copy, A> PerExecution<V, A> {
        const fn new(initial: V) -> Self {
            Self {
                initial,
                made: UnsafeCell::new(None),
            }
        }

        /// The one of this execution.
        fn get(&self, make: fn(V) -> A) -> &A {
            let now = EXECUTION.get();
            let made = self.made.get();
            // SAFETY: All threads of a model are one of the host, and nothing here lets another
            // one of them run; models run one at a time.
            let current = unsafe { &*made };
            if current
                .as_ref()
                .is_none_or(|(execution, _)| *execution != now)
            {
                let new = Some((now, make(self.initial)));
                // SAFETY: As above; references are to the present execution's, which is made once.
                unsafe { *made = new };
            }
            // SAFETY: As above.
            let current = unsafe { &*made };
            &current.as_ref().expect("just made").1
        }
    }

    // SAFETY: Everything that uses it runs in one thread of the host.
    unsafe impl<V, A> Sync for PerExecution<V, A> {}
    // SAFETY: Everything that uses it runs in one thread of the host.
    unsafe impl<V, A> Send for PerExecution<V, A> {}

    macro_rules! atomic {
        ($name:ident $(<$param:ident>)?, $value:ty, $loom:ty) => {
            /// As in `core`.
            pub struct $name $(<$param>)? (PerExecution<$value, $loom>);

            impl $(<$param>)? $name $(<$param>)? {
                /// As in `core`.
                pub const fn new(value: $value) -> Self {
                    Self(PerExecution::new(value))
                }

                fn of(&self) -> &$loom {
                    self.0.get(<$loom>::new)
                }

                /// As in `core`.
                pub fn load(&self, ordering: Ordering) -> $value {
                    self.of().load(ordering)
                }

                /// As in `core`.
                pub fn store(&self, value: $value, ordering: Ordering) {
                    self.of().store(value, ordering);
                }

                /// As in `core`.
                pub fn swap(&self, value: $value, ordering: Ordering) -> $value {
                    self.of().swap(value, ordering)
                }

                /// As in `core`, of a field that is of this type already.
                ///
                /// # Safety
                ///
                /// It must be valid for `'a`.
                pub unsafe fn from_ptr<'a>(place: *mut Self) -> &'a Self {
                    // SAFETY: By the safety requirements.
                    unsafe { &*place }
                }
            }

            impl $(<$param>)? fmt::Debug for $name $(<$param>)? {
                fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str(stringify!($name))
                }
            }
        };
    }
    atomic!(AtomicBool, bool, loom_atomic::AtomicBool);
    atomic!(AtomicI32, i32, loom_atomic::AtomicI32);
    atomic!(AtomicUsize, usize, loom_atomic::AtomicUsize);
    atomic!(AtomicPtr<T>, *mut T, loom_atomic::AtomicPtr<T>);

    /// The names that the `kernel` crate has for orderings.
    pub trait AsOrdering {
        /// The ordering, and whether it is a full barrier.
        const ORDERING: (Ordering, bool);
    }

    macro_rules! orderings {
        ($($name:ident $ordering:ident $full:literal,)*) => { $(
            /// As in the `kernel` crate.
            pub struct $name;

            impl AsOrdering for $name {
                const ORDERING: (Ordering, bool) = (Ordering::$ordering, $full);
            }
        )* };
    }
    orderings! {
        Relaxed Relaxed false,
        Acquire Acquire false,
        Release Release false,
        Full AcqRel true,
    }

    /// A number as the `kernel` crate keeps it.
    pub struct Atomic<T: Number>(PerExecution<T, T::Made>);

    /// What an [`Atomic`] can hold.
    pub trait Number: Copy + 'static {
        /// Loom's, or a plain one for a counter that does not take part.
        type Made;
        /// Makes one.
        fn make(initial: Self) -> Self::Made;
        /// Reads it.
        fn load(made: &Self::Made, ordering: Ordering) -> Self;
        /// Writes it.
        fn store(made: &Self::Made, value: Self, ordering: Ordering);
        /// Writes it and returns what it was.
        fn swap(made: &Self::Made, value: Self, ordering: Ordering) -> Self;
    }

    macro_rules! number {
        ($type:ty, $loom:ident) => {
            impl Number for $type {
                type Made = loom_atomic::$loom;
                fn make(initial: Self) -> Self::Made {
                    loom_atomic::$loom::new(initial)
                }
                fn load(made: &Self::Made, ordering: Ordering) -> Self {
                    made.load(ordering)
                }
                fn store(made: &Self::Made, value: Self, ordering: Ordering) {
                    made.store(value, ordering);
                }
                fn swap(made: &Self::Made, value: Self, ordering: Ordering) -> Self {
                    made.swap(value, ordering)
                }
            }
        };
    }
    number!(u64, AtomicU64);
    number!(i32, AtomicI32);

    impl Number for usize {
        type Made = Result<loom_atomic::AtomicUsize, Cell<usize>>;

        fn make(initial: Self) -> Self::Made {
            if WITH_COUNTERS.get() {
                Ok(loom_atomic::AtomicUsize::new(initial))
            } else {
                Err(Cell::new(initial))
            }
        }

        fn load(made: &Self::Made, ordering: Ordering) -> Self {
            match made {
                Ok(made) => made.load(ordering),
                Err(plain) => plain.get(),
            }
        }

        fn store(made: &Self::Made, value: Self, ordering: Ordering) {
            match made {
                Ok(made) => made.store(value, ordering),
                Err(plain) => plain.set(value),
            }
        }

        fn swap(made: &Self::Made, value: Self, ordering: Ordering) -> Self {
            match made {
                Ok(made) => made.swap(value, ordering),
                Err(plain) => plain.replace(value),
            }
        }
    }

    impl<T: Number> Atomic<T> {
        /// As in the `kernel` crate.
        pub const fn new(value: T) -> Self {
            Self(PerExecution::new(value))
        }

        fn of(&self) -> &T::Made {
            self.0.get(T::make)
        }

        /// As in the `kernel` crate.
        pub fn load<O: AsOrdering>(&self, _: O) -> T {
            T::load(self.of(), O::ORDERING.0)
        }

        /// As in the `kernel` crate.
        pub fn store<O: AsOrdering>(&self, value: T, _: O) {
            T::store(self.of(), value, O::ORDERING.0);
        }

        /// As in the `kernel` crate.
        pub fn xchg<O: AsOrdering>(&self, value: T, _: O) -> T {
            fully::<O, _>(|ordering| T::swap(self.of(), value, ordering))
        }
    }

    impl Atomic<usize> {
        /// As in the `kernel` crate.
        pub fn fetch_add<O: AsOrdering>(&self, value: usize, _: O) -> usize {
            fully::<O, _>(|ordering| match self.of() {
                Ok(made) => made.fetch_add(value, ordering),
                Err(plain) => plain.replace(plain.get().wrapping_add(value)),
            })
        }
    }

    /// Calls `f` with a full barrier before and after, if that is the ordering.
    fn fully<O: AsOrdering, R>(f: impl FnOnce(Ordering) -> R) -> R {
        let (ordering, full) = O::ORDERING;
        if full {
            loom_atomic::fence(Ordering::SeqCst);
        }
        let result = f(ordering);
        if full {
            loom_atomic::fence(Ordering::SeqCst);
        }
        result
    }
}
