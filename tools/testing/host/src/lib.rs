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
