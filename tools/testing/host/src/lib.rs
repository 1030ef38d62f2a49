// SPDX-License-Identifier: GPL-2.0

//! Tests of those parts of the livepatch core that do not need the kernel, compiled from the very same files.

#![cfg(test)]
// Not everything that the core uses is tested here.
#![allow(dead_code)]

#[path = "../../../../rust/livepatch/pure"]
mod pure {
    pub(crate) mod backoff;
    pub(crate) mod escape;
    pub(crate) mod names;
    pub(crate) mod patch_state;
    pub(crate) mod ranges;
    pub(crate) mod sizes;
    pub(crate) mod sort;
    pub(crate) mod stall;
    pub(crate) mod sympos;
    pub(crate) mod table;
    pub(crate) mod walk;
}

// The files below name things that are not theirs; see `kernel_crate`.
extern crate self as kernel;
pub use kernel_crate::{error, ffi, prelude, str};

mod bindings;
mod kernel_crate;

mod kapi {
    pub(crate) use crate::bindings::module;
}

#[path = "../../../../rust/livepatch/klp"]
mod klp {
    pub(crate) mod elf;

    pub(crate) use crate::bindings::loaded as module;
}

mod lock {
    /// Evidence that a lock is held which is not needed here.
    pub(crate) struct LockHeld;
}

#[path = "../../../../rust/livepatch/reloc.rs"]
mod reloc;

mod symbols {
    pub(crate) use crate::bindings::{find_all, report};
}

mod backoff_tests;
mod escape_tests;
mod fuzz;
mod names_tests;
mod ranges_tests;
mod sizes_tests;
mod sort_tests;
mod stall_tests;
mod sympos_tests;
mod table_tests;
mod walk_tests;
