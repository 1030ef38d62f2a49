// SPDX-License-Identifier: GPL-2.0

//! All registered patches, and what is done with them as a whole.
//!
//! # Locking
//!
//! [`static@REGISTRY`] is the registry lock, the core's only one; it stands for the C core's
//! `klp_mutex`. Everything that changes a patch holds it: enabling, disabling, a pass over the
//! tasks, modules coming and going. It is taken in process context, outside `klp_mutex`,
//! `module_mutex`, `tasklist_lock`, `cpus_read_lock()` and ftrace's locks, which are taken under
//! it. Callbacks of patch modules are called under it, so they must not load modules or write to
//! our files and wait for it.
//!
//! Without the lock run the ftrace handler ([`mod@crate::handler`]) and the functions by which
//! tasks switch themselves ([`mod@crate::transition`]).

use crate::{
    kapi::{
        self,
        cpu,
        kobject::Kobject,
        looks::Looks,
        module::{
            self,
            ModulePtr,
            ModuleRef, //
        },
        stacktrace,
        workqueue::{
            OwnedQueue,
            StaticWork,
            Work, //
        }, //
    },
    klp::{
        descriptor::{
            CheckedPatch,
            UncheckedPatch, //
        },
        module::{
            is_livepatch,
            set_alive, //
        }, //
    },
    lock::LockHeld,
    object::Object,
    ops::Ops,
    patch::{
        ModuleRefs,
        Patch, //
    },
    pure::patch_state::{
        PatchId,
        Target, //
    },
    state::{
        self,
        Previous, //
    },
    sysfs::RootDirectory,
    transition::{
        self,
        Progress,
        Transition, //
    },
};
use kernel::{
    prelude::*,
    sync::{
        Arc,
        Completion,
        GlobalGuard, //
    },
    time::msecs_to_jiffies, //
};

/// The time from the end of a transition, or from when a module comes, until calls may jump, in
/// milliseconds: more may follow, for which they would have to go through handlers again.
const JUMP_DELAY_MS: u32 = 1_000;

/// How often it is tried to disable the patch of a module that goes: once in so many moments
/// ([`cpu::wait_a_moment`]).
const DISABLE_EACH: u32 = 100;

/// So many passes follow each other if all tasks switch during one.
const PASSES_AT_ONCE: usize = 3;

/// Resources of the core while it is in charge.
pub(crate) struct Runtime {
    /// The directory `/sys/kernel/livepatch`.
    pub(crate) root: Kobject<RootDirectory>,
    /// The interceptions of functions.
    pub(crate) ops: Ops,
    /// Runs passes of a transition and frees patches.
    pub(crate) queue: OwnedQueue,
    /// Looks at tasks that do not stop running.
    pub(crate) looks: Looks,
    /// Whether calls of a new patch jump as far as there can be jumps.
    pub(crate) jumps_by_default: bool,
    /// Completed when the built-in core is in charge again.
    pub(crate) handed_back: Arc<Completion>,
}

impl Runtime {
    /// Has [`Registry::add_jumps`] called some time later, if there can be jumps, and not before
    /// that.
    fn add_jumps_later(&self) {
        if self.ops.can_jump() {
            JUMP_WORK.run_after(&self.queue, msecs_to_jiffies(JUMP_DELAY_MS));
        }
    }

    /// Has [`Registry::add_jumps`] called some time later, if there can be jumps, or before that if
    /// it is to be called anyway.
    fn add_jumps_soon(&self) {
        if self.ops.can_jump() {
            JUMP_WORK.run_within(&self.queue, msecs_to_jiffies(JUMP_DELAY_MS));
        }
    }
}

/// A transition, and which patch it is of.
struct Running {
    transition: Transition,
    index: usize,
}

/// The data that [`static@REGISTRY`] protects.
///
/// # Invariants
///
/// While there is a transition, `runtime` is there, `patches` has an entry at its index, and no
/// patch is taken out of `patches` at or below that. `retired` has room for all of `patches`
/// besides its own, and `unreleased` for all of both and for those that are being freed.
pub(crate) struct Registry {
    held: LockHeld,
    /// Enabled or in transition, oldest first.
    patches: KVec<KBox<Patch>>,
    running: Option<Running>,
    /// `None` before the take-over and after the hand-back.
    runtime: Option<Runtime>,
    /// Disabled or replaced, waiting for [`free_retired`].
    retired: KVec<KBox<Patch>>,
    /// How many patches [`free_retired`] has taken out of `retired` and not put into `unreleased`,
    /// or [`release_modules`] has taken out of that and not dropped.
    being_freed: usize,
    /// What keeps the code of patches that have been freed, waiting for [`release_modules`].
    unreleased: KVec<ModuleRefs>,
    last_id: PatchId,
}

/// The parts of the registry that an operation on one patch needs.
struct Parts<'a> {
    running: &'a mut Option<Running>,
    /// The patches below it.
    older: &'a mut [KBox<Patch>],
    patch: &'a mut Patch,
    runtime: &'a mut Runtime,
    held: &'a LockHeld,
}

pub(crate) use lock::{
    init,
    REGISTRY, //
};

/// The statics of this module, which need unsafe code.
#[allow(unsafe_code)]
mod lock {
    use super::*;

    kernel::sync::global_lock! {
        // SAFETY: `init` is called first thing in the module's init function.
        /// The registry lock.
        pub(crate) unsafe(uninit) static REGISTRY: Mutex<Registry> = empty();
    }

    /// The registry before anything is done with it.
    const fn empty() -> Registry {
        // SAFETY: It is put into what the registry lock protects, and nobody takes it out.
        let held = unsafe { LockHeld::new() };
        Registry::new(held)
    }

    /// Looks at the remaining tasks of a transition.
    // SAFETY: `init` initialises it before anything uses it.
    pub(super) static PASS: StaticWork = unsafe { StaticWork::uninit() };

    /// Frees retired patches.
    // SAFETY: `init` initialises it before anything uses it.
    pub(super) static FREE_WORK: StaticWork = unsafe { StaticWork::uninit() };

    /// Releases the modules of freed patches.
    // SAFETY: `init` initialises it before anything uses it.
    pub(super) static RELEASE_WORK: StaticWork = unsafe { StaticWork::uninit() };

    /// Lets calls jump.
    // SAFETY: `init` initialises it before anything uses it.
    pub(super) static JUMP_WORK: StaticWork = unsafe { StaticWork::uninit() };

    /// Makes the lock and the work items usable.
    ///
    /// # Safety
    ///
    /// Must be called once, before anything else in this module and in [`crate::transition`].
    pub(crate) unsafe fn init() {
        // SAFETY: Called once and first, by the safety requirements.
        unsafe { REGISTRY.init() };
        // SAFETY: Called once and first, by the safety requirements.
        unsafe { PASS.init::<Pass>() };
        // SAFETY: Called once and first, by the safety requirements.
        unsafe { FREE_WORK.init::<FreeRetired>() };
        // SAFETY: Called once and first, by the safety requirements.
        unsafe { RELEASE_WORK.init::<ReleaseModules>() };
        // SAFETY: Called once and first, by the safety requirements.
        unsafe { JUMP_WORK.init::<AddJumps>() };
        // SAFETY: Called once and first, by the safety requirements.
        unsafe { transition::init_last_switch::<LastSwitch>() };
    }
}
use lock::{
    FREE_WORK,
    JUMP_WORK,
    PASS,
    RELEASE_WORK, //
};

/// Runs a pass over the tasks.
struct Pass;

impl Work for Pass {
    fn run() {
        REGISTRY.lock().run_pass();
    }
}

/// Has a pass run now: the last task has switched itself.
struct LastSwitch;

impl Work for LastSwitch {
    fn run() {
        PASS.run_now();
    }
}

/// The work of [`free_retired`].
struct FreeRetired;

impl Work for FreeRetired {
    fn run() {
        free_retired();
    }
}

/// The work of [`release_modules`].
struct ReleaseModules;

impl Work for ReleaseModules {
    fn run() {
        release_modules();
    }
}

/// The work of [`Registry::add_jumps`].
struct AddJumps;

impl Work for AddJumps {
    fn run() {
        REGISTRY.lock().add_jumps();
    }
}

/// The built-in core is in charge: the request arrived after the hand-back.
pub(crate) struct NotInCharge;

/// Takes the registry lock, if this core is in charge.
fn lock_in_charge() -> Result<GlobalGuard<REGISTRY>, NotInCharge> {
    let registry = REGISTRY.lock();
    if registry.runtime.is_some() {
        Ok(registry)
    } else {
        Err(NotInCharge)
    }
}

/// Why a patch was not accepted, and what there was of it, to be dropped without the registry lock.
struct Rejected {
    error: Error,
    _patch: Option<KBox<Patch>>,
}

impl<E: Into<Error>> From<E> for Rejected {
    fn from(error: E) -> Self {
        Self {
            error: error.into(),
            _patch: None,
        }
    }
}

impl Registry {
    const fn new(held: LockHeld) -> Self {
        // INVARIANT: There are no patches and no transition.
        Self {
            held,
            patches: KVec::new(),
            running: None,
            runtime: None,
            retired: KVec::new(),
            being_freed: 0,
            unreleased: KVec::new(),
            last_id: PatchId::NONE,
        }
    }

    /// Starts to be in charge.
    pub(crate) fn set_runtime(&mut self, runtime: Runtime) {
        self.runtime = Some(runtime);
    }

    /// Whether nothing is left of any patch.
    fn is_unused(&self) -> bool {
        self.patches.is_empty()
            && self.retired.is_empty()
            && self.being_freed == 0
            && self.unreleased.is_empty()
    }

    /// Stops being in charge. There must be no patches; the memory of the lists is freed.
    pub(crate) fn take_runtime(&mut self) -> Option<Runtime> {
        // Only who unloads the module by force need not care about references on it; and that has
        // been waited for.
        if !kernel::warn_on!(!self.patches.is_empty()) {
            self.patches = KVec::new();
            self.retired = KVec::new();
            self.unreleased = KVec::new();
        }
        self.runtime.take()
    }

    /// Where the patch is in the stack, 0 for the oldest.
    fn position(&self, id: PatchId) -> Option<usize> {
        self.patches.iter().position(|patch| patch.id() == id)
    }

    /// Where the patch of this module is in the stack, if it is enabled.
    fn enabled_patch_of(&self, module: ModulePtr) -> Option<usize> {
        let mut patches = self.patches.iter();
        patches.position(|patch| patch.is_enabled() && patch.module() == module)
    }

    /// Whether a reference on this module may be held for a patch: it is for certain if the patch
    /// is on one of the lists. One that was forced is not counted any more when it has been freed.
    fn may_hold(&self, module: ModulePtr) -> bool {
        let is_of = |patch: &KBox<Patch>| patch.module() == module;
        self.being_freed > 0
            || self.patches.iter().any(is_of)
            || self.retired.iter().any(is_of)
            || self.unreleased.iter().any(|refs| refs.is_of(module))
    }

    /// Has the patch of a module that goes disabled, unless another one is in transition.
    fn disable_patch_of(&mut self, module: ModulePtr) {
        match self.enabled_patch_of(module) {
            Some(index) if self.is_in_transition(index) => self.reverse(),
            Some(index) => {
                // Else the caller tries again.
                let _ = self.start_disabling(index);
            }
            None => (),
        }
    }

    /// The patch at `index` and what is needed to work on it.
    fn parts(&mut self, index: usize) -> Option<Parts<'_>> {
        let (older, rest) = self.patches.split_at_mut_checked(index)?;
        Some(Parts {
            running: &mut self.running,
            older,
            patch: rest.first_mut()?,
            runtime: self.runtime.as_mut()?,
            held: &self.held,
        })
    }

    /// The patch in transition and what is needed to work on it; `None` outside a transition.
    fn parts_in_transition(&mut self) -> Option<Parts<'_>> {
        let index = self.running.as_ref()?.index;
        let parts = self.parts(index);
        // Cannot happen, by the type's invariants.
        kernel::warn_on!(parts.is_none());
        parts
    }

    /// Whether the patch at `index` is in transition.
    fn is_in_transition(&self, index: usize) -> bool {
        self.running
            .as_ref()
            .is_some_and(|running| running.index == index)
    }

    /// Looks at the tasks, and does what comes next. Nothing outside a transition.
    fn run_pass(&mut self) {
        // Where processors are busy, it takes a while until a work item runs.
        for _ in 0..PASSES_AT_ONCE {
            if !self.run_one_pass() {
                return;
            }
        }
        PASS.run_now();
    }

    /// Makes one pass, and returns whether all tasks that it left have switched meanwhile.
    fn run_one_pass(&mut self) -> bool {
        let Some(parts) = self.parts_in_transition() else {
            return false;
        };
        let Some(running) = parts.running else {
            return false;
        };
        let looks = &parts.runtime.looks;
        match running.transition.try_complete(parts.patch, looks) {
            Progress::Remaining(step, wake_at) => {
                if let Some(signal) = step.signal {
                    transition::send_signals(signal);
                }
                let delay = u32::try_from(step.retry_ms).unwrap_or(u32::MAX);
                PASS.run_after(&parts.runtime.queue, msecs_to_jiffies(delay));
                wake_at.arm()
            }
            Progress::Complete => {
                self.complete();
                false
            }
        }
    }

    /// Ends the transition, and retires what it has made useless: a patch that was disabled, or
    /// those that an enabled one replaced.
    fn complete(&mut self) {
        let Some(parts) = self.parts_in_transition() else {
            return;
        };
        let Some(Running { transition, index }) = parts.running.take() else {
            return;
        };
        transition.complete(parts.older, parts.patch, &mut parts.runtime.ops);
        parts.runtime.add_jumps_later();
        parts.patch.notify_transition();
        if parts.patch.is_enabled() && parts.patch.replaces() {
            // They have been disabled.
            parts
                .older
                .iter()
                .for_each(|older| older.notify_transition());
        }
        let useless = match (parts.patch.is_enabled(), parts.patch.replaces()) {
            (false, _) => index..index + 1,
            (true, true) => 0..index,
            (true, false) => return,
        };
        for _ in useless.clone() {
            self.retire(useless.start);
        }
        if let Some(runtime) = &self.runtime {
            FREE_WORK.run_after(&runtime.queue, 0);
        }
    }

    /// Lets calls jump to replacements, unless a transition is under way; its end leads here again.
    fn add_jumps(&mut self) {
        let Some(runtime) = self.runtime.as_mut().filter(|_| self.running.is_none()) else {
            return;
        };
        let jumping = self.patches.iter().filter(|patch| patch.may_jump());
        let objects = jumping.flat_map(|patch| patch.objects.iter());
        // If ftrace is dead, they stay with the handler.
        if let Err(EINVAL | ENOMEM) = runtime.ops.add_jumps(objects.flat_map(Object::hooks)) {
            runtime.add_jumps_later();
        }
    }

    /// Moves the patch at `index` to those that are to be freed.
    fn retire(&mut self, index: usize) {
        if let Ok(patch) = self.patches.remove(index) {
            for younger in &mut self.patches {
                if let Some(previous) = &mut younger.previous {
                    previous.remove(patch.id());
                }
            }
            let fits = self.retired.push_within_capacity(patch);
            kernel::warn_on!(fits.is_err());
        }
    }

    /// Allocates what a new patch needs, with `core` as the reference on this module.
    fn allocate(&mut self, described: CheckedPatch, core: ModuleRef) -> Result<KBox<Patch>> {
        let count = self.patches.len() + 1;
        self.patches.reserve(1, GFP_KERNEL)?;
        self.retired.reserve(count, GFP_KERNEL)?;
        // INVARIANT: Those that `free_retired` is busy with are in none of the lists.
        let count = count + self.retired.len() + self.being_freed;
        self.unreleased.reserve(count, GFP_KERNEL)?;
        self.last_id = self.last_id.next();
        let patch = Patch::new(self.last_id, described, core)?;
        let may_jump = |runtime: &Runtime| runtime.jumps_by_default && runtime.ops.can_jump();
        patch.set_may_jump(self.runtime.as_ref().is_some_and(may_jump));
        Ok(patch)
    }

    /// Checks that a patch fits to those that are installed.
    fn check_compatible(&self, described: &CheckedPatch) -> Result {
        let module = described.module();
        let compatible = self
            .patches
            .iter()
            .all(|installed| state::is_compatible(described, installed.descriptor()));
        if !compatible {
            pr_err!(
                "Livepatch patch ({}) is not compatible with the already installed livepatches.\n",
                module.name()
            );
            return Err(EINVAL);
        }
        if self.patches.iter().any(|patch| patch.module() == module) {
            pr_err!("module {} has registered a patch already\n", module.name());
            return Err(EEXIST);
        }
        Ok(())
    }

    /// Registers a patch and starts to enable it.
    fn add(&mut self, described: CheckedPatch, core: ModuleRef) -> Result<(), Rejected> {
        self.check_compatible(&described)?;
        let mut patch = self.allocate(described, core)?;
        if let Err(error) = self.prepare(&mut patch) {
            return Err(Rejected {
                error,
                _patch: Some(patch),
            });
        }
        let index = self.patches.len();
        self.patches
            .push_within_capacity(patch)
            .map_err(|full| Rejected {
                error: ENOMEM,
                _patch: Some(full.0),
            })?;
        self.start_enabling(index).map_err(|error| Rejected {
            error,
            _patch: self.patches.pop(),
        })
    }

    /// Adds to a new patch what it takes over from older ones, and makes it ready to be enabled.
    fn prepare(&self, patch: &mut Patch) -> Result {
        let runtime = self.runtime.as_ref().ok_or(ENODEV)?;
        let older = self.patches.iter();
        patch.previous = Some(Previous::new(
            older.clone().map(|old| (old.id(), old.descriptor())),
        )?);
        if patch.replaces() {
            older.clone().try_for_each(|old| patch.add_nops(old))?;
        }
        patch.prepare(&runtime.root, &self.held)
    }

    /// Redirects the functions of the patch at `index`, the newest one, and starts its transition.
    #[doc(alias = "__klp_enable_patch")]
    fn start_enabling(&mut self, index: usize) -> Result {
        let parts = self.parts(index).ok_or(EINVAL)?;
        if parts.running.is_some() {
            return Err(EBUSY);
        }
        let (patch, ops) = (parts.patch, &mut parts.runtime.ops);
        pr_notice!("enabling patch '{}'\n", patch.name());
        patch
            .remove_jumps(ops)
            .inspect_err(|_| pr_warn!("failed to enable patch '{}'\n", patch.name()))?;

        let mut transition = Transition::init(patch, Target::Patched);
        // ORDERING: The release store in `Slot::push` puts the transition flags before the
        // replacements become visible; pairs with the acquire loads in `Slot::select`.

        let result = patch
            .objects
            .iter_mut()
            .filter(|object| object.is_loaded())
            .try_for_each(|object| patch_object(object, ops));
        if let Err(error) = result {
            pr_warn!("failed to enable patch '{}'\n", patch.name());
            transition.cancel(patch, ops);
            patch.notify_transition();
            parts.runtime.add_jumps_later();
            return Err(error);
        }

        transition.start(patch, ops);
        patch.set_enabled(true);
        patch.notify_transition();
        // INVARIANT: The patch is at `index`.
        *parts.running = Some(Running { transition, index });
        self.run_pass();
        Ok(())
    }

    /// Starts to disable the patch at `index`.
    #[doc(alias = "__klp_disable_patch")]
    fn start_disabling(&mut self, index: usize) -> Result {
        let parts = self.parts(index).ok_or(EINVAL)?;
        if parts.running.is_some() {
            return Err(EBUSY);
        }
        let patch = parts.patch;
        patch.remove_jumps(&mut parts.runtime.ops)?;
        let mut transition = Transition::init(patch, Target::Unpatched);
        let patched = patch
            .objects
            .iter_mut()
            .filter(|object| object.is_patched());
        patched.for_each(Object::pre_unpatch);
        transition.start(patch, &parts.runtime.ops);
        patch.set_enabled(false);
        patch.notify_transition();
        // INVARIANT: The patch is at `index`.
        *parts.running = Some(Running { transition, index });
        self.run_pass();
        Ok(())
    }

    /// Turns the transition round.
    fn reverse(&mut self) {
        let Some(parts) = self.parts_in_transition() else {
            return;
        };
        if let Some(running) = parts.running {
            let runtime = parts.runtime;
            running.transition.reverse(parts.patch, &runtime.ops);
            parts.patch.notify_transition();
            // Tasks that had not switched are there already; what remains may be few.
            PASS.run_after(&runtime.queue, 1);
        }
    }

    /// Switches the remaining tasks; modules whose code they may still run stay for ever.
    fn force(&mut self) {
        let Some(parts) = self.parts_in_transition() else {
            return;
        };
        let Some(running) = parts.running else {
            return;
        };
        match running.transition.force() {
            Target::Unpatched => parts.patch.set_forced(),
            Target::Patched if parts.patch.replaces() => {
                parts.older.iter_mut().for_each(|old| old.set_forced());
            }
            Target::Patched => (),
        }
        PASS.run_after(&parts.runtime.queue, 0);
    }

    /// Makes the list that stacks are checked against anew: a module has come or gone.
    fn update_stack_check(&mut self) {
        if let Some(parts) = self.parts_in_transition() {
            if let Some(running) = parts.running {
                running
                    .transition
                    .update_stack_check(parts.patch, &parts.runtime.ops);
            }
        }
    }

    /// Applies all patches to a module that is being loaded.
    fn patch_module(&mut self, module: ModulePtr) -> Result {
        set_alive(module, true, &self.held);
        for index in 0..self.patches.len() {
            let in_transition = self.is_in_transition(index);
            let Some(parts) = self.parts(index) else {
                continue;
            };
            let (patch, ops) = (parts.patch, &mut parts.runtime.ops);
            if let Err(error) = patch_coming(patch, module, ops, in_transition, parts.held) {
                pr_warn!(
                    "patch '{}' failed for module '{}', refusing to load module '{}'\n",
                    patch.name(),
                    module.name(),
                    module.name()
                );
                set_alive(module, false, &self.held);
                self.unpatch_module(module, index);
                return Err(error);
            }
        }
        Ok(())
    }

    /// Takes the first `count` patches off a module that goes.
    #[doc(alias = "klp_cleanup_module_patches_limited")]
    fn unpatch_module(&mut self, module: ModulePtr, count: usize) {
        for index in 0..count {
            let in_transition = self.is_in_transition(index);
            let Some(parts) = self.parts(index) else {
                continue;
            };
            let pmod = parts.patch.module();
            let Some(object) = parts.patch.object_of(module) else {
                continue;
            };
            if !in_transition {
                object.pre_unpatch();
            }
            pr_notice!(
                "reverting patch '{}' on unloading module '{}'\n",
                pmod.name(),
                module.name()
            );
            parts.runtime.ops.detach(|batch| object.unpatch(batch));
            object.post_unpatch();
            object.unresolve(pmod, parts.held);
        }
    }
}

/// Frees retired patches, but for the references on modules. Process context, without the registry
/// lock.
///
/// No handler uses them any more, and no task on the list runs their code.
pub(crate) fn free_retired() {
    while let Some(patch) = take_retired() {
        // Takes the directory away, without the lock.
        let modules = Patch::free(patch);
        let mut registry = REGISTRY.lock();
        registry.being_freed -= 1;
        let fits = registry.unreleased.push_within_capacity(modules);
        kernel::warn_on!(fits.is_err());
        if let Some(runtime) = &registry.runtime {
            RELEASE_WORK.run_after(&runtime.queue, 0);
        }
    }
}

/// Takes out the patch that has been retired first.
fn take_retired() -> Option<KBox<Patch>> {
    let mut registry = REGISTRY.lock();
    let patch = registry.retired.remove(0).ok()?;
    registry.being_freed += 1;
    Some(patch)
}

/// Gives up the modules of patches that have been freed. Process context, without the registry
/// lock. May sleep for a long time.
///
/// The transition has made sure that no task on the list runs their code. Those that exit have left
/// the list before they are done; they are waited for here, for all modules at once, as far as
/// [`cpu::synchronize_tasks`] does. Nobody but who wants to unload a module waits for this.
pub(crate) fn release_modules() {
    loop {
        let waiting = REGISTRY.lock().unreleased.len();
        if waiting == 0 {
            return;
        }
        cpu::synchronize_tasks();
        for _ in 0..waiting {
            let mut registry = REGISTRY.lock();
            let modules = registry.unreleased.remove(0);
            registry.being_freed += 1;
            drop(registry);
            // Dropped here, without the lock.
            drop(modules);
            REGISTRY.lock().being_freed -= 1;
        }
    }
}

/// Makes the queue of [`Runtime`]. It must be dropped without the registry lock.
///
/// # Errors
///
/// `ENOMEM`.
pub(crate) fn new_queue() -> Result<OwnedQueue> {
    static ITEMS: [&StaticWork; 4] = [&PASS, &FREE_WORK, &RELEASE_WORK, &JUMP_WORK];
    OwnedQueue::new(c"livepatch", &ITEMS)
}

/// Registers a patch and starts to enable it. Process context; sleeps.
///
/// # Errors
///
/// * `EINVAL`: incomplete description, module not marked as a livepatch, not compatible with the
///   states of installed patches, a symbol that is not clear, a name that is too long, a function
///   that ftrace cannot intercept.
/// * `ENODEV`: the module is going, or ftrace is dead.
/// * `EEXIST`: the module has registered a patch already, or describes an object or function twice.
/// * `EBUSY`: another patch is in transition, or somebody else changes the instruction pointer in
///   one of the functions.
/// * `EAGAIN`: the owner of a BPF trampoline at one of the functions has no time to make room for
///   us just now.
/// * `ENOENT`: the size of a function is unknown. `ENOMEM`. What a callback returned.
#[doc(alias = "klp_enable_patch")]
pub(crate) fn enable(patch: UncheckedPatch) -> Result<Result, NotInCharge> {
    let described = match patch.check() {
        Ok(described) => described,
        Err(error) => return Ok(Err(error)),
    };
    let module = described.module();
    if !is_livepatch(module) {
        pr_err!(
            "module {} is not marked as a livepatch module\n",
            module.name()
        );
        return Ok(Err(EINVAL));
    }
    if !stacktrace::have_reliable_stacks() {
        pr_warn!("This architecture doesn't have support for the livepatch consistency model.\n");
        pr_warn!("The livepatch transition may never complete.\n");
    }

    let mut registry = lock_in_charge()?;
    let Some(core) = ModuleRef::try_get(module::this_module()) else {
        // This module is about to go. The built-in core takes the patch when it can.
        let handed_back = registry
            .runtime
            .as_ref()
            .map(|runtime| runtime.handed_back.clone());
        drop(registry);
        if let Some(handed_back) = handed_back {
            handed_back.wait_for_completion();
        }
        return Err(NotInCharge);
    };
    let result = registry.add(described, core);
    drop(registry);
    // What a failed patch has left is dropped here, without the lock.
    Ok(result.map_err(|rejected| rejected.error))
}

fn patch_object(object: &mut Object, ops: &mut Ops) -> Result {
    object.pre_patch().inspect_err(|_| {
        pr_warn!(
            "pre-patch callback failed for object '{}'\n",
            object.display_name()
        );
    })?;
    object.patch(ops).inspect_err(|_| {
        pr_warn!("failed to patch object '{}'\n", object.display_name());
    })
}

/// Does what a write to `enabled` asks for: disable a patch, or reverse its transition. Process
/// context; sleeps.
///
/// # Errors
///
/// `EINVAL` if the patch is in that state already or is gone: a disabled patch is enabled again
/// only by loading its module anew. `EBUSY` if another patch is in transition. If calls jump, the
/// errors of [`Ops::remove_jumps`].
pub(crate) fn set_enabled(id: PatchId, enabled: bool) -> Result {
    let mut registry = REGISTRY.lock();
    let index = registry.position(id).ok_or(EINVAL)?;
    let patch = registry.patches.get(index).ok_or(EINVAL)?;
    if patch.is_enabled() == enabled {
        return Err(EINVAL);
    }
    if registry.is_in_transition(index) {
        registry.reverse();
        Ok(())
    } else if enabled {
        Err(EINVAL)
    } else {
        registry.start_disabling(index)
    }
}

/// Does what a write to `force` asks for: switch the remaining tasks without looking. Process
/// context.
///
/// # Errors
///
/// `EINVAL` if the patch is not in transition.
pub(crate) fn force(id: PatchId) -> Result {
    let mut registry = REGISTRY.lock();
    let index = registry.position(id).ok_or(EINVAL)?;
    if !registry.is_in_transition(index) {
        return Err(EINVAL);
    }
    registry.force();
    Ok(())
}

/// Does what a write to `direct` asks for: lets calls of the functions of a patch jump soon, or has
/// them go through handlers. Process context; sleeps.
///
/// # Errors
///
/// `EINVAL` if the patch is gone; `EOPNOTSUPP` if there can be no jumps. If they jump and are to go
/// through handlers, the errors of [`Ops::remove_jumps_to`]; nothing has changed then.
pub(crate) fn set_may_jump(id: PatchId, may_jump: bool) -> Result {
    let mut registry = REGISTRY.lock();
    let index = registry.position(id).ok_or(EINVAL)?;
    let parts = registry.parts(index).ok_or(EINVAL)?;
    let (patch, runtime) = (parts.patch, parts.runtime);
    if !may_jump {
        patch.remove_jumps_to_it(&mut runtime.ops)?;
    } else if runtime.ops.can_jump() {
        runtime.add_jumps_soon();
    } else {
        return Err(kapi::unsupported());
    }
    patch.set_may_jump(may_jump);
    Ok(())
}

/// The number that `stack_order` shows: 1 for the oldest patch.
pub(crate) fn stack_order(id: PatchId) -> usize {
    let registry = REGISTRY.lock();
    registry
        .position(id)
        .map_or(registry.patches.len(), |index| index + 1)
}

/// Patches the functions of a module that is being loaded, before they can run. Process context;
/// sleeps.
///
/// # Errors
///
/// The errors of [`Object::relocate`], [`Object::resolve`], a callback or [`Object::patch`]: the
/// module must not be loaded then.
#[doc(alias = "klp_module_coming")]
pub(crate) fn module_coming(module: ModulePtr) -> Result<Result, NotInCharge> {
    let mut registry = lock_in_charge()?;
    let result = registry.patch_module(module);
    registry.update_stack_check();
    if let Some(runtime) = &registry.runtime {
        runtime.add_jumps_soon();
    }
    Ok(result)
}

/// Applies one patch to a module that is being loaded, if it changes it.
fn patch_coming(
    patch: &mut Patch,
    module: ModulePtr,
    ops: &mut Ops,
    in_transition: bool,
    held: &LockHeld,
) -> Result {
    let pmod = patch.module();
    let pname = pmod.name();
    let Some(object) = patch.object_of(module) else {
        return Ok(());
    };

    object.set_module(Some(module));
    let tell = |error: &Error| {
        pr_warn!(
            "failed to initialize patch '{}' for module '{}' ({})\n",
            pname,
            module.name(),
            error.to_errno()
        );
    };
    if let Err(error) = object.relocate(pmod, held) {
        tell(&error);
        object.set_module(None);
        return Err(error);
    }
    let result = object
        .resolve(pmod)
        .inspect_err(tell)
        .and_then(|()| patch_resolved(object, pname, module, ops, in_transition));
    if result.is_err() {
        // Else the relocations could not be written when the module comes again.
        object.unresolve(pmod, held);
    }
    result
}

/// Does the last part of [`patch_coming`], for an object whose functions have been found.
fn patch_resolved(
    object: &mut Object,
    pname: &CStr,
    module: ModulePtr,
    ops: &mut Ops,
    in_transition: bool,
) -> Result {
    pr_notice!(
        "applying patch '{}' to loading module '{}'\n",
        pname,
        module.name()
    );
    object.pre_patch().inspect_err(|_| {
        pr_warn!(
            "pre-patch callback failed for object '{}'\n",
            object.display_name()
        );
    })?;
    if let Err(error) = object.patch(ops) {
        pr_warn!(
            "failed to apply patch '{}' to module '{}' ({})\n",
            pname,
            module.name(),
            error.to_errno()
        );
        object.post_unpatch();
        return Err(error);
    }
    if !in_transition {
        object.post_patch();
    }
    Ok(())
}

/// Takes the patches off a module that is being unloaded, or could not be loaded. Process context;
/// sleeps.
///
/// If a patch of the module itself is in force, its init function has failed after it enabled the
/// patch, or it is unloaded by force. The loader does not care about references then. So the patch
/// is disabled, and this waits until nobody runs its code. What describes the patch is not used any
/// more by then, since the module may have freed it ([`mod@crate::klp::descriptor`]); so the
/// callbacks for unpatching are not called. The C core lets the module go with its code in use.
#[doc(alias = "klp_module_going")]
pub(crate) fn module_going(module: ModulePtr) -> Result<(), NotInCharge> {
    let mut registry = lock_in_charge()?;
    if registry.enabled_patch_of(module).is_some() {
        pr_warn!("module '{}' goes with its patch in force\n", module.name());
    }
    for moment in (0..DISABLE_EACH).cycle() {
        if !is_livepatch(module) || !registry.may_hold(module) {
            break;
        }
        if moment == 0 {
            registry.disable_patch_of(module);
        }
        drop(registry);
        cpu::wait_a_moment();
        registry = lock_in_charge()?;
    }
    set_alive(module, false, &registry.held);
    let all = registry.patches.len();
    registry.unpatch_module(module, all);
    registry.update_stack_check();
    Ok(())
}

/// How often to look whether there are patches before saying that there are: for 0.1 s.
const UNUSED_AT_ONCE: u32 = 10;

/// Waits until there are no patches any more. Process context, without the registry lock; sleeps.
///
/// There are none when the module is unloaded, unless that is done by force; at most somebody is
/// about to note that he has freed the last one, which takes no time.
pub(crate) fn wait_until_unused() {
    let mut waits = 0;
    while !REGISTRY.lock().is_unused() {
        waits += 1;
        if waits == UNUSED_AT_ONCE {
            pr_warn!("unloaded by force: waiting until the patches are gone\n");
        }
        cpu::wait_a_moment();
    }
}
