// SPDX-License-Identifier: GPL-2.0

//! Counts what the core has allocated, so that a leak is seen at the latest when the module goes.
//!
//! Directories in sysfs are not counted: unloading waits for them anyway
//! ([`crate::kapi::in_flight`]).

use core::marker::PhantomData;
use kernel::{
    prelude::*,
    sync::atomic::{
        Atomic,
        Relaxed, //
    },
};

/// Something that is counted.
pub(crate) trait Kind {
    /// The name of several of them in messages.
    const NAME: &'static str;

    /// Returns how many there are.
    fn count() -> &'static Atomic<usize>;
}

macro_rules! kinds {
    ($($kind:ident: $name:literal;)+) => {
        $(
            #[doc = concat!("Counts ", $name, ".")]
            pub(crate) struct $kind;

            impl Kind for $kind {
                const NAME: &'static str = $name;

                fn count() -> &'static Atomic<usize> {
                    static COUNT: Atomic<usize> = Atomic::new(0);
                    &COUNT
                }
            }
        )+

        /// Calls `f` with the name and number of each kind.
        fn for_each(mut f: impl FnMut(&'static str, usize)) {
            // ORDERING: Whoever counted has been waited for.
            $(f($kind::NAME, $kind::count().load(Relaxed));)+
        }
    };
}

kinds! {
    Patches: "patches";
    Objects: "objects";
    Functions: "functions";
    Hooks: "hooks";
    StackChecks: "stack checks";
    StateLists: "state lists";
}

/// Part of a value that is counted while it exists. Takes no space.
pub(crate) struct Counted<K: Kind>(PhantomData<K>);

impl<K: Kind> Counted<K> {
    /// Counts one more of the kind.
    pub(crate) fn new() -> Self {
        // ORDERING: Only the sum at the end matters.
        K::count().fetch_add(1, Relaxed);
        Self(PhantomData)
    }
}

impl<K: Kind> Drop for Counted<K> {
    fn drop(&mut self) {
        // ORDERING: Only the sum at the end matters.
        K::count().fetch_add(usize::MAX, Relaxed);
    }
}

/// Complains, when dropped, of anything that is left: to be dropped last.
pub(crate) struct LeakCheck;

impl Drop for LeakCheck {
    fn drop(&mut self) {
        for_each(|name, count| {
            if kernel::warn_on!(count != 0) {
                pr_err!("{} {} left\n", count, name);
            }
        });
    }
}
