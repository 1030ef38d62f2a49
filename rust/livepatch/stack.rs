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
//!
//! # Most stacks need not be unwound
//!
//! Wherever a task that does not run has been interrupted, and wherever it returns to, the address
//! is an aligned word on its stack. So a task with no word in any function of the list can switch,
//! whatever the words are, and [`obstacle::examine`](crate::obstacle::examine) looks for such words
//! first ([`with_text_words`](crate::kapi::stacktrace::with_text_words), which names the
//! exceptions). This takes fewer instructions than unwinding the stack, for which the unwinder has
//! to know each function on it. Only where there is such a word, which may be the trace of an
//! earlier call or no address at all, or where there can be addresses that are not to be seen, the
//! stack is unwound, and that decides.
//!
//! The C core unwinds each stack, and leaves a task alone if it cannot rely on the result: if the
//! unwinder does not know a function, the stack is deeper than 100 calls, or it seems damaged. Here
//! such a task switches if no word speaks against it, since no address of a patched function can be
//! among what the unwinder did not find. Both rely on a stack that nobody has written over: one
//! that was is not always noticed.

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

    /// From the first to the last address that is in any of the functions.
    pub(crate) fn span(&self) -> core::ops::Range<usize> {
        ranges::span(&self.ranges)
    }

    /// The name of the first function in the patch with one of `addresses` in it.
    pub(crate) fn find(&self, addresses: &[usize]) -> Option<&Arc<CString>> {
        let index = ranges::find(&self.ranges, addresses)?;
        self.names.get(index)
    }
}
