// SPDX-License-Identifier: GPL-2.0

//! Intercepting functions.
//!
//! C header: [`include/linux/ftrace.h`](srctree/include/linux/ftrace.h)
//!
//! # Examples
//!
//! ```ignore
//! let mut ops = FtraceOps::new(Registers::Arguments)?;
//! let site = ftrace::location(address, size).ok_or(EINVAL)?;
//! ops.filter(&mut [site], Change::Add)?;
//! ops.register()?;
//! // From here on calls of the function go through the handler.
//! ops.unregister();
//! ```

use super::{
    cpu,
    unsupported, //
};
use crate::bindings;
use core::mem::ManuallyDrop;
use kernel::{
    error::to_result,
    prelude::*,
    sync::atomic::{
        Atomic,
        Relaxed, //
    },
    types::Opaque, //
};

/// A place where ftrace can intercept a function.
///
/// # Invariants
///
/// ftrace gave the address as the location of a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(transparent)]
pub(crate) struct CallSite(usize);

impl CallSite {
    /// Returns the address, by which ftrace knows the place.
    pub(crate) fn address(self) -> usize {
        self.0
    }

    /// Returns the address in the function to which the call of ftrace's trampoline returns.
    ///
    /// While a task is in the trampoline, its stack shows this address, until the trampoline has
    /// put the one there that a handler has chosen.
    pub(crate) fn return_address(self) -> usize {
        self.0 + bindings::LIVEPATCH_CALL_SIZE as usize
    }
}

/// What ftrace saves of the registers for a handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Registers {
    /// What arguments are passed in, and the instruction pointer. Takes less time.
    Arguments,
    /// All, for whoever is called at such a function: one way through ftrace for all of them.
    All,
}

/// A `struct ftrace_ops` whose function is the core's handler.
///
/// # Invariants
///
/// `inner` is initialised. It is registered exactly while `registered` is true.
pub(crate) struct FtraceOps {
    /// Not freed if ftrace cannot let go of it.
    inner: ManuallyDrop<Pin<KBox<Opaque<bindings::ftrace_ops>>>>,
    registered: bool,
}

// SAFETY: An ops may be used by any thread, ftrace has locks of its own; `registered` is only
// changed through `&mut`.
unsafe impl Send for FtraceOps {}

/// A change of a filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// Intercept these functions too.
    Add,
    /// Intercept these functions no longer.
    Remove,
}

/// Whether call sites lead to a trampoline of this module that ftrace cannot take away any more.
static STUCK: Atomic<bool> = Atomic::new(false);

/// Returns whether ftrace still calls this module and cannot be stopped: it has found a bug in its
/// own data, and stopped working, while something was registered. The module's memory must stay.
pub(crate) fn is_stuck() -> bool {
    // ORDERING: Whoever asks comes after the call that set it, in the same task.
    STUCK.load(Relaxed)
}

/// Notes that something of this module's is registered for good.
fn set_stuck() {
    // ORDERING: See `is_stuck`.
    STUCK.store(true, Relaxed);
}

impl FtraceOps {
    /// Makes an ops that is not registered, with an empty filter.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(registers: Registers) -> Result<Self> {
        let inner = KBox::pin_init(
            Opaque::ffi_init(|slot: *mut bindings::ftrace_ops| {
                // SAFETY: `slot` is valid for writes, and all zeroes is what a static one starts
                // as.
                unsafe { slot.write_bytes(0, 1) };
                // SAFETY: Initialised above, and nobody else knows of it.
                unsafe { (*slot).func = Some(bindings::livepatch_ftrace_thunk) };
                // SAFETY: Evaluates a constant of the configuration.
                let flags =
                    unsafe { bindings::livepatch_ftrace_flags(registers == Registers::All) };
                // SAFETY: Initialised above, and nobody else knows of it.
                unsafe { (*slot).flags = flags };
            }),
            GFP_KERNEL,
        )?;
        // INVARIANT: Not registered.
        Ok(Self {
            inner: ManuallyDrop::new(inner),
            registered: false,
        })
    }

    /// Changes the set of intercepted functions by `sites`, all or nothing.
    ///
    /// Takes effect at once when registered; an empty filter would mean every function, so the last
    /// function must not be taken out of one that is registered. The order of `sites` may change.
    ///
    /// # Errors
    ///
    /// `EBUSY` if another user changes the instruction pointer of one of the functions; `EINVAL` or
    /// `ENOENT` if one of them is gone or not in the filter; `ENODEV` if ftrace is dead; `ENOMEM`.
    ///
    /// A direct call that is attached already is neither refused nor asked to make room: see
    /// [`has_direct_call`].
    pub(crate) fn filter(&mut self, sites: &mut [CallSite], change: Change) -> Result {
        let count = u32::try_from(sites.len()).map_err(|_| E2BIG)?;
        if count == 0 {
            return Ok(());
        }
        let remove = i32::from(change == Change::Remove);
        // CAST: A `CallSite` is a transparent wrapper of an address.
        let sites = sites.as_mut_ptr().cast();
        // SAFETY: The ops is initialised and pinned; `sites` has `count` entries.
        to_result(unsafe {
            bindings::ftrace_set_filter_ips(self.inner.get(), sites, count, remove, 0)
        })
    }

    /// Starts intercepting the functions in the filter. Does nothing but warn if it does already.
    ///
    /// # Errors
    ///
    /// `EBUSY` as for [`Self::filter`], but direct calls get the chance to make room; `EAGAIN` if
    /// the owner of one has no time for that just now; `ENODEV` if ftrace is dead; `ENOMEM`.
    pub(crate) fn register(&mut self) -> Result {
        if kernel::warn_on!(self.registered) {
            return Err(EBUSY);
        }
        // SAFETY: The ops is initialised and pinned, and stays until it is unregistered (`Drop`).
        let result = to_result(unsafe { bindings::register_ftrace_function(self.inner.get()) });
        if let Err(ENODEV) = result {
            // It may have died of this, with calls of the handler in the code already: before, it
            // would not have taken the filter.
            set_stuck();
        }
        // INVARIANT: Just registered; or as far as is known.
        self.registered = matches!(result, Ok(()) | Err(ENODEV));
        result
    }

    /// Stops intercepting, if the ops is registered.
    ///
    /// Returns when no handler runs any more and no task is on the way to one; unless ftrace is
    /// dead, see [`is_stuck`]. May sleep for a long time.
    pub(crate) fn unregister(&mut self) {
        if !self.registered || is_stuck() {
            return;
        }
        // SAFETY: It is registered, by the type's invariant.
        let ret = unsafe { bindings::unregister_ftrace_function(self.inner.get()) };
        if ret != 0 {
            set_stuck();
            return;
        }
        // INVARIANT: Just unregistered.
        self.registered = false;
    }
}

impl Drop for FtraceOps {
    fn drop(&mut self) {
        self.unregister();
        if self.registered {
            return;
        }
        // SAFETY: The ops is not registered any more; this frees its filter.
        unsafe { bindings::ftrace_free_filter(self.inner.get()) };
        // SAFETY: It is not used any more.
        unsafe { ManuallyDrop::drop(&mut self.inner) };
    }
}

/// A function and the code to which its calls are to jump.
///
/// # Invariants
///
/// The function is one that ftrace can intercept, and the code is at an even address.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct Jump(bindings::livepatch_jump);

impl Jump {
    /// Makes one from the function at `site` to `target`. `None` if that is odd: in the lowest bit,
    /// ftrace notes that it is to jump.
    pub(crate) fn new(site: CallSite, target: usize) -> Option<Self> {
        // INVARIANT: By the invariant of `CallSite`; the target is even.
        (target % 2 == 0).then_some(Self(bindings::livepatch_jump { ip: site.0, target }))
    }

    /// Returns where ftrace intercepts the function.
    pub(crate) fn site(&self) -> CallSite {
        // INVARIANT: It was made of a site.
        CallSite(self.0.ip)
    }
}

/// Changes functions so that their calls jump to other code without a handler, all or none.
///
/// Tracers and probes go on to work there; ftrace calls them before it jumps. Meanwhile nobody can
/// attach a direct call of his own (`EINVAL` or, with `register_ftrace_direct()`, `EBUSY`), nor be
/// registered to change the instruction pointer (`EBUSY`); but the filter of somebody who is
/// registered may grow, and then the jump wins.
///
/// # Safety
///
/// The code must have the prototype of the function, and stay until the jump has been removed. The
/// function must stay as long.
///
/// # Errors
///
/// `EINVAL` if one of them has a direct call; `ENODEV` if ftrace is dead; `ENOMEM`; `EOPNOTSUPP` if
/// the kernel has no jumps. If ftrace dies meanwhile, the jumps count as added.
pub(crate) unsafe fn add_jumps(jumps: &[Jump]) -> Result {
    let count = u32::try_from(jumps.len()).map_err(|_| E2BIG)?;
    // CAST: A `Jump` is a transparent wrapper.
    let jumps = jumps.as_ptr().cast();
    // SAFETY: There are `count` of them; the rest by the safety requirements.
    to_result(unsafe { bindings::livepatch_add_jumps(jumps, count) })
}

/// Takes jumps away that have been added, all or none.
///
/// A task may be on the way to the code by one of them yet, as its stack shows.
///
/// # Errors
///
/// `ENODEV` if ftrace is dead: calls go on to jump, as far as is known. `ENOMEM`.
pub(crate) fn remove_jumps(jumps: &[Jump]) -> Result {
    let count = u32::try_from(jumps.len()).map_err(|_| E2BIG)?;
    // CAST: A `Jump` is a transparent wrapper.
    let jumps = jumps.as_ptr().cast();
    // SAFETY: There are `count` of them.
    to_result(unsafe { bindings::livepatch_remove_jumps(jumps, count) })
}

/// Returns whether ftrace can write jumps in this kernel.
pub(crate) fn can_jump() -> bool {
    // SAFETY: Evaluates a constant of the configuration.
    unsafe { bindings::livepatch_can_jump() }
}

/// Being able to add jumps: as long as this exists, there is one, from a function of this module
/// that nobody calls. ftrace waits for all tasks when the last one goes.
pub(crate) struct JumpAnchor(Jump);

impl JumpAnchor {
    /// Adds that jump.
    ///
    /// # Errors
    ///
    /// The errors of [`add_jumps`]; `EOPNOTSUPP` if ftrace cannot intercept the function.
    pub(crate) fn new() -> Result<Self> {
        let target = bindings::livepatch_jump_anchor_target as *const () as usize;
        let jump = anchor(bindings::livepatch_jump_anchor as *const () as usize)
            .and_then(|site| Jump::new(site, target))
            .ok_or_else(unsupported)?;
        // SAFETY: Both functions do nothing, and stay as long as this module, whose memory stays
        // for good if the jump cannot be removed.
        unsafe { add_jumps(&[jump]) }?;
        Ok(Self(jump))
    }
}

impl Drop for JumpAnchor {
    fn drop(&mut self) {
        loop {
            match remove_jumps(&[self.0]) {
                Err(ENOMEM) => cpu::wait_a_moment(),
                Err(_) => return set_stuck(),
                Ok(()) => return,
            }
        }
    }
}

/// Returns the place of a function of this module that nobody calls: a filter that has it does not
/// become empty. `None` if ftrace cannot intercept it.
pub(crate) fn filter_anchor() -> Option<CallSite> {
    anchor(bindings::livepatch_filter_anchor as *const () as usize)
}

/// The place of the small function at `address`.
fn anchor(address: usize) -> Option<CallSite> {
    /// It is not further from the start of a function.
    const MOST: usize = 16;
    location(address, MOST)
}

/// Returns whether a direct call is attached at `site`: a BPF trampoline, for example. A snapshot.
///
/// Such a call has to make room for somebody who changes the instruction pointer. It is asked to
/// when the latter is registered ([`FtraceOps::register`]) or when it is attached itself, but not
/// when a filter grows.
pub(crate) fn has_direct_call(site: CallSite) -> bool {
    // SAFETY: Only looks the address up.
    unsafe { bindings::livepatch_has_direct_call(site.0) }
}

/// Returns whether the function at `site` is in the init section of a module, which is freed when
/// the module has been initialised. ftrace forgets the function then, but filters go on to have it.
pub(crate) fn is_init(site: CallSite) -> bool {
    // SAFETY: Only looks the address up.
    unsafe { bindings::livepatch_in_module_init(site.0) }
}

/// Finds the place where ftrace intercepts the function at `address`, of `size` bytes; `None` if it
/// cannot be intercepted.
///
/// As `ftrace_location()`, which would look for the size first.
pub(crate) fn location(address: usize, size: usize) -> Option<CallSite> {
    let last = address + size.saturating_sub(1);
    // SAFETY: Only looks the addresses up.
    match unsafe { bindings::ftrace_location_range(address, last) } {
        0 => None,
        // INVARIANT: The address is the one that ftrace gave.
        ip => Some(CallSite(ip)),
    }
}
