// SPDX-License-Identifier: GPL-2.0

//! Warnings that are given once.
//!
//! C header: [`include/asm-generic/bug.h`](srctree/include/asm-generic/bug.h)

use crate::bindings;
use kernel::prelude::*;

/// `WARN_ONCE()`: the message once for all callers together, with a stack trace. Any context.
#[cold]
pub(crate) fn warn_once(what: &'static CStr) {
    // SAFETY: the string is NUL-terminated and static.
    unsafe { bindings::livepatch_warn_once(what.as_char_ptr()) };
}
