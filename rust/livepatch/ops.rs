// SPDX-License-Identifier: GPL-2.0

//! The one `ftrace_ops` of all patched functions, and its table.
//!
//! The C core registers an `ftrace_ops` for each function; every registration and, above all,
//! removal waits for RCU, one after the other. Here a batch of functions is added to or taken out
//! of one filter, and one wait is enough. The redirections of the take-over are in it for as long
//! as the module is loaded, so the filter never becomes empty before the end (an empty filter means
//! every function).
//!
//! # Functions with a direct call
//!
//! A function that has a direct call, a BPF trampoline for example, gets an ops of its own: ftrace
//! asks the owner of the call to make room for us when an ops is registered, but not when a filter
//! grows. A call that is attached later finds us there and makes room by itself; when our last
//! replacement leaves the function, an ops that is registered for a moment has ftrace tell the
//! owner that the room is free again.
//!
//! # Functions that are freed
//!
//! A function in the init section of a module gets an ops of its own, too. When it has been freed,
//! ftrace does not take it out of a filter any more, and takes the next function at its address for
//! one that is intercepted. So the filter goes with the module, at the latest. Until then, a module
//! that gets the memory meets it, as with the C core: its function at that address cannot be
//! patched, and ftrace may stop when the filter goes.
//!
//! # Jumps
//!
//! With the module parameter `direct`, calls jump to the replacement, without a handler, while no
//! transition of the patch is under way, unless the patch is not to have jumps. [`Ops::add_jumps`]
//! has ftrace write the jumps and then takes the functions out of the filter of the shared ops;
//! [`Ops::remove_jumps`] puts those of one patch back first, before a transition of that patch is
//! prepared or when it is not to have jumps any more. In between, ftrace calls the handler and
//! jumps itself, which wins and leads to the same code, since no task's state matters then. The
//! slots and their stacks are as ever, so that the handler finds the function.
//!
//! * ftrace goes through a list of those who want to be called, of which the handler and the jumps
//!   are two entries, with preemption disabled. All CPUs are synchronised with between the two
//!   steps, either way: who has passed the jump before it came must not find the handler gone.
//! * ftrace skips the jump if it comes from an entry that has not saved all registers. A task may
//!   be preempted in such an entry since before the jump was added, for instance if the function is
//!   traced. So the shared ops, too, asks for all registers, and the functions have no other entry
//!   from when they are patched. A task that was in one before that holds up the transition by
//!   which the patch was enabled ([`mod@crate::stack`]).
//! * A task on the way by a jump, while ftrace calls others too, shows the return address of the
//!   call on its stack or, when that has been replaced, the first address of the code: like one
//!   that comes from a handler, and it is found in the same way.
//! * While ftrace goes through the list, it does so once more in the same context, but not a third
//!   time. A function that is called by a handler which is called that deep runs the original code.
//!   That is so wherever two users share a function, as with tracers and with the C core; and while
//!   a function changes between handler and jump, it has two.
//!
//! There are no jumps
//!
//! * from a function in the init section of a module, which ftrace forgets when it is freed;
//! * from one with a direct call of somebody else;
//! * to code at an odd address ([`ftrace::Jump`]).
//!
//! A function whose module goes needs no handler again, since nobody calls it: its jump is removed
//! alone ([`Ops::detach`]). A function of this module that nobody calls is in the filter as long as
//! there can be jumps, so that the filter is never empty.
//!
//! If ftrace dies, jumps stay, so the patches whose functions jump can be neither disabled nor
//! replaced any more.
//!
//! # Contexts and concurrency
//!
//! [`Ops`] is changed under the registry lock, in process context; it sleeps. Handlers
//! ([`mod@crate::handler`]) read the table and the nodes at the same time; what they can reach is
//! freed only after it has been unlinked and every CPU been synchronised with.

use crate::{
    func::Code,
    handler,
    kapi::{
        self,
        cpu,
        ftrace::{
            self,
            CallSite,
            Change,
            FtraceOps,
            Jump,
            JumpAnchor,
            Registers, //
        }, //
    },
    klp::descriptor::EntryPoint,
    leak_check::{
        self,
        Counted, //
    },
    pure::{
        sort,
        table::{
            best_factor,
            Node,
            Slot,
            StableDeref,
            Table,
            ORIGINAL, //
        }, //
    },
};
use core::{
    marker::PhantomData,
    ops::Deref, //
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

// SAFETY: The vector is never changed, so its memory stays where it is.
unsafe impl StableDeref for Slots {}

/// The smallest table: 2 KiB.
const MIN_SLOTS: usize = 128;

/// At least so many slots for each function, so that few share the one where the search starts.
const SLOTS_PER_FUNCTION: usize = 8;

/// The replacement of one function: what [`Ops`] puts on the function's stack.
///
/// # Invariants
///
/// While `attached`, the node is on the stack of the slot of `site`; otherwise no handler can see
/// it.
pub(crate) struct Hook {
    node: KBox<Node>,
    site: Option<CallSite>,
    attached: bool,
    _counted: Counted<leak_check::Hooks>,
}

impl Hook {
    /// A replacement that is not attached and has no target.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new() -> Result<Self> {
        Ok(Self {
            node: KBox::new(Node::new(), GFP_KERNEL)?,
            site: None,
            attached: false,
            _counted: Counted::new(),
        })
    }

    /// Sets where ftrace intercepts the function and where its calls go; `None` is the original
    /// code. Does nothing but warn while the hook is attached.
    ///
    /// `size` is that of the code at `entry`, in bytes.
    pub(crate) fn set_target(&mut self, site: CallSite, entry: Option<EntryPoint>, size: usize) {
        if kernel::warn_on!(self.attached) {
            return;
        }
        self.site = Some(site);
        self.node
            .set_target(entry.map_or(ORIGINAL, EntryPoint::address), size);
    }

    /// Where ftrace intercepts the function, `None` before [`Self::set_target`].
    pub(crate) fn site(&self) -> Option<CallSite> {
        self.site
    }

    /// Lets the calling task's state decide, or not.
    pub(crate) fn set_transition(&self, transition: bool) {
        self.node.set_transition(transition);
    }

    /// The slot of the function in `table`, if it has one.
    fn slot<'t>(&self, table: &'t Functions) -> Option<&'t Slot> {
        table.find(self.site?.address())
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

/// A step on the way to the interception of a function, as the C core takes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Before ftrace is asked.
    Prepare,
    /// The function is put into a filter.
    Filter,
    /// The handler of the filter is registered.
    Register,
}

/// Why functions could not be intercepted.
#[derive(Clone, Copy)]
struct InterceptError {
    step: Step,
    error: Error,
}

impl InterceptError {
    /// There was no memory, or it was a mistake.
    fn before(error: impl Into<Error>) -> Self {
        Self {
            step: Step::Prepare,
            error: error.into(),
        }
    }

    /// What [`FtraceOps::filter`] gave. If the ops is registered, that stands for what the C core
    /// does next as well, which is where others may be in the way.
    fn in_filter(error: Error) -> Self {
        let step = match error {
            EBUSY | EAGAIN => Step::Register,
            _ => Step::Filter,
        };
        Self { step, error }
    }

    /// What [`FtraceOps::register`] gave.
    fn in_register(error: Error) -> Self {
        Self {
            step: Step::Register,
            error,
        }
    }

    /// Says which hook it was about.
    fn at(self, index: usize) -> AttachError {
        AttachError {
            index,
            step: self.step,
            error: self.error,
        }
    }
}

/// Why [`Ops::attach`] failed.
#[derive(Clone, Copy)]
pub(crate) struct AttachError {
    /// The hook that it was about.
    pub(crate) index: usize,
    /// Where it failed.
    pub(crate) step: Step,
    /// The error that ftrace gave.
    pub(crate) error: Error,
}

/// All interceptions of the core.
///
/// # Invariants
///
/// Handlers use the view of `table`. `shared` is registered exactly while `in_shared` is not 0, and
/// every address in a filter has a slot, other than that of `anchors`. `scratch` has room for every
/// intercepted address. The functions in `jumps` are in no filter; they have a slot too. While
/// there are any, `anchors` is there.
pub(crate) struct Ops {
    shared: FtraceOps,
    /// How many functions are intercepted by `shared`.
    in_shared: usize,
    /// Functions with a direct call, or that are freed: each has an ops of its own.
    singles: KVec<(CallSite, FtraceOps)>,
    /// Functions whose calls jump.
    jumps: KVVec<Jump>,
    /// While there can be jumps: one of them, and what is in the filter of `shared`.
    anchors: Option<(JumpAnchor, CallSite)>,
    table: KBox<Functions>,
    scratch: KVVec<CallSite>,
}

impl Ops {
    /// Nothing intercepted yet. `registers` must be all if there are to be jumps.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(registers: Registers) -> Result<Self> {
        let ops = Self {
            shared: FtraceOps::new(registers)?,
            in_shared: 0,
            singles: KVec::new(),
            jumps: KVVec::new(),
            anchors: None,
            table: new_table(&[])?,
            scratch: KVVec::new(),
        };
        // SAFETY: `make_room` and `drop` set another table and synchronise before this one goes.
        unsafe { handler::set_table(Some(ops.table.view())) };
        // INVARIANT: Nothing is registered, no address is in a filter.
        Ok(ops)
    }

    /// Makes a new table, with room for those functions of `hooks` that are not intercepted yet.
    ///
    /// Every time, since a table is made for what is in it: calls shall find their slots at the
    /// first look.
    fn make_room(&mut self, hooks: &[Hook]) -> Result {
        self.scratch.clear();
        self.scratch.reserve(
            self.in_shared + self.singles.len() + self.jumps.len() + hooks.len(),
            GFP_KERNEL,
        )?;
        let used = |slot: &&Slot| !slot.top().is_null();
        let mut ips = KVVec::new();
        for slot in self.table.slots().iter().filter(used) {
            ips.push(slot.ip(), GFP_KERNEL)?;
        }
        let new = |hook: &&Hook| !hook.slot(&self.table).as_ref().is_some_and(used);
        for site in hooks.iter().filter(new).filter_map(|hook| hook.site) {
            ips.push(site.address(), GFP_KERNEL)?;
        }
        let table = new_table(&ips)?;
        for slot in self.table.slots().iter().filter(used) {
            // SAFETY: `&mut self` makes us the only writer; the old table is not written to any
            // more. Nodes on a stack are alive: a `Hook` that is attached keeps its node, and is
            // detached by a `Batch`, which removes the node and synchronises.
            let fits = unsafe { table.adopt(slot) };
            kernel::warn_on!(!fits);
        }
        // SAFETY: The table stays until the next one has been set here or in `drop`.
        unsafe { handler::set_table(Some(table.view())) };
        let old = core::mem::replace(&mut self.table, table);
        cpu::synchronize_all();
        drop(old);
        Ok(())
    }

    /// Calls `f` with what is in `scratch`, where the ops it gets has nothing meanwhile.
    fn with_scratch<R>(&mut self, f: impl FnOnce(&mut Self, &mut KVVec<CallSite>) -> R) -> R {
        let mut scratch = core::mem::take(&mut self.scratch);
        let result = f(self, &mut scratch);
        self.scratch = scratch;
        result
    }

    /// Redirects the functions of `hooks`, all or none.
    ///
    /// A handler may choose a replacement before this returns. Sleeps.
    ///
    /// # Errors
    ///
    /// The errors of [`FtraceOps::register`], with the first hook that they are about; `ENOMEM`;
    /// `EINVAL`, after a warning, for a hook that is attached already or has no target.
    pub(crate) fn attach(&mut self, hooks: &mut [Hook]) -> Result<(), AttachError> {
        let unfit = |hook: &Hook| hook.attached || hook.site.is_none();
        if let Some(index) = hooks.iter().position(unfit) {
            kernel::warn_on!(true);
            return Err(InterceptError::before(EINVAL).at(index));
        }
        self.make_room(hooks)
            .map_err(|error| InterceptError::before(error).at(0))?;

        // The handler must find a function before ftrace intercepts it.
        for hook in hooks.iter_mut() {
            let claim = |site: CallSite| Some((site, self.table.claim(site.address())?));
            let Some((site, slot)) = hook.site.and_then(claim) else {
                kernel::warn_on!(true);
                continue;
            };
            // SAFETY: `&mut self` makes us the only writer. The hook is not attached, so its node
            // is on no stack, by the type's invariant. From here on it is, and keeps the node. It
            // is detached below or by a `Batch`: the node is removed, and all CPUs are
            // synchronised with before the hook is given back.
            unsafe { slot.push(&hook.node) };
            hook.attached = true;
            if hook.node.is_lowest() {
                let fits = self.scratch.push_within_capacity(site);
                kernel::warn_on!(fits.is_err());
            }
        }
        let result = self.with_scratch(|ops, scratch| {
            ops.intercept_all(scratch)
                .or_else(|_| ops.intercept_up_to_error(hooks, scratch))
        });
        let Err(failed) = result else {
            return Ok(());
        };
        for hook in hooks.iter_mut() {
            if let Some(slot) = hook.slot(&self.table) {
                // SAFETY: Nodes on a stack are alive: a `Hook` that is attached keeps its node.
                unsafe { slot.remove(&hook.node) };
            }
            hook.attached = false;
        }
        cpu::synchronize_all();
        Err(failed)
    }

    /// Intercepts the functions of `hooks` that are new, of which one cannot be intercepted, and
    /// says which is the first; all or none, if that has changed meanwhile.
    ///
    /// Halves what may have it again and again: each attempt costs about as much, for whatever
    /// number of functions. `scratch` must have room for all of them.
    fn intercept_up_to_error(
        &mut self,
        hooks: &[Hook],
        scratch: &mut KVVec<CallSite>,
    ) -> Result<(), AttachError> {
        // Those before `done` are intercepted; before `refused`, there is one that cannot be.
        let (mut done, mut refused) = (0, hooks.len());
        while done < hooks.len() {
            let next = done + (refused - done).div_ceil(2);
            collect_lowest(hooks.get(done..next).unwrap_or_default(), scratch);
            match self.intercept_all(scratch) {
                Ok(()) => {
                    done = next;
                    if done == refused {
                        // It could be intercepted, this time.
                        refused = hooks.len();
                    }
                }
                Err(error) if next == done + 1 => {
                    collect_lowest(hooks.get(..done).unwrap_or_default(), scratch);
                    self.release(scratch);
                    return Err(error.at(done));
                }
                Err(_) => refused = next,
            }
        }
        Ok(())
    }

    /// Intercepts functions, all or none. Changes their order.
    fn intercept_all(&mut self, sites: &mut [CallSite]) -> Result<(), InterceptError> {
        let count = sites.len();
        // Bring those for the shared ops to the front.
        let shared = partition(sites, |site| !wants_single(site));
        if shared > 0 {
            self.intercept_batch(sites.get_mut(..shared).unwrap_or_default())?;
        }
        for done in shared..count {
            let Some(&site) = sites.get(done) else {
                break;
            };
            if let Err(error) = self.intercept_single(site) {
                self.release(sites.get_mut(..done).unwrap_or_default());
                return Err(error);
            }
        }
        // A direct call may have come before the filter grew, and not have made room: those move,
        // too. (The last one in the filter has just been registered with it, and that asks
        // everybody to make room.)
        for index in 0..shared {
            let Some(&site) = sites.get(index) else {
                break;
            };
            if self.in_shared < 2 || !ftrace::has_direct_call(site) {
                continue;
            }
            self.shrink_shared(&mut [site]);
            if let Err(error) = self.intercept_single(site) {
                // In no filter any more.
                sites.swap(index, count - 1);
                self.release(sites.get_mut(..count - 1).unwrap_or_default());
                return Err(error);
            }
        }
        Ok(())
    }

    /// Intercepts functions with the shared ops.
    fn intercept_batch(&mut self, sites: &mut [CallSite]) -> Result<(), InterceptError> {
        self.shared
            .filter(sites, Change::Add)
            .map_err(InterceptError::in_filter)?;
        if self.in_shared == 0 {
            if let Err(error) = self.shared.register() {
                // Not registered, so an empty filter is harmless, and taking out what was put in
                // cannot matter.
                let _ = self.shared.filter(sites, Change::Remove);
                return Err(InterceptError::in_register(error));
            }
        }
        self.in_shared += sites.len();
        Ok(())
    }

    /// Intercepts one function with an ops of its own.
    fn intercept_single(&mut self, site: CallSite) -> Result<(), InterceptError> {
        self.singles
            .reserve(1, GFP_KERNEL)
            .map_err(InterceptError::before)?;
        let mut single = FtraceOps::new(Registers::Arguments).map_err(InterceptError::before)?;
        single
            .filter(&mut [site], Change::Add)
            .map_err(InterceptError::in_filter)?;
        single.register().map_err(InterceptError::in_register)?;
        self.singles
            .push_within_capacity((site, single))
            .map_err(|_| InterceptError::before(ENOMEM))
    }

    /// Stops intercepting functions. Changes their order.
    fn release(&mut self, sites: &mut [CallSite]) {
        // Those whose calls jump: their module goes. They are in no filter.
        let kept = self.keep_jumps(sites);
        let leaving = self.jumps.get_mut(kept..).unwrap_or_default();
        sort::by_key(leaving, Jump::site);
        let jumps = partition(sites, |site| {
            leaving.binary_search_by_key(&site, Jump::site).is_ok()
        });
        let (_, sites) = sites.split_at_mut(jumps);
        if !leaving.is_empty() {
            // If ftrace is dead, the code is still there, but nobody calls the function.
            let _ = remove_jumps(leaving);
        }
        self.jumps.truncate(kept);

        // Bring those of the shared ops to the front.
        let is_shared = |site| !self.singles.iter().any(|(own, _)| *own == site);
        let shared = partition(sites, is_shared);
        let (shared, single) = sites.split_at_mut(shared);
        for site in single {
            // Dropping unregisters.
            self.singles.retain(|(own, _)| *own != *site);
        }

        if !shared.is_empty() && shared.len() == self.in_shared {
            // The last ones: an empty filter would mean every function.
            self.shared.unregister();
        }
        self.shrink_shared(shared);
        tell_direct_callers(shared);
    }

    /// Takes functions out of the filter of the shared ops.
    ///
    /// There is no way to fail: a function that stays in the filter is in the way of other users,
    /// and once its module is gone it cannot be taken out any more. So this waits for memory. Only
    /// if ftrace is dead they stay, and then handlers find empty stacks.
    fn shrink_shared(&mut self, sites: &mut [CallSite]) {
        let _ = with_memory(|| self.shared.filter(sites, Change::Remove));
        self.in_shared -= sites.len();
    }

    /// Makes jumps possible, if this was made with all registers. Functions must be intercepted
    /// already. Sleeps.
    ///
    /// # Errors
    ///
    /// The errors of [`JumpAnchor::new`]; there are no jumps then.
    pub(crate) fn allow_jumps(&mut self) -> Result {
        let site = ftrace::filter_anchor().ok_or_else(kapi::unsupported)?;
        self.intercept_batch(&mut [site])
            .map_err(|failed| failed.error)?;
        match JumpAnchor::new() {
            Ok(anchor) => {
                self.anchors = Some((anchor, site));
                Ok(())
            }
            Err(error) => {
                self.release(&mut [site]);
                Err(error)
            }
        }
    }

    /// Makes jumps impossible again. There must be none. May sleep for a long time.
    pub(crate) fn forbid_jumps(&mut self) {
        if let Some((anchor, site)) = self.anchors.take() {
            drop(anchor);
            self.release(&mut [site]);
        }
    }

    /// Returns whether there can be jumps.
    pub(crate) fn can_jump(&self) -> bool {
        self.anchors.is_some()
    }

    /// Lets calls of the functions of `hooks` jump to what runs there, as far as possible. Nothing
    /// may be in transition, and the functions must stay until their hooks are detached. Sleeps.
    ///
    /// # Errors
    ///
    /// Functions without a jump stay with the handler. `EINVAL` if somebody has just attached a
    /// direct call to one of them, and `ENOMEM`: it is worth another try. `ENODEV` if ftrace is
    /// dead.
    pub(crate) fn add_jumps<'h>(&mut self, hooks: impl Iterator<Item = &'h Hook>) -> Result {
        if !self.can_jump() {
            return Ok(());
        }
        let mut new = KVVec::new();
        for jump in hooks.filter_map(|hook| self.jump_of(hook)) {
            new.push(jump, GFP_KERNEL)?;
        }
        if new.is_empty() {
            return Ok(());
        }
        self.jumps.reserve(new.len(), GFP_KERNEL)?;
        // SAFETY: The code of a hook has the function's prototype. It stays while the hook is
        // attached, and so does the function; the jump is removed before the hook is detached.
        unsafe { ftrace::add_jumps(&new) }?;
        self.scratch.clear();
        for jump in new {
            let fits = self.jumps.push_within_capacity(jump).is_ok()
                && self.scratch.push_within_capacity(jump.site()).is_ok();
            kernel::warn_on!(!fits);
        }
        // Whoever was called by ftrace when there was no jump has called the handler.
        cpu::synchronize_all();
        self.with_scratch(|ops, scratch| ops.shrink_shared(scratch));
        Ok(())
    }

    /// The jump that calls of the function of `hook` can make; `None` if they need a handler.
    fn jump_of(&self, hook: &Hook) -> Option<Jump> {
        let site = hook.site.filter(|_| self.is_on_top(hook))?;
        let target = hook.node.target();
        let needs_handler = target == ORIGINAL
            || ftrace::has_direct_call(site)
            || self.singles.iter().any(|(own, _)| *own == site);
        Jump::new(site, target).filter(|_| !needs_handler)
    }

    /// Whether the hook is attached, and the one that decides where calls go outside transitions.
    fn is_on_top(&self, hook: &Hook) -> bool {
        let is_top = |slot: &Slot| core::ptr::eq(slot.top(), &*hook.node);
        hook.attached && hook.slot(&self.table).is_some_and(is_top)
    }

    /// Lets calls of the functions at `sites` go through handlers again, as they must before a
    /// transition is prepared. Sleeps.
    ///
    /// # Errors
    ///
    /// `EBUSY` if somebody has come to one of the functions who changes the instruction pointer;
    /// `ENODEV` if ftrace is dead; `ENOMEM`, unless all of the functions are intercepted. Calls go
    /// where they went then.
    pub(crate) fn remove_jumps(&mut self, sites: impl Iterator<Item = CallSite>) -> Result {
        if self.jumps.is_empty() {
            return Ok(());
        }
        self.scratch.clear();
        for site in sites {
            // There is room for those that are intercepted.
            self.scratch.push(site, GFP_KERNEL)?;
        }
        let kept = self.with_scratch(|ops, scratch| ops.keep_jumps(scratch));
        let leaving = self.jumps.get(kept..).unwrap_or_default();
        if leaving.is_empty() {
            return Ok(());
        }
        self.scratch.clear();
        for jump in leaving {
            let fits = self.scratch.push_within_capacity(jump.site());
            kernel::warn_on!(fits.is_err());
        }
        with_memory(|| self.shared.filter(&mut self.scratch, Change::Add))?;
        self.in_shared += leaving.len();
        // Whoever was called by ftrace when there was no handler has jumped.
        cpu::synchronize_all();
        if let Err(error) = remove_jumps(leaving) {
            self.with_scratch(|ops, scratch| ops.shrink_shared(scratch));
            return Err(error);
        }
        self.jumps.truncate(kept);
        Ok(())
    }

    /// Lets calls that jump to the code of `hooks`, not to that of others above them, go through
    /// handlers again. Sleeps.
    ///
    /// # Errors
    ///
    /// As [`Self::remove_jumps`].
    pub(crate) fn remove_jumps_to<'h>(&mut self, hooks: impl Iterator<Item = &'h Hook>) -> Result {
        if self.jumps.is_empty() {
            return Ok(());
        }
        let mut sites = KVVec::new();
        for site in hooks
            .filter(|hook| self.is_on_top(hook))
            .filter_map(Hook::site)
        {
            sites.push(site, GFP_KERNEL)?;
        }
        self.remove_jumps(sites.iter().copied())
    }

    /// Brings the jumps from `sites`, if there are any, behind the others, and returns how many
    /// others there are. Changes the order of both.
    fn keep_jumps(&mut self, sites: &mut [CallSite]) -> usize {
        sort::by_key(sites, |site| *site);
        partition(&mut self.jumps, |jump| {
            sites.binary_search(&jump.site()).is_err()
        })
    }

    /// Takes hooks off: those that `unlink` gives to the batch. When this returns, no handler uses
    /// them any more.
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
        self.with_scratch(|ops, scratch| ops.release(scratch));
        for site in &self.scratch {
            if let Some(slot) = self.table.find(site.address()) {
                // SAFETY: Only hooks of this batch are left on the stack, and they exist until
                // `detach` returns.
                while let Some(top) = unsafe { slot.top().as_ref() } {
                    // SAFETY: Only hooks of this batch are left on the stack, and they exist until
                    // `detach` returns.
                    unsafe { slot.remove(top) };
                }
            }
        }
        cpu::synchronize_all();
    }

    /// The code that runs below `hook` on its stack, `None` if that is the original function or the
    /// hook is not attached.
    pub(crate) fn below(&self, hook: &Hook) -> Option<Code> {
        if !hook.attached {
            return None;
        }
        let slot = hook.slot(&self.table)?;
        // SAFETY: Nodes on a stack are alive: a `Hook` that is attached keeps its node.
        let below = unsafe { slot.below(&hook.node) }?;
        (below.target() != ORIGINAL).then(|| Code {
            address: below.target(),
            size: below.size(),
        })
    }
}

impl Drop for Ops {
    fn drop(&mut self) {
        self.forbid_jumps();
        self.singles.clear();
        self.shared.unregister();
        // SAFETY: Handlers that still have the table are waited for below, before it is dropped.
        unsafe { handler::set_table(None) };
        cpu::synchronize_all();
    }
}

/// Removes jumps, all or none; waits for memory.
fn remove_jumps(jumps: &[Jump]) -> Result {
    with_memory(|| ftrace::remove_jumps(jumps))
}

/// Does what has no way to fail for want of memory again until there is some.
fn with_memory(mut what: impl FnMut() -> Result) -> Result {
    loop {
        match what() {
            Err(ENOMEM) => cpu::wait_a_moment(),
            result => return result,
        }
    }
}

/// Puts the sites of those hooks that are the lowest on their stacks, in order, into `sites`, which
/// must have room for them.
fn collect_lowest(hooks: &[Hook], sites: &mut KVVec<CallSite>) {
    sites.clear();
    let lowest = hooks.iter().filter(|hook| hook.node.is_lowest());
    for site in lowest.filter_map(|hook| hook.site) {
        let fits = sites.push_within_capacity(site);
        kernel::warn_on!(fits.is_err());
    }
}

/// Brings the items for which `first` is true to the front, and returns how many.
fn partition<T: Copy>(items: &mut [T], first: impl Fn(T) -> bool) -> usize {
    let mut count = 0;
    for index in 0..items.len() {
        if first(items[index]) {
            items.swap(count, index);
            count += 1;
        }
    }
    count
}

/// Whether the function at `site` needs an ops of its own.
fn wants_single(site: CallSite) -> bool {
    ftrace::has_direct_call(site) || ftrace::is_init(site)
}

/// Has ftrace tell the owners of direct calls at `sites` that nobody changes the instruction
/// pointer there any more: it does when an ops is unregistered, but not when a filter shrinks.
///
/// If there is no memory for that, or an owner has no time, the owners go on to leave room that
/// nobody needs, which makes their calls slower and does no other harm.
fn tell_direct_callers(sites: &mut [CallSite]) {
    let count = partition(sites, ftrace::has_direct_call);
    let sites = sites.get_mut(..count).unwrap_or_default();
    if sites.is_empty() {
        return;
    }
    if let Ok(mut messenger) = FtraceOps::new(Registers::Arguments) {
        let told = messenger
            .filter(sites, Change::Add)
            .and_then(|()| messenger.register());
        if told.is_ok() {
            messenger.unregister();
        }
    }
}

/// The hooks that one [`Ops::detach`] takes off.
///
/// They are borrowed for `'h`, which is longer than the call: a hook cannot be dropped before its
/// node is unlinked.
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
        let (Some(site), Some(slot)) = (hook.site, hook.slot(&self.ops.table)) else {
            kernel::warn_on!(true);
            return;
        };
        if slot.holds_only(&hook.node) {
            // Stays on the stack until the function is not intercepted any more: an empty stack
            // would send tasks to the original function that may still have to run the replacement.
            let noted = self.ops.scratch.push_within_capacity(site);
            kernel::warn_on!(noted.is_err());
        } else {
            let is_top = core::ptr::eq(slot.top(), &*hook.node);
            if kernel::warn_on!(is_top && self.ops.jumps.iter().any(|jump| jump.site() == site)) {
                // Calls jump to its code, not to that of the one below.
                return;
            }
            // SAFETY: Nodes on a stack are alive: a `Hook` that is attached keeps its node.
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
