// SPDX-License-Identifier: GPL-2.0

//! Safe wrappers over livepatch's own C types: what patch modules describe, what the built-in core
//! keeps, the core's tracepoints.
//!
//! They know the layout and who may touch what when, not what a patch is for; that is for the
//! modules above.

pub(crate) mod builtin;
pub(crate) mod descriptor;
pub(crate) mod elf;
pub(crate) mod module;
pub(crate) mod patch_state;
pub(crate) mod shadow;
pub(crate) mod tracepoint;
