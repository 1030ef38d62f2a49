// SPDX-License-Identifier: GPL-2.0

//! Intercepting functions.
//!
//! C header: [`include/linux/ftrace.h`](srctree/include/linux/ftrace.h)

use crate::bindings;
use kernel::{
    error::to_result,
    prelude::*,
    types::Opaque, //
};

/// A `struct ftrace_ops` whose function is the core's handler.
///
/// # Invariants
///
/// Not registered when it is dropped, and no handler runs on its behalf any more.
#[pin_data(PinnedDrop)]
pub(crate) struct FtraceOps {
    #[pin]
    inner: Opaque<bindings::ftrace_ops>,
    registered: bool,
}

// SAFETY: ftrace has its own locks; `registered` is only changed through `&mut`.
unsafe impl Send for FtraceOps {}

/// Whether to add addresses to a filter or take them out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// Intercept these functions too.
    Add,
    /// Intercept these functions no longer.
    Remove,
}

impl FtraceOps {
    /// An unregistered one with an empty filter.
    pub(crate) fn new() -> Result<Pin<KBox<Self>>> {
        KBox::pin_init(
            pin_init!(Self {
                inner <- Opaque::ffi_init(|slot: *mut bindings::ftrace_ops| {
                    // SAFETY: `slot` is valid for writes, and all zeroes is what a static one starts as.
                    unsafe { slot.write_bytes(0, 1) };
                    // SAFETY: initialised above, and nobody else knows of it.
                    let ops = unsafe { &mut *slot };
                    ops.func = Some(bindings::livepatch_ftrace_thunk);
                    // SAFETY: no requirement.
                    ops.flags = unsafe { bindings::livepatch_ftrace_flags() };
                }),
                // INVARIANT: not registered.
                registered: false,
            }),
            GFP_KERNEL,
        )
    }

    /// Changes the set of intercepted functions by `ips`, which are addresses that [`location`] returned.
    ///
    /// All or nothing. Takes effect at once when registered; an empty filter would mean every function, so the last
    /// function must not be taken out of one that is registered.
    ///
    /// # Errors
    ///
    /// `EBUSY` if another user changes the instruction pointer of one of the functions; `EINVAL` or `ENOENT` for
    /// an address that is not ftrace's; `ENOMEM`.
    ///
    /// A direct call that is attached already is neither refused nor asked to make room: see [`has_direct_call`].
    pub(crate) fn filter(self: Pin<&mut Self>, ips: &mut [usize], change: Change) -> Result {
        let count = u32::try_from(ips.len()).map_err(|_| E2BIG)?;
        if count == 0 {
            return Ok(());
        }
        let remove = i32::from(change == Change::Remove);
        // SAFETY: the ops is initialised and pinned; `ips` has `count` entries.
        to_result(unsafe {
            bindings::ftrace_set_filter_ips(self.inner.get(), ips.as_mut_ptr(), count, remove, 0)
        })
    }

    /// Starts intercepting.
    ///
    /// # Errors
    ///
    /// `EBUSY` as for [`Self::filter`], but direct calls get the chance to make room; `ENOMEM`.
    pub(crate) fn register(self: Pin<&mut Self>) -> Result {
        let this = self.project();
        // SAFETY: the ops is initialised and pinned, and stays until it is unregistered (`PinnedDrop`).
        to_result(unsafe { bindings::register_ftrace_function(this.inner.get()) })?;
        *this.registered = true;
        Ok(())
    }

    /// Stops intercepting; returns when no handler runs any more and no task is on the way to one. Sleeps, for long.
    pub(crate) fn unregister(self: Pin<&mut Self>) {
        let this = self.project();
        if !core::mem::take(this.registered) {
            return;
        }
        // SAFETY: it is registered.
        let ret = unsafe { bindings::unregister_ftrace_function(this.inner.get()) };
        kernel::warn_on!(ret != 0);
    }
}

#[pinned_drop]
impl PinnedDrop for FtraceOps {
    fn drop(mut self: Pin<&mut Self>) {
        self.as_mut().unregister();
        // SAFETY: the ops is not registered any more; this frees its filter.
        unsafe { bindings::ftrace_free_filter(self.inner.get()) };
    }
}

/// Whether a direct call is attached at `ip`, a location of ftrace's: a BPF trampoline, for example. A snapshot.
///
/// Such a call has to make room for somebody who changes the instruction pointer. It is asked to when the latter is
/// registered ([`FtraceOps::register`]) or when it is attached itself, but not when a filter grows.
pub(crate) fn has_direct_call(ip: usize) -> bool {
    // SAFETY: only looks the address up.
    unsafe { bindings::livepatch_has_direct_call(ip) }
}

/// Where ftrace intercepts the function at `address`, of `size` bytes; `None` if it cannot be intercepted.
///
/// As `ftrace_location()`, which would look for the size first.
pub(crate) fn location(address: usize, size: usize) -> Option<usize> {
    let last = address + size.saturating_sub(1);
    // SAFETY: only looks the addresses up.
    match unsafe { bindings::ftrace_location_range(address, last) } {
        0 => None,
        ip => Some(ip),
    }
}
