// SPDX-License-Identifier: GPL-2.0

//! Warnings that are given once.
//!
//! C header: [`include/asm-generic/bug.h`](srctree/include/asm-generic/bug.h)

use crate::bindings;
use core::sync::atomic::{
    AtomicBool,
    Ordering, //
};
use kernel::prelude::*;

/// Warns of `what`, with a stack trace, unless `warned` says that it has been done. Any context.
///
/// For [`warn_once`], which has a `warned` of its own for each place.
#[cold]
pub(crate) fn warn_unless(warned: &AtomicBool, what: &'static CStr) {
    // ORDERING: Nothing depends on who is first.
    if !warned.swap(true, Ordering::Relaxed) {
        // SAFETY: The string is NUL-terminated and static.
        unsafe { bindings::livepatch_warn(what.as_char_ptr()) };
    }
}

/// `WARN_ONCE()`: warns of a C string literal, with a stack trace, once for each place. Any
/// context.
macro_rules! warn_once {
    ($what:literal) => {{
        static WARNED: ::core::sync::atomic::AtomicBool =
            ::core::sync::atomic::AtomicBool::new(false);
        $crate::kapi::warn::warn_unless(&WARNED, $what);
    }};
}
pub(crate) use warn_once;
