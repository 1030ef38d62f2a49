// SPDX-License-Identifier: GPL-2.0

//! Finding the functions that a patch names.
//!
//! Process context; sleeps.

#![deny(unsafe_code)]

use crate::{
    kapi::kallsyms,
    position::{
        Matcher,
        Miss, //
    },
};
use core::ops::ControlFlow;
use kernel::prelude::*;

/// Returns the address of the symbol `name` in `object`, a module, or in vmlinux.
///
/// `position` says which one if there are several; 0 if there must be only one.
///
/// # Errors
///
/// `EINVAL` after a message if there is no such symbol, or which one is meant is not clear.
#[doc(alias = "klp_find_object_symbol")]
pub(crate) fn find(object: Option<&CStr>, name: &CStr, position: usize) -> Result<usize> {
    let mut matcher = Matcher::new(position);
    match object {
        Some(object) => kallsyms::for_each_in_module(object, |symbol, address| {
            if symbol == name {
                matcher.saw(address)
            } else {
                ControlFlow::Continue(())
            }
        }),
        None => kallsyms::for_each_in_vmlinux(name, |address| matcher.saw(address)),
    }
    matcher.result().map_err(|miss| {
        match miss {
            Miss::NotFound => pr_err!("symbol '{}' not found in symbol table\n", name),
            // For vmlinux the C core prints a null pointer here, and tools know the line.
            Miss::Ambiguous => pr_err!(
                "unresolvable ambiguity for symbol '{}' in object '{}'\n",
                name,
                object.unwrap_or(c"(null)")
            ),
            Miss::NoSuchPosition => pr_err!(
                "symbol position {} for symbol '{}' in object '{}' not found\n",
                position,
                name,
                object.unwrap_or(c"vmlinux")
            ),
        }
        EINVAL
    })
}
