// SPDX-License-Identifier: GPL-2.0

//! Finding the symbols that a patch names.
//!
//! Process context; sleeps.

use crate::{
    kapi::{
        kallsyms,
        module::ModulePtr, //
    },
    pure::{
        sizes::{
            Place,
            Sizes, //
        },
        sympos::{
            LookupError,
            Search,
            Wanted, //
        }, //
    },
};
use kernel::{
    prelude::*,
    str::BStr, //
};

/// Looks for symbols in `object`, a module, or in vmlinux; [`Wanted::result`] tells what came of
/// it.
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
        kallsyms::for_each_in_module(object, |name, address| {
            search.visit(name.to_bytes(), address)
        });
        search.end();
    } else {
        for wanted in wanted {
            let name = terminated(&mut buffer, wanted.name())?;
            kallsyms::for_each_in_vmlinux(name, |address| wanted.visit(address));
        }
    }
    Ok(())
}

/// The sizes of the code at `addresses`, in bytes; `None` where no symbol tells.
///
/// Of those in `module`, all are found in one pass over its symbols; of others, each on its own.
///
/// # Errors
///
/// `ENOMEM`.
pub(crate) fn sizes_at(
    module: Option<ModulePtr>,
    addresses: impl ExactSizeIterator<Item = usize>,
) -> Result<KVVec<Option<usize>>> {
    let mut sizes = KVVec::with_capacity(addresses.len(), GFP_KERNEL)?;
    let mut places = KVVec::new();
    for (order, address) in addresses.enumerate() {
        if let Some(memory) = module.and_then(|module| module.memory_around(address)) {
            places.push(Place::new(address, memory, order), GFP_KERNEL)?;
            sizes.push(None, GFP_KERNEL)?;
        } else {
            sizes.push(kallsyms::size_at(address), GFP_KERNEL)?;
        }
    }
    if let Some(module) = module.filter(|_| !places.is_empty()) {
        let mut search = Sizes::new(&mut places);
        kallsyms::for_each_in_module(module.name(), |name, address| {
            search.visit(name.to_bytes(), address);
        });
        search.end();
    }
    for place in &places {
        if let Some(size) = sizes.get_mut(place.order()) {
            *size = place.size();
        }
    }
    Ok(sizes)
}

/// A C string of `bytes`, in `buffer`.
fn terminated<'b>(buffer: &'b mut KVec<u8>, bytes: &[u8]) -> Result<&'b CStr> {
    buffer.clear();
    buffer.extend_from_slice(bytes, GFP_KERNEL)?;
    buffer.push(0, GFP_KERNEL)?;
    CStr::from_bytes_with_nul(buffer).map_err(|_| EINVAL)
}

/// Says why there is no symbol `name` at `position`, and gives the error that this means.
pub(crate) fn report(
    miss: LookupError,
    object: Option<&[u8]>,
    name: &[u8],
    position: usize,
) -> Error {
    let name = BStr::from_bytes(name);
    match miss {
        LookupError::NotFound => pr_err!("symbol '{}' not found in symbol table\n", name),
        // For vmlinux the C core prints a null pointer here, and tools know the line.
        LookupError::Ambiguous => pr_err!(
            "unresolvable ambiguity for symbol '{}' in object '{}'\n",
            name,
            BStr::from_bytes(object.unwrap_or(b"(null)"))
        ),
        LookupError::NoSuchPosition => pr_err!(
            "symbol position {} for symbol '{}' in object '{}' not found\n",
            position,
            name,
            BStr::from_bytes(object.unwrap_or(b"vmlinux"))
        ),
    }
    EINVAL
}
