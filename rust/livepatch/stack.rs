// SPDX-License-Identifier: GPL-2.0

//! Code that a task must not have on its stack when it switches.
//!
//! A list is made when a transition starts, and again when a module comes or goes meanwhile. It is
//! read under the scheduler's locks, so it is complete before any task is asked to switch, and its
//! memory was allocated with the patch: disabling a patch must not fail for want of memory.
//!
//! # Tasks on the way to a function
//!
//! A task may be preempted after the handler has chosen what it runs and before it is there: in the
//! callback, or in ftrace's trampoline. Its stack shows where the call of the patched function came
//! from, the trampoline, and the address in the original function to which the trampoline returns
//! unless the handler has changed it; the replacement is in a saved register or, at the very end,
//! is the return address itself. So the return address of the call to ftrace
//! ([`CallSite::return_address`]) is on the list for every function. No code of the function itself
//! leaves that address on a stack: its own calls come after it.
//!
//! The C core lets such a task switch, and makes up for it when it waits for RCU tasks, each time
//! that it takes an `ftrace_ops` away. That helps as long as the replacement does not sleep, which
//! with `PREEMPT_RT` may happen at any spinlock.

use crate::{
    func::Code,
    kapi::{
        ftrace::CallSite,
        published::Published, //
    },
    leak_check::{
        self,
        Counted, //
    },
    pure::ranges::{
        self,
        Range, //
    },
};
use kernel::{
    prelude::*,
    str::CString,
    sync::Arc, //
};

/// The code that tasks are checked against; nothing while there is no transition.
pub(crate) static STACK_CHECK: Published<StackCheck> = Published::new();

/// A set of functions by their code.
pub(crate) struct StackCheck {
    ranges: KVVec<Range<usize>>,
    names: KVVec<Arc<CString>>,
    _counted: Counted<leak_check::StackChecks>,
}

impl StackCheck {
    /// Space for `functions` entries.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn with_capacity(functions: usize) -> Result<KBox<Self>> {
        Ok(KBox::new(
            Self {
                ranges: KVVec::with_capacity(2 * functions, GFP_KERNEL)?,
                names: KVVec::with_capacity(functions, GFP_KERNEL)?,
                _counted: Counted::new(),
            },
            GFP_KERNEL,
        )?)
    }

    /// Replaces the contents by functions in the order of the patch: the code in question, where
    /// ftrace intercepts the function, its name.
    pub(crate) fn fill(
        &mut self,
        functions: impl Iterator<Item = (Code, Option<CallSite>, Arc<CString>)>,
    ) {
        self.ranges.clear();
        self.names.clear();
        for (order, (code, site, name)) in functions.enumerate() {
            let code = Range::new(code.address, code.size, order, order);
            let on_the_way = site.map(|site| Range::new(site.return_address(), 1, order, order));
            let fits = [Some(code), on_the_way]
                .into_iter()
                .flatten()
                .all(|range| self.ranges.push_within_capacity(range).is_ok())
                && self.names.push_within_capacity(name).is_ok();
            kernel::warn_on!(!fits);
        }
        ranges::sort(&mut self.ranges);
    }

    /// The name of the first function in the patch with one of `addresses` in it.
    pub(crate) fn find(&self, addresses: &[usize]) -> Option<&Arc<CString>> {
        let index = ranges::find(&self.ranges, addresses)?;
        self.names.get(index)
    }
}
