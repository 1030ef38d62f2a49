// SPDX-License-Identifier: GPL-2.0

//! Bindings to what `kernel::bindings` leaves out: the `klp_*` types and functions, and this
//! module's own C helpers.
//!
//! Everything else is re-exported from `kernel::bindings`, so that the types are the same ones.
//! Only [`crate::kapi`], [`crate::klp`], [`crate::abi`], [`crate::handler`] and
//! [`crate::takeover`] may use this module.

#![allow(
    clippy::all,
    clippy::ptr_as_ptr,
    clippy::ref_as_ptr,
    clippy::undocumented_unsafe_blocks,
    dead_code,
    improper_ctypes,
    missing_docs,
    non_camel_case_types,
    non_upper_case_globals,
    unreachable_pub,
    unsafe_op_in_unsafe_fn
)]

use kernel::ffi;
use pin_init::MaybeZeroable;

pub use kernel::bindings::*;

include!("bindings_generated.rs");
