// SPDX-License-Identifier: GPL-2.0

//! Finding the symbols that a patch names.
//!
//! Process context; sleeps.

#![deny(unsafe_code)]

use crate::{
    kapi::kallsyms,
    position::{
        Miss,
        Search,
        Wanted, //
    },
};
use kernel::{
    prelude::*,
    str::BStr, //
};

/// Looks for symbols in `object`, a module, or in vmlinux; [`Wanted::result`] tells what came of it.
///
/// In a module, all are found in one pass over its symbols; in vmlinux, each by a binary search.
///
/// # Errors
///
/// `ENOMEM`.
#[doc(alias = "klp_find_object_symbol")]
pub(crate) fn find_all(object: Option<&[u8]>, wanted: &mut [Wanted<'_>]) -> Result {
    let mut buffer = KVec::new();
    if let Some(object) = object {
        let object = terminated(&mut buffer, object)?;
        let mut search = Search::new(wanted);
        kallsyms::for_each_in_module(object, |name, address| search.saw(name.to_bytes(), address));
        search.end();
    } else {
        for wanted in wanted {
            let name = terminated(&mut buffer, wanted.name())?;
            kallsyms::for_each_in_vmlinux(name, |address| wanted.saw(address));
        }
    }
    Ok(())
}

/// A C string of `bytes`, in `buffer`.
fn terminated<'b>(buffer: &'b mut KVec<u8>, bytes: &[u8]) -> Result<&'b CStr> {
    buffer.clear();
    buffer.extend_from_slice(bytes, GFP_KERNEL)?;
    buffer.push(0, GFP_KERNEL)?;
    CStr::from_bytes_with_nul(buffer).map_err(|_| EINVAL)
}

/// Says why there is no symbol `name` at `position`, and gives the error that this means.
pub(crate) fn report(miss: Miss, object: Option<&[u8]>, name: &[u8], position: usize) -> Error {
    let name = BStr::from_bytes(name);
    match miss {
        Miss::NotFound => pr_err!("symbol '{}' not found in symbol table\n", name),
        // For vmlinux the C core prints a null pointer here, and tools know the line.
        Miss::Ambiguous => pr_err!(
            "unresolvable ambiguity for symbol '{}' in object '{}'\n",
            name,
            BStr::from_bytes(object.unwrap_or(b"(null)"))
        ),
        Miss::NoSuchPosition => pr_err!(
            "symbol position {} for symbol '{}' in object '{}' not found\n",
            position,
            name,
            BStr::from_bytes(object.unwrap_or(b"vmlinux"))
        ),
    }
    EINVAL
}
