// SPDX-License-Identifier: GPL-2.0

//! The second version of the state of `livepatch-rust-state1.rs`.

use super::level1::{level, Level1};
use core::sync::atomic::Ordering;
use kernel::{
    ffi::{c_int, c_uint},
    prelude::*, //
};
use klp::State;

/// All messages go to the console, and those that do not say how urgent they are are not.
#[repr(C)]
pub(crate) struct Level2 {
    /// What the first version has kept.
    pub(crate) first: Level1,
    /// What such messages were before.
    default: c_int,
}

// SAFETY: Only the versions of this patch use the identifier, and this version with this type, of
// numbers in C's layout. All of them replace all other patches, and have no shadow variables.
unsafe impl State for Level2 {
    const ID: usize = Level1::ID;
    const VERSION: c_uint = 2;
    type Older = Level1;

    fn create() -> Result<Self> {
        Self::take_over(&Level1::create()?)
    }

    fn take_over(older: &Level1) -> Result<Self> {
        Ok(Self {
            first: Level1 {
                console: older.console,
            },
            default: level::<1>().load(Ordering::Relaxed),
        })
    }

    fn apply(&self) {
        self.first.apply();
        level::<1>().store(7, Ordering::Relaxed);
    }

    fn revert(&self) {
        level::<1>().store(self.default, Ordering::Relaxed);
        self.first.revert();
    }
}
