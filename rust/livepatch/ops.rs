// SPDX-License-Identifier: GPL-2.0

//! The one `ftrace_ops` of all patched functions, its table, and the handler.
//!
//! The C core registers an `ftrace_ops` for each function; every registration and, above all, removal waits for RCU,
//! one after the other. Here a batch of functions is added to or taken out of one filter, and one wait is enough.
//! The redirections of the take-over are in it for as long as the module is loaded, so the filter never becomes empty
//! before the end (an empty filter means every function).
//!
//! A function that has a direct call, a BPF trampoline for example, gets an ops of its own: ftrace asks the owner of the
//! call to make room for us when an ops is registered, but not when a filter grows. A call that is attached later finds
//! us there and makes room by itself.
//!
//! # Contexts and concurrency
//!
//! * [`Ops`] is changed under the registry's lock, in process context; it sleeps.
//! * [`livepatch_select`] is called by the ftrace callback in any context, NMI included, with preemption disabled, at
//!   the same time as anything here. It takes no lock, allocates nothing and calls nothing that can be traced.
//!
//! What the handler can reach (table, nodes) is freed only after it has been unlinked and every CPU been synchronised
//! with. A task that was preempted in ftrace's trampoline, before the callback disabled preemption, may still arrive
//! with an address that is in no filter any more: it finds an empty stack and goes on in the original function.

use crate::{
    account::{
        self,
        Counted, //
    },
    bindings,
    kapi::{
        cpu,
        ftrace::{
            self,
            Change,
            FtraceOps, //
        },
        warn::warn_once, //
    },
    table::{
        best_factor,
        Node,
        Slot,
        StableDeref,
        Stateless,
        Table,
        View,
        ORIGINAL, //
    },
};
use core::{
    marker::PhantomData,
    ops::Deref,
    sync::atomic::{
        AtomicPtr,
        Ordering, //
    },
};
use kernel::prelude::*;

type Functions = Table<Slots>;

/// The slots of a table.
struct Slots(KVVec<Slot>);

impl Deref for Slots {
    type Target = [Slot];

    fn deref(&self) -> &[Slot] {
        &self.0
    }
}

// SAFETY: the vector is never changed, so its memory stays.
unsafe impl StableDeref for Slots {}

/// The table that handlers use.
static TABLE: AtomicPtr<View> = AtomicPtr::new((&raw const NOTHING).cast_mut());

/// What handlers use while nothing is intercepted.
static NOTHING: View = View::of_nothing();

/// The smallest table: 2 KiB.
const MIN_SLOTS: usize = 128;

/// At least so many slots for each function, so that few share the one where the search starts.
const SLOTS_PER_FUNCTION: usize = 8;

/// Decides where a call that arrived at `ip` goes; 0 leaves it alone.
///
/// # Safety
///
/// Preemption must be disabled until the decision has been carried out.
#[no_mangle]
unsafe extern "C" fn livepatch_select(ip: usize) -> usize {
    // ORDERING: pairs with the release stores of this.
    let table = TABLE.load(Ordering::Acquire);
    // SAFETY: a table that was reachable with preemption disabled is alive until it is enabled again.
    let Some(slot) = (unsafe { &*table }).find(ip) else {
        return ORIGINAL;
    };
    // SAFETY: no requirement.
    let patch_state = || unsafe { bindings::livepatch_current_patch_state() };
    // SAFETY: preemption is disabled, says the caller.
    unsafe { slot.select(patch_state) }.unwrap_or_else(stateless)
}

/// The original code, and worth a warning.
#[cold]
fn stateless(_: Stateless) -> usize {
    warn_once(c"a function is in transition and the task has no state");
    ORIGINAL
}

/// The replacement of one function: what [`Ops`] puts on the function's stack.
///
/// # Invariants
///
/// While `attached`, the node is on the stack of `ip`'s slot; otherwise no handler can see it.
pub(crate) struct Hook {
    node: KBox<Node>,
    ip: usize,
    attached: bool,
    _counted: Counted<account::Hooks>,
}

impl Hook {
    /// A replacement that is not attached.
    pub(crate) fn new() -> Result<Self> {
        Ok(Self {
            node: KBox::new(Node::new(), GFP_KERNEL)?,
            ip: 0,
            attached: false,
            _counted: Counted::new(),
        })
    }

    /// Says where ftrace intercepts the function and where its calls go. Only while not attached.
    ///
    /// `size` is that of the code at `target`, in bytes.
    pub(crate) fn aim(&mut self, ip: usize, target: usize, size: usize) {
        if kernel::warn_on!(self.attached) {
            return;
        }
        self.ip = ip;
        self.node.aim(target, size);
    }

    /// Lets the calling task's state decide, or not.
    pub(crate) fn set_transition(&self, transition: bool) {
        self.node.set_transition(transition);
    }
}

impl Drop for Hook {
    fn drop(&mut self) {
        if kernel::warn_on!(self.attached) {
            // A handler may use the node at any time: better to lose it than to free it.
            if let Ok(stays) = KBox::new(Node::new(), GFP_KERNEL) {
                core::mem::forget(core::mem::replace(&mut self.node, stays));
            }
        }
    }
}

/// Why [`Ops::attach`] failed.
#[derive(Clone, Copy)]
pub(crate) struct AttachError {
    /// Which hook it was.
    pub(crate) index: usize,
    /// What ftrace said.
    pub(crate) error: Error,
}

/// All interceptions of the core.
///
/// # Invariants
///
/// [`TABLE`] points to the view of `table`. `shared` is registered exactly while `in_shared` is not 0, and every address in a
/// filter has a slot. `scratch` has room for every intercepted address.
pub(crate) struct Ops {
    shared: Pin<KBox<FtraceOps>>,
    /// Addresses in the filter of `shared`.
    in_shared: usize,
    /// Functions with a direct call attached: ftrace asks those to make room only when an ops is registered, not when
    /// a filter grows, so each of them has an ops of its own.
    singles: KVec<(usize, Pin<KBox<FtraceOps>>)>,
    table: KBox<Functions>,
    scratch: KVec<usize>,
}

impl Ops {
    /// Nothing intercepted yet.
    pub(crate) fn new() -> Result<Self> {
        let ops = Self {
            shared: FtraceOps::new()?,
            in_shared: 0,
            singles: KVec::new(),
            table: new_table(&[])?,
            scratch: KVec::new(),
        };
        // ORDERING: publishes the empty table; pairs with the acquire load in `livepatch_select`.
        TABLE.store(
            core::ptr::from_ref(ops.table.view()).cast_mut(),
            Ordering::Release,
        );
        // INVARIANT: nothing is registered, no address is in a filter.
        Ok(ops)
    }

    /// Makes a new table, with room for those functions of `hooks` that are not intercepted yet.
    ///
    /// Every time, since a table is made for what is in it: calls shall find their slots at the first look.
    fn make_room(&mut self, hooks: &[Hook]) -> Result {
        self.scratch.reserve(
            self.in_shared + self.singles.len() + hooks.len(),
            GFP_KERNEL,
        )?;
        let used = |slot: &&Slot| !slot.top().is_null();
        let mut ips = KVVec::new();
        for slot in self.table.slots().iter().filter(used) {
            ips.push(slot.ip(), GFP_KERNEL)?;
        }
        for hook in hooks {
            if !self.table.find(hook.ip).as_ref().is_some_and(used) {
                ips.push(hook.ip, GFP_KERNEL)?;
            }
        }
        let mut table = new_table(&ips)?;
        for slot in self.table.slots().iter().filter(used) {
            let fits = table.adopt(slot);
            kernel::warn_on!(!fits);
        }
        // ORDERING: publishes the slots; pairs with the acquire load in `livepatch_select`.
        TABLE.store(
            core::ptr::from_ref(table.view()).cast_mut(),
            Ordering::Release,
        );
        let old = core::mem::replace(&mut self.table, table);
        cpu::synchronize_all();
        drop(old);
        Ok(())
    }

    /// Redirects the functions of `hooks`, all or none.
    ///
    /// A handler may choose a replacement before this returns. Sleeps.
    ///
    /// # Errors
    ///
    /// What [`FtraceOps::register`] gives, and which hook it was about. `ENOMEM`.
    pub(crate) fn attach(&mut self, hooks: &mut [Hook]) -> Result<(), AttachError> {
        self.make_room(hooks)
            .map_err(|error| AttachError { index: 0, error })?;

        // The handler must find a function before ftrace intercepts it.
        let mut fresh = 0;
        self.scratch.clear();
        for hook in hooks.iter_mut() {
            let Some(slot) = self.table.claim(hook.ip) else {
                kernel::warn_on!(true);
                continue;
            };
            if slot.top().is_null() && self.scratch.push_within_capacity(hook.ip).is_ok() {
                fresh += 1;
            }
            slot.push(&hook.node);
            hook.attached = true;
        }
        if fresh == 0 || self.intercept_all(fresh).is_ok() {
            return Ok(());
        }

        // One of them cannot be intercepted. Find out which, in the order of the patch.
        self.scratch.clear();
        let mut failed = None;
        for (index, hook) in hooks.iter().enumerate() {
            let slot = self.table.find(hook.ip);
            if !slot.is_some_and(|slot| slot.holds_only(&hook.node)) {
                // Intercepted before.
                continue;
            }
            if let Err(error) = self.intercept(hook.ip) {
                failed = Some(AttachError { index, error });
                break;
            }
            let fits = self.scratch.push_within_capacity(hook.ip);
            kernel::warn_on!(fits.is_err());
        }
        let Some(failed) = failed else {
            return Ok(());
        };
        let done = self.scratch.len();
        self.release(done);
        for hook in hooks.iter_mut() {
            if let Some(slot) = self.table.find(hook.ip) {
                // SAFETY: nodes on a stack are alive: a `Hook` that is attached keeps its node.
                unsafe { slot.remove(&hook.node) };
            }
            hook.attached = false;
        }
        cpu::synchronize_all();
        Err(failed)
    }

    /// Intercepts the first `count` addresses in `scratch`, all or none.
    fn intercept_all(&mut self, count: usize) -> Result {
        // Bring those for the shared ops to the front.
        let ips = self.scratch.get_mut(..count).unwrap_or_default();
        let mut shared = 0;
        for index in 0..ips.len() {
            if !ftrace::has_direct_call(ips[index]) {
                ips.swap(shared, index);
                shared += 1;
            }
        }
        if shared > 0 {
            self.intercept_batch(shared)?;
        }
        for done in shared..count {
            let ip = self.scratch.get(done).copied().unwrap_or_default();
            self.intercept_single(ip)
                .inspect_err(|_| self.release(done))?;
        }
        // A direct call may have come before the filter grew, and not have made room: those move, too. (The last one in
        // the filter has just been registered with it, and that asks everybody to make room.)
        for index in 0..shared {
            let ip = self.scratch.get(index).copied().unwrap_or_default();
            if self.in_shared < 2 || !ftrace::has_direct_call(ip) {
                continue;
            }
            self.shared
                .as_mut()
                .filter(&mut [ip], Change::Remove)
                .inspect_err(|_| self.release(count))?;
            self.in_shared -= 1;
            if let Err(error) = self.intercept_single(ip) {
                // In no filter any more.
                self.scratch.swap(index, count - 1);
                self.release(count - 1);
                return Err(error);
            }
        }
        Ok(())
    }

    /// Intercepts the first `count` addresses in `scratch` with the shared ops.
    fn intercept_batch(&mut self, count: usize) -> Result {
        let ips = self.scratch.get_mut(..count).unwrap_or_default();
        self.shared.as_mut().filter(ips, Change::Add)?;
        if self.in_shared == 0 {
            if let Err(error) = self.shared.as_mut().register() {
                // Not registered, so an empty filter is harmless, and taking out what was put in cannot matter.
                let _ = self.shared.as_mut().filter(ips, Change::Remove);
                return Err(error);
            }
        }
        self.in_shared += count;
        Ok(())
    }

    /// Intercepts one function, with an ops of its own if need be.
    fn intercept(&mut self, ip: usize) -> Result {
        if self.in_shared == 0 || ftrace::has_direct_call(ip) {
            return self.intercept_single(ip);
        }
        self.shared.as_mut().filter(&mut [ip], Change::Add)?;
        self.in_shared += 1;
        Ok(())
    }

    /// Intercepts one function with an ops of its own.
    fn intercept_single(&mut self, ip: usize) -> Result {
        self.singles.reserve(1, GFP_KERNEL)?;
        let mut single = FtraceOps::new()?;
        single.as_mut().filter(&mut [ip], Change::Add)?;
        single.as_mut().register()?;
        self.singles
            .push_within_capacity((ip, single))
            .map_err(|_| ENOMEM)
    }

    /// Stops intercepting the first `count` addresses in `scratch`.
    fn release(&mut self, count: usize) {
        let (scratch, singles) = (&mut self.scratch, &mut self.singles);
        let ips = scratch.get_mut(..count).unwrap_or_default();

        // Bring those of the shared ops to the front.
        let mut shared = 0;
        for index in 0..ips.len() {
            let ip = ips[index];
            if !singles.iter().any(|(single, _)| *single == ip) {
                ips.swap(shared, index);
                shared += 1;
            }
        }
        let (shared, single) = ips.split_at_mut(shared);

        if !shared.is_empty() && shared.len() == self.in_shared {
            // The last ones. The filter is freed with the ops, or filled again before the next registration.
            self.shared.as_mut().unregister();
            let result = self.shared.as_mut().filter(shared, Change::Remove);
            kernel::warn_on!(result.is_err());
            self.in_shared = 0;
        } else if self.shared.as_mut().filter(shared, Change::Remove).is_ok() {
            self.in_shared -= shared.len();
        } else {
            // Out of memory. What stays in the filter finds an empty stack, that is, runs the original function; it
            // is in the way of nobody but another user who wants to change the instruction pointer there.
            for ip in shared {
                if self
                    .shared
                    .as_mut()
                    .filter(&mut [*ip], Change::Remove)
                    .is_ok()
                {
                    self.in_shared -= 1;
                }
            }
        }

        for ip in single {
            // Dropping unregisters.
            singles.retain(|(single, _)| *single != *ip);
        }
    }

    /// Takes hooks off: those that `unlink` gives to the batch. When this returns, no handler uses them any more.
    ///
    /// Every task must have stopped using them before, or the choice must not matter. Sleeps.
    pub(crate) fn detach<'h>(&mut self, unlink: impl FnOnce(&mut Batch<'_, 'h>)) {
        self.scratch.clear();
        let mut batch = Batch {
            ops: self,
            unlinked: 0,
            hooks: PhantomData,
        };
        unlink(&mut batch);
        if batch.unlinked == 0 {
            return;
        }
        let last = self.scratch.len();
        self.release(last);
        for &ip in &self.scratch {
            if let Some(slot) = self.table.find(ip) {
                // SAFETY: only hooks of this batch are left on the stack, and they exist until `detach` returns.
                while let Some(top) = unsafe { slot.top().as_ref() } {
                    // SAFETY: as above.
                    unsafe { slot.remove(top) };
                }
            }
        }
        cpu::synchronize_all();
    }

    /// The address and size of the replacement below `hook` on its stack, `None` if that is the original function.
    pub(crate) fn below(&self, hook: &Hook) -> Option<(usize, usize)> {
        let slot = self.table.find(hook.ip)?;
        // SAFETY: nodes on a stack are alive: a `Hook` that is attached keeps its node.
        let below = unsafe { slot.below(&hook.node) }?;
        (below.target() != ORIGINAL).then(|| (below.target(), below.size()))
    }
}

impl Drop for Ops {
    fn drop(&mut self) {
        self.singles.clear();
        self.shared.as_mut().unregister();
        // ORDERING: nobody publishes through this; handlers that still have the old value are waited for below.
        TABLE.store((&raw const NOTHING).cast_mut(), Ordering::Release);
        cpu::synchronize_all();
    }
}

/// The hooks that one [`Ops::detach`] takes off.
///
/// They are borrowed for `'h`, which is longer than the call: a hook cannot be dropped before its node is unlinked.
pub(crate) struct Batch<'a, 'h> {
    ops: &'a mut Ops,
    unlinked: usize,
    hooks: PhantomData<&'h mut Hook>,
}

impl<'h> Batch<'_, 'h> {
    /// Takes one off, if it is attached.
    pub(crate) fn unlink(&mut self, hook: &'h mut Hook) {
        if !hook.attached {
            return;
        }
        let Some(slot) = self.ops.table.find(hook.ip) else {
            kernel::warn_on!(true);
            return;
        };
        if slot.holds_only(&hook.node) {
            // Stays on the stack until the function is not intercepted any more: an empty stack would send tasks to
            // the original function that may still have to run the replacement.
            let noted = self.ops.scratch.push_within_capacity(hook.ip);
            kernel::warn_on!(noted.is_err());
        } else {
            // SAFETY: nodes on a stack are alive: a `Hook` that is attached keeps its node.
            let found = unsafe { slot.remove(&hook.node) };
            kernel::warn_on!(!found);
        }
        // INVARIANT: `detach` finishes the job before the caller gets the hook back.
        hook.attached = false;
        self.unlinked += 1;
    }
}

/// An empty table that suits the functions at `ips`.
fn new_table(ips: &[usize]) -> Result<KBox<Functions>> {
    let count = (ips.len() * SLOTS_PER_FUNCTION)
        .max(MIN_SLOTS)
        .next_power_of_two();
    let factor = best_factor(ips, &mut KVVec::from_elem(false, count, GFP_KERNEL)?);
    let mut slots = KVVec::with_capacity(count, GFP_KERNEL)?;
    for _ in 0..count {
        slots.push(Slot::new(), GFP_KERNEL)?;
    }
    let table = Table::new(Slots(slots), factor).ok_or(EINVAL)?;
    Ok(KBox::new(table, GFP_KERNEL)?)
}

// The declaration that the C side has.
const _: unsafe extern "C" fn(usize) -> usize = livepatch_select;
const _: unsafe extern "C" fn(usize, usize, *mut bindings::ftrace_ops, *mut bindings::ftrace_regs) =
    bindings::livepatch_ftrace_thunk;
