// SPDX-License-Identifier: GPL-2.0

//! The first version of the state of `livepatch-rust-state1.rs`.

use core::sync::atomic::{AtomicI32, Ordering};
use kernel::{
    bindings,
    ffi::{c_int, c_uint},
    prelude::*, //
};

/// An entry of `console_printk`, the levels that `/proc/sys/kernel/printk` shows.
pub(crate) fn level<const INDEX: usize>() -> &'static AtomicI32 {
    const { assert!(INDEX < 4) };
    // SAFETY: The kernel's array has four entries.
    let level = unsafe {
        (&raw mut bindings::console_printk)
            .cast::<c_int>()
            .add(INDEX)
    };
    // SAFETY: It is an aligned integer in static memory.
    unsafe { AtomicI32::from_ptr(level) }
}

/// All messages go to the console.
#[repr(C)]
pub(crate) struct Level1 {
    /// What did before.
    pub(crate) console: c_int,
}

// SAFETY: Only the versions of this patch use the identifier, and this version with this type, of
// a number in C's layout. All of them replace all other patches, and have no shadow variables.
unsafe impl klp::State for Level1 {
    const ID: usize = 1;
    const VERSION: c_uint = 1;
    type Older = klp::Never;

    fn create() -> Result<Self> {
        Ok(Self {
            console: level::<0>().load(Ordering::Relaxed),
        })
    }

    fn take_over(older: &klp::Never) -> Result<Self> {
        match *older {}
    }

    fn apply(&self) {
        level::<0>().store(15, Ordering::Relaxed);
    }

    fn revert(&self) {
        level::<0>().store(self.console, Ordering::Relaxed);
    }
}
