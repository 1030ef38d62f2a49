// SPDX-License-Identifier: GPL-2.0

//! The transition and the handler under loom, compiled from the very same files.
//!
//! The files of the core name three things that are not theirs: `core`, `kernel` and `bindings`.
//! Here this crate is all of them. Its atomic types are loom's, with the orderings that the core
//! asks for; [`bindings`] is a small kernel of CPUs that are threads, tasks, locks and barriers;
//! the rest is as little as the files need. What stands for the patch, the stack check and the
//! functions is in [`patch`], and what checks the consistency of it all in [`machine`].
//!
//! Loom tries all ways in which threads can interleave, up to a number of preemptions, and all
//! values that a load may give in the memory model of C11. [`bindings`] says how what C11 does not
//! have is modelled, and why that is right.

#![cfg(test)]
// Not everything that the core has is used here.
#![allow(dead_code, unused_macros)]

extern crate self as core;
extern crate self as kernel;

// What `core` has, other than the atomic types.
pub use std::{
    any, array, borrow, cell, clone, cmp, convert, default, fmt, hash, iter, marker, mem, num,
    option, panic, ptr, result, slice,
};

/// What `core` has of that name, and the core.
pub mod ops {
    pub(crate) use crate::patch::Ops;
    pub use std::ops::*;
}

mod bindings;
mod kernel_crate;
mod machine;
mod patch;
pub mod sync;
mod tests;

use kernel_crate::module_parameters;
pub use kernel_crate::{cpu, ffi, prelude, str, task, time, types};
use patch::{object, stack, state, trace};

#[path = "../../../../rust/livepatch/handler.rs"]
mod handler;
#[path = "../../../../rust/livepatch/obstacle.rs"]
mod obstacle;
#[allow(unused_imports)]
#[path = "../../../../rust/livepatch/transition.rs"]
mod transition;

#[path = "../../../../rust/livepatch/kapi"]
mod kapi {
    pub(crate) mod cpu;
    pub(crate) mod looks;
    pub(crate) mod published;
    pub(crate) mod stacktrace;
    pub(crate) mod task;

    pub(crate) use crate::patch::{irq_work, warn, workqueue};
}

#[path = "../../../../rust/livepatch/klp"]
mod klp {
    pub(crate) mod patch_state;

    pub(crate) use crate::patch::tracepoint;
}

#[path = "../../../../rust/livepatch/pure"]
mod pure {
    pub(crate) mod backoff;
    pub(crate) mod patch_state;
    pub(crate) mod stall;
    pub(crate) mod table;

    /// The walk, in pieces of one task.
    pub(crate) mod walk {
        include!(concat!(env!("OUT_DIR"), "/walk.rs"));
    }
}
