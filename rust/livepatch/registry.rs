// SPDX-License-Identifier: GPL-2.0

//! All registered patches, and what is done with them as a whole.
//!
//! # Locking
//!
//! [`static@REGISTRY`] is the core's one lock; it stands for the C core's `klp_mutex`. Everything that changes a patch holds it:
//! enabling, disabling, a pass over the tasks, modules coming and going. It is taken in process context, outside
//! `klp_mutex`, `tasklist_lock`, `cpus_read_lock()` and ftrace's locks, which are taken under it. Callbacks of patch
//! modules are called under it, so they must not load modules or write to our files and wait for it.
//!
//! Without the lock run the ftrace handler ([`crate::ops`]) and the functions by which tasks switch themselves
//! ([`crate::transition`]).

#![deny(unsafe_code)]

use crate::{
    kapi::{
        cpu,
        descriptor::PatchDescriptor,
        kobject::Kobject,
        module::{
            ModulePtr,
            ModuleRef, //
        },
        task,
        workqueue::OwnedQueue, //
    },
    object::Object,
    ops::Ops,
    patch::Patch,
    state::{
        self,
        Previous, //
    },
    sysfs::RootDirectory,
    takeover,
    transition::{
        self,
        Target,
        Transition, //
    },
};
use kernel::{
    prelude::*,
    sync::GlobalGuard, //
};

/// Identifies a patch among all that there ever were; 0 is none.
pub(crate) type PatchId = u64;

/// What the core works with while it is in charge.
pub(crate) struct Engine {
    /// `/sys/kernel/livepatch`.
    pub(crate) root: Kobject<RootDirectory>,
    /// The interceptions.
    pub(crate) ops: Ops,
    /// Runs passes of a transition and frees patches.
    pub(crate) queue: OwnedQueue,
}

/// What [`static@REGISTRY`] protects.
pub(crate) struct Registry {
    /// Enabled or in transition, oldest first.
    pub(crate) patches: KVec<KBox<Patch>>,
    /// The one in transition.
    pub(crate) transition: Option<Transition>,
    /// `None` before the take-over and after the hand-back.
    pub(crate) engine: Option<Engine>,
    /// Disabled or replaced, waiting for [`bury`]. Has room for all of `patches` too.
    graveyard: KVec<KBox<Patch>>,
    last_id: PatchId,
}

pub(crate) use lock::REGISTRY;

#[allow(unsafe_code)]
mod lock {
    use super::*;

    kernel::sync::global_lock! {
        // SAFETY: `init` is called first thing in the module's init function.
        /// The core's lock.
        pub(crate) unsafe(uninit) static REGISTRY: Mutex<Registry> = Registry::new();
    }

    /// Makes the lock usable.
    ///
    /// # Safety
    ///
    /// Must be called once, before anything else in this module.
    pub(crate) unsafe fn init() {
        // SAFETY: once, says the caller.
        unsafe { REGISTRY.init() };
    }
}
pub(crate) use lock::init;

/// Evidence that the core's lock is held.
pub(crate) type Guard = GlobalGuard<REGISTRY>;

impl Registry {
    const fn new() -> Self {
        Self {
            patches: KVec::new(),
            transition: None,
            engine: None,
            graveyard: KVec::new(),
            last_id: 0,
        }
    }

    /// Where the patch is in the stack, 0 for the oldest.
    pub(crate) fn position(&self, id: PatchId) -> Option<usize> {
        self.patches.iter().position(|patch| patch.id() == id)
    }

    /// A patch that is registered.
    pub(crate) fn patch(&self, id: PatchId) -> Option<&Patch> {
        self.patches
            .iter()
            .find(|patch| patch.id() == id)
            .map(|patch| &**patch)
    }

    /// A patch that is registered.
    pub(crate) fn patch_mut(&mut self, id: PatchId) -> Option<&mut Patch> {
        self.patches
            .iter_mut()
            .find(|patch| patch.id() == id)
            .map(|patch| &mut **patch)
    }

    /// The patch's name, for messages.
    pub(crate) fn name_of(&self, id: PatchId) -> &CStr {
        self.patch(id).map_or(c"?", Patch::name)
    }

    /// Moves the patch at `index` to those that are to be freed.
    fn retire(&mut self, index: usize) {
        if let Ok(patch) = self.patches.remove(index) {
            for younger in &mut self.patches {
                if let Some(previous) = &mut younger.previous {
                    previous.forget(patch.id());
                }
            }
            let fits = self.graveyard.push_within_capacity(patch);
            kernel::warn_on!(fits.is_err());
        }
    }

    /// Frees what the transition that just completed has made useless: a patch that was disabled, or those that an
    /// enabled one replaced.
    pub(crate) fn retire_after(&mut self, id: PatchId) {
        let Some(index) = self.position(id) else {
            return;
        };
        match self.patches.get(index) {
            Some(patch) if !patch.is_enabled() => self.retire(index),
            Some(patch) if patch.replaces() => (0..index).for_each(|_| self.retire(0)),
            _ => return,
        }
        if let Some(engine) = &self.engine {
            crate::BURIAL.run_after(&engine.queue, 0);
        }
    }
}

/// Frees retired patches. Process context, without the lock.
///
/// The transition has made sure that no task on the list runs their code. Those that exit have left the list before they
/// are done; they are waited for here, for all patches at once.
pub(crate) fn bury() {
    loop {
        let waiting = REGISTRY.lock().graveyard.len();
        if waiting == 0 {
            return;
        }
        cpu::synchronize_tasks();
        for _ in 0..waiting {
            let patch = REGISTRY.lock().graveyard.remove(0);
            // Dropped here, without the lock.
            drop(patch);
        }
    }
}

/// Checks that the description is complete.
#[doc(alias = "klp_check_patch")]
fn check(descriptor: PatchDescriptor) -> Result<ModulePtr> {
    let module = descriptor.module().ok_or(EINVAL)?;
    for object in descriptor.objects().ok_or(EINVAL)? {
        for func in object.funcs().ok_or(EINVAL)? {
            func.old_name().ok_or(EINVAL)?;
        }
    }
    Ok(module)
}

/// What came of a request that may have arrived after the hand-back.
pub(crate) enum Outcome<T> {
    /// Done here.
    Done(T),
    /// The built-in core is in charge again: ask it.
    NotInCharge,
}

/// Registers a patch and starts to enable it. Process context; sleeps.
///
/// # Errors
///
/// * `EINVAL`: incomplete description, module not marked as a livepatch, not compatible with the states of installed
///   patches, a symbol that is not clear, a name that is too long, a function that ftrace cannot intercept.
/// * `ENODEV`: the module is going.
/// * `EEXIST`: the module has registered a patch already, or describes an object or function twice.
/// * `EBUSY`: another patch is in transition, or somebody else changes the instruction pointer in one of the functions.
/// * `ENOENT`: the size of a function is unknown. `ENOMEM`. What a callback returned.
#[doc(alias = "klp_enable_patch")]
pub(crate) fn enable(descriptor: PatchDescriptor) -> Outcome<Result> {
    let module = match check(descriptor) {
        Ok(module) => module,
        Err(error) => return Outcome::Done(Err(error)),
    };
    if !module.is_livepatch() {
        pr_err!(
            "module {} is not marked as a livepatch module\n",
            module.name()
        );
        return Outcome::Done(Err(EINVAL));
    }
    if !task::have_reliable_stacks() {
        pr_warn!("This architecture doesn't have support for the livepatch consistency model.\n");
        pr_warn!("The livepatch transition may never complete.\n");
    }

    let mut registry = REGISTRY.lock();
    if registry.engine.is_none() {
        return Outcome::NotInCharge;
    }
    let (result, failed) = add(&mut registry, descriptor, module);
    drop(registry);
    // Without the lock, see `Patch`.
    drop(failed);
    Outcome::Done(result)
}

/// The part of [`enable`] under the lock. Returns a patch that failed, to be dropped without it.
fn add(
    registry: &mut Guard,
    descriptor: PatchDescriptor,
    module: ModulePtr,
) -> (Result, Option<KBox<Patch>>) {
    let compatible = registry
        .patches
        .iter()
        .all(|installed| state::is_compatible(descriptor, installed.descriptor()));
    if !compatible {
        pr_err!(
            "Livepatch patch ({}) is not compatible with the already installed livepatches.\n",
            module.name()
        );
        return (Err(EINVAL), None);
    }
    if registry
        .patches
        .iter()
        .any(|patch| patch.module() == Some(module))
    {
        pr_err!("module {} has registered a patch already\n", module.name());
        return (Err(EEXIST), None);
    }

    let mut patch = match prepare(registry, descriptor) {
        Ok(patch) => patch,
        Err(error) => return (Err(error), None),
    };
    let Registry {
        patches, engine, ..
    } = &mut **registry;
    let shown = engine.as_ref().ok_or(ENODEV).and_then(|engine| {
        let older = patches.iter().map(|old| (old.id(), old.descriptor()));
        patch.previous = Some(Previous::new(older)?);
        if patch.replaces() {
            patches.iter().try_for_each(|old| patch.add_nops(old))?;
        }
        patch.show(&engine.root)
    });
    if let Err(error) = shown {
        return (Err(error), Some(patch));
    }

    let id = patch.id();
    if let Err(error) = patches.push_within_capacity(patch) {
        kernel::warn_on!(true);
        return (Err(ENOMEM), Some(error.0));
    }
    match start_enabling(registry, id) {
        Ok(()) => (Ok(()), None),
        Err(error) => {
            let failed = registry
                .position(id)
                .map(|index| registry.patches.remove(index));
            (Err(error), failed.and_then(Result::ok))
        }
    }
}

/// Allocates what a new patch needs.
fn prepare(registry: &mut Guard, descriptor: PatchDescriptor) -> Result<KBox<Patch>> {
    let count = registry.patches.len() + 1;
    registry.patches.reserve(1, GFP_KERNEL)?;
    registry.graveyard.reserve(count, GFP_KERNEL)?;
    let core = ModuleRef::try_get(takeover::this_module()).ok_or(ENODEV)?;
    registry.last_id += 1;
    Patch::new(registry.last_id, descriptor, core)
}

/// Redirects the functions of a patch that has been shown, and starts the transition.
#[doc(alias = "__klp_enable_patch")]
fn start_enabling(registry: &mut Guard, id: PatchId) -> Result {
    if registry.transition.is_some() {
        return Err(EBUSY);
    }
    let index = registry.position(id).ok_or(EINVAL)?;
    pr_notice!("enabling patch '{}'\n", registry.name_of(id));

    transition::init(registry, id, Target::Patched);
    // ORDERING: the write barrier at the end of `transition::init` and the release store in `Slot::push` put the
    // transition flags before the replacements become visible; pairs with the acquire loads in `Slot::select`.

    let Registry {
        patches, engine, ..
    } = &mut **registry;
    let result = match (patches.get_mut(index), engine) {
        (Some(patch), Some(engine)) => patch
            .objects
            .iter_mut()
            .filter(|object| object.is_loaded())
            .try_for_each(|object| patch_object(object, &mut engine.ops)),
        _ => Err(EINVAL),
    };
    if let Err(error) = result {
        pr_warn!("failed to enable patch '{}'\n", registry.name_of(id));
        transition::cancel(registry);
        return Err(error);
    }

    transition::start(registry);
    if let Some(patch) = registry.patches.get(index) {
        patch.set_enabled(true);
    }
    transition::try_complete(registry);
    Ok(())
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

/// Starts to disable the patch at `index`.
#[doc(alias = "__klp_disable_patch")]
fn start_disabling(registry: &mut Guard, index: usize) -> Result {
    let Some(patch) = registry.patches.get(index) else {
        return Err(EINVAL);
    };
    if kernel::warn_on!(!patch.is_enabled()) {
        return Err(EINVAL);
    }
    if registry.transition.is_some() {
        return Err(EBUSY);
    }
    let id = patch.id();
    transition::init(registry, id, Target::Unpatched);
    if let Some(patch) = registry.patches.get(index) {
        let patched = patch.objects.iter().filter(|object| object.is_patched());
        patched.for_each(Object::pre_unpatch);
    }
    transition::start(registry);
    if let Some(patch) = registry.patches.get(index) {
        patch.set_enabled(false);
    }
    transition::try_complete(registry);
    Ok(())
}

/// What a write to `enabled` asks for: disable a patch, or reverse its transition. Process context; sleeps.
///
/// # Errors
///
/// `EINVAL` if the patch is in that state already or is gone: a disabled patch is enabled again only by loading its
/// module anew. `EBUSY` if another patch is in transition.
pub(crate) fn set_enabled(id: PatchId, enabled: bool) -> Result {
    let mut registry = REGISTRY.lock();
    let index = registry.position(id).ok_or(EINVAL)?;
    let patch = registry.patches.get(index).ok_or(EINVAL)?;
    if patch.is_enabled() == enabled {
        return Err(EINVAL);
    }
    if transition::is_of(id) {
        transition::reverse(&mut registry);
        Ok(())
    } else if enabled {
        Err(EINVAL)
    } else {
        start_disabling(&mut registry, index)
    }
}

/// What a write to `force` asks for: switch the remaining tasks without looking. Process context.
///
/// # Errors
///
/// `EINVAL` if the patch is not in transition.
pub(crate) fn force(id: PatchId) -> Result {
    let mut registry = REGISTRY.lock();
    if !transition::is_of(id) {
        return Err(EINVAL);
    }
    transition::force(&mut registry);
    Ok(())
}

/// What `stack_order` shows: 1 for the oldest patch.
pub(crate) fn stack_order(id: PatchId) -> usize {
    let registry = REGISTRY.lock();
    registry
        .position(id)
        .map_or(registry.patches.len(), |index| index + 1)
}

/// A module is being loaded: patches its functions before they can run. Process context; sleeps.
///
/// # Errors
///
/// What [`Object::locate`], a callback or [`Object::patch`] gives: the module must not be loaded then.
#[doc(alias = "klp_module_coming")]
pub(crate) fn module_coming(module: ModulePtr) -> Outcome<Result> {
    let mut registry = REGISTRY.lock();
    if registry.engine.is_none() {
        return Outcome::NotInCharge;
    }
    module.set_alive(true);

    let mut result = Ok(());
    for index in 0..registry.patches.len() {
        if let Err(error) = patch_coming(&mut registry, index, module) {
            let patch = registry.patches.get(index);
            pr_warn!(
                "patch '{}' failed for module '{}', refusing to load module '{}'\n",
                patch.map_or(c"?", |patch| patch.name()),
                module.name(),
                module.name()
            );
            module.set_alive(false);
            forget_in(&mut registry, index, module);
            unpatch_going(&mut registry, module, index);
            result = Err(error);
            break;
        }
    }
    transition::refresh(&mut registry);
    Outcome::Done(result)
}

/// The object of `patch` that stands for `module`.
fn object_of(patch: &mut Patch, module: ModulePtr) -> Option<&mut Object> {
    patch
        .objects
        .iter_mut()
        .find(|object| object.module_name() == Some(module.name()))
}

/// Lets one patch forget a module that it could not patch.
fn forget_in(registry: &mut Guard, index: usize, module: ModulePtr) {
    if let Some(patch) = registry.patches.get_mut(index) {
        if let Some(object) = object_of(patch, module) {
            object.set_module(None);
        }
    }
}

/// Applies one patch to a module that is being loaded, if it changes it.
fn patch_coming(registry: &mut Guard, index: usize, module: ModulePtr) -> Result {
    let Registry {
        patches, engine, ..
    } = &mut **registry;
    let (Some(patch), Some(engine)) = (patches.get_mut(index), engine) else {
        return Ok(());
    };
    let in_transition = transition::is_of(patch.id());
    let pmod = patch.module().ok_or(EINVAL)?;
    let pname = pmod.name();
    let Some(object) = object_of(patch, module) else {
        return Ok(());
    };

    object.set_module(Some(module));
    object.locate(pmod).inspect_err(|error| {
        pr_warn!(
            "failed to initialize patch '{}' for module '{}' ({})\n",
            pname,
            module.name(),
            error.to_errno()
        );
    })?;

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
    object.patch(&mut engine.ops).inspect_err(|error| {
        pr_warn!(
            "failed to apply patch '{}' to module '{}' ({})\n",
            pname,
            module.name(),
            error.to_errno()
        );
        object.post_unpatch();
    })?;
    if !in_transition {
        object.post_patch();
    }
    Ok(())
}

/// A module is being unloaded, or could not be loaded: takes the patches off it. Process context; sleeps.
#[doc(alias = "klp_module_going")]
pub(crate) fn module_going(module: ModulePtr) -> Outcome<()> {
    let mut registry = REGISTRY.lock();
    if registry.engine.is_none() {
        return Outcome::NotInCharge;
    }
    module.set_alive(false);
    let all = registry.patches.len();
    unpatch_going(&mut registry, module, all);
    transition::refresh(&mut registry);
    Outcome::Done(())
}

/// Takes the first `count` patches off a module that goes.
#[doc(alias = "klp_cleanup_module_patches_limited")]
fn unpatch_going(registry: &mut Guard, module: ModulePtr, count: usize) {
    let Registry {
        patches, engine, ..
    } = &mut **registry;
    let Some(engine) = engine else {
        return;
    };
    for patch in patches.iter_mut().take(count) {
        let in_transition = transition::is_of(patch.id());
        let Some(pmod) = patch.module() else {
            continue;
        };
        let Some(object) = object_of(patch, module) else {
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
        let ops = &mut engine.ops;
        ops.detach(|batch| object.unpatch(batch));
        object.post_unpatch();
        object.forget(pmod);
    }
}
