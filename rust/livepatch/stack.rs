// SPDX-License-Identifier: GPL-2.0

//! What a task must not have on its stack when it switches.
//!
//! A list is made when a transition starts, and again when a module comes or goes meanwhile. It is read under the
//! scheduler's locks, so it is complete before any task is asked to switch, and its memory was allocated with the
//! patch: disabling a patch must not fail for want of memory.

#![deny(unsafe_code)]

use crate::{
    account::{
        self,
        Counted, //
    },
    kapi::published::Published,
    ranges::{
        self,
        Range, //
    },
};
use kernel::{
    prelude::*,
    str::CString,
    sync::Arc, //
};

/// What tasks are checked against; nothing while there is no transition.
pub(crate) static FORBIDDEN: Published<Forbidden> = Published::new();

/// A set of functions by their code.
pub(crate) struct Forbidden {
    ranges: KVec<Range<usize>>,
    names: KVec<Arc<CString>>,
    _counted: Counted<account::StackLists>,
}

impl Forbidden {
    /// Space for `functions` entries.
    pub(crate) fn with_capacity(functions: usize) -> Result<KBox<Self>> {
        Ok(KBox::new(
            Self {
                ranges: KVec::with_capacity(functions, GFP_KERNEL)?,
                names: KVec::with_capacity(functions, GFP_KERNEL)?,
                _counted: Counted::new(),
            },
            GFP_KERNEL,
        )?)
    }

    /// Replaces the contents by functions in the order of the patch: address and size of the code, name.
    pub(crate) fn fill(&mut self, functions: impl Iterator<Item = (usize, usize, Arc<CString>)>) {
        self.ranges.clear();
        self.names.clear();
        for (order, (address, size, name)) in functions.enumerate() {
            let range = Range::new(address, size, order, order);
            let fits = self.ranges.push_within_capacity(range).is_ok()
                && self.names.push_within_capacity(name).is_ok();
            kernel::warn_on!(!fits);
        }
        ranges::sort(&mut self.ranges);
    }

    /// The name of the first function in the patch with one of `addresses` in it.
    pub(crate) fn find(&self, addresses: &[usize]) -> Option<&CStr> {
        let index = ranges::find(&self.ranges, addresses)?;
        self.names.get(index).map(|name| &***name)
    }
}
