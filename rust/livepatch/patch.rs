// SPDX-License-Identifier: GPL-2.0

//! A registered patch.
//!
//! Process context, under the registry lock. A patch whose directory may be in sysfs is dropped
//! without the lock, since removing the directory waits for functions that take it.

use crate::{
    func::Func,
    kapi::{
        kobject::Kobject,
        module::{
            ModulePtr,
            ModuleRef, //
        }, //
    },
    klp::{
        descriptor::{
            CheckedPatch,
            PatchDescriptor, //
        },
        tracepoint, //
    },
    leak_check::{
        self,
        Counted, //
    },
    lock::LockHeld,
    object::Object,
    ops::Ops,
    pure::patch_state::{
        PatchId,
        Target, //
    },
    stack::StackCheck,
    state::Previous,
    sysfs::{
        PatchDirectory,
        RootDirectory, //
    },
};
use kernel::{
    prelude::*,
    str::CString,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc,
        Completion, //
    },
};

/// The part of a patch that users see. Written by the patch, under the registry lock.
pub(crate) struct PatchStatus {
    id: PatchId,
    replace: bool,
    enabled: Atomic<bool>,
    may_jump: Atomic<bool>,
}

impl PatchStatus {
    /// The patch's identifier.
    pub(crate) fn id(&self) -> PatchId {
        self.id
    }

    /// Whether the patch replaces all others.
    pub(crate) fn replace(&self) -> bool {
        self.replace
    }

    /// Whether the patch is enabled, or is being so.
    pub(crate) fn is_enabled(&self) -> bool {
        // ORDERING: A snapshot for users; whoever decides by it holds the registry lock.
        self.enabled.load(Relaxed)
    }

    /// Whether calls of its functions may jump outside transitions.
    pub(crate) fn may_jump(&self) -> bool {
        // ORDERING: A snapshot for users; whoever decides by it holds the registry lock.
        self.may_jump.load(Relaxed)
    }
}

/// The reference on the patch module. Kept for ever if the patch was forced: then nobody knows
/// whether a task still runs its code.
struct PatchModule {
    /// The module's own is gone when the patch has been released.
    name: CString,
    reference: Option<ModuleRef>,
    forced: bool,
}

impl Drop for PatchModule {
    fn drop(&mut self) {
        let reference = self.reference.take();
        if self.forced {
            core::mem::forget(reference);
        } else {
            drop(reference);
        }
        tracepoint::patch_released(&self.name, self.forced);
    }
}

/// Waits, when dropped, until the patch's directory and all below it have been released.
struct Gone(Arc<Completion>);

impl Drop for Gone {
    fn drop(&mut self) {
        self.0.wait_for_completion();
    }
}

/// What keeps the code of a patch and, for its sake, that of the core. The order of the fields is
/// the order in which they go.
pub(crate) struct ModuleRefs {
    patch: PatchModule,
    _counted: Counted<leak_check::Patches>,
    /// Keeps the code of the core.
    _core: ModuleRef,
}

impl ModuleRefs {
    /// Whether it keeps the code of the patch in this module.
    pub(crate) fn is_of(&self, module: ModulePtr) -> bool {
        let reference = self.patch.reference.as_ref();
        reference.is_some_and(|reference| reference.is_on(module))
    }
}

/// A patch and all that the core keeps for it. The order of the fields is the order in which they
/// go.
pub(crate) struct Patch {
    descriptor: PatchDescriptor,
    status: Arc<PatchStatus>,
    /// vmlinux and modules, in the order of the patch module; then those that only go back to their
    /// original code.
    pub(crate) objects: KVVec<Object>,
    /// For the stack checks of a transition: one to be used, one to make the next in.
    spare: KVec<KBox<StackCheck>>,
    /// The states that older patches changed; elsewhere during a transition.
    pub(crate) previous: Option<KBox<Previous>>,
    directory: Kobject<PatchDirectory>,
    _gone: Gone,
    modules: ModuleRefs,
}

impl Patch {
    /// Takes references on the modules and copies the description.
    ///
    /// # Errors
    ///
    /// `ENODEV` if the patch module is going; `ENOMEM`.
    #[doc(alias = "klp_init_patch_early")]
    pub(crate) fn new(id: PatchId, described: CheckedPatch, core: ModuleRef) -> Result<KBox<Self>> {
        let module = PatchModule {
            name: CString::try_from(described.module().name())?,
            reference: Some(ModuleRef::try_get(described.module()).ok_or(ENODEV)?),
            forced: false,
        };
        let replace = described.replace();
        let mut objects = KVVec::new();
        let descriptor = described.into_descriptor(|object, funcs| {
            Ok(objects.push(Object::new(object, funcs)?, GFP_KERNEL)?)
        })?;
        let status = Arc::new(
            PatchStatus {
                id,
                replace,
                enabled: Atomic::new(false),
                may_jump: Atomic::new(false),
            },
            GFP_KERNEL,
        )?;
        let released = Arc::pin_init(Completion::new(), GFP_KERNEL)?;
        let directory = Kobject::new(PatchDirectory::new(status.clone(), released.clone())?)?;
        Ok(KBox::new(
            Self {
                descriptor,
                status,
                objects,
                spare: KVec::new(),
                previous: None,
                directory,
                _gone: Gone(released),
                modules: ModuleRefs {
                    patch: module,
                    _counted: Counted::new(),
                    _core: core,
                },
            },
            GFP_KERNEL,
        )?)
    }

    /// Frees all but what keeps its code, and takes its directory away. Sleeps.
    pub(crate) fn free(patch: KBox<Self>) -> ModuleRefs {
        KBox::into_inner(patch).modules
    }

    /// Its identifier among all patches ever.
    pub(crate) fn id(&self) -> PatchId {
        self.status.id
    }

    /// The patch module's name, which is the patch's.
    pub(crate) fn name(&self) -> &CStr {
        &self.modules.patch.name
    }

    /// The description in the patch module.
    pub(crate) fn descriptor(&self) -> &PatchDescriptor {
        &self.descriptor
    }

    /// The patch module.
    pub(crate) fn module(&self) -> ModulePtr {
        self.descriptor.module()
    }

    /// Whether it replaces all other patches.
    pub(crate) fn replaces(&self) -> bool {
        self.status.replace
    }

    /// Whether it is enabled, or is being so.
    pub(crate) fn is_enabled(&self) -> bool {
        self.status.is_enabled()
    }

    /// Notes whether it is enabled, or is being so.
    pub(crate) fn set_enabled(&mut self, enabled: bool) {
        // ORDERING: A snapshot for users; whoever decides by it holds the registry lock.
        self.status.enabled.store(enabled, Relaxed);
        self.descriptor.set_enabled(enabled);
    }

    /// Whether calls of its functions may jump outside transitions.
    pub(crate) fn may_jump(&self) -> bool {
        self.status.may_jump()
    }

    /// Notes whether calls of its functions may jump outside transitions.
    pub(crate) fn set_may_jump(&self, may_jump: bool) {
        // ORDERING: A snapshot for users; whoever decides by it holds the registry lock.
        self.status.may_jump.store(may_jump, Relaxed);
    }

    /// Wakes those who poll the files that say where the patch is going. May sleep.
    pub(crate) fn notify_transition(&self) {
        PatchDirectory::notify_transition(&self.directory);
    }

    /// Wakes those who poll the number of tasks that are left in a transition. May sleep.
    pub(crate) fn notify_remaining(&self) {
        PatchDirectory::notify_remaining(&self.directory);
    }

    /// Notes that tasks were switched by force: the module stays.
    pub(crate) fn set_forced(&mut self) {
        self.modules.patch.forced = true;
        self.descriptor.set_forced();
    }

    /// The object that stands for `module`.
    pub(crate) fn object_of(&mut self, module: ModulePtr) -> Option<&mut Object> {
        self.objects
            .iter_mut()
            .find(|object| object.module_name() == Some(module.name()))
    }

    /// Adds functions that go back to their original code for what `replaced` changes and this does
    /// not.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    #[doc(alias = "klp_add_nops")]
    pub(crate) fn add_nops(&mut self, replaced: &Patch) -> Result {
        for old in &replaced.objects {
            let same = |own: &&mut Object| own.module_name() == old.module_name();
            if let Some(object) = self.objects.iter_mut().find(same) {
                object.add_nops(old)?;
            } else {
                let mut object = Object::new_nop(old.module_name())?;
                object.add_nops(old)?;
                self.objects.push(object, GFP_KERNEL)?;
            }
        }
        Ok(())
    }

    /// Adds the patch to sysfs and finds all functions that are there. `add_nops` comes before, if
    /// at all.
    ///
    /// # Errors
    ///
    /// `EEXIST` if a name is taken; what [`Object::add_to_sysfs`], [`Object::relocate`] and
    /// [`Object::resolve`] give; `ENOMEM`.
    #[doc(alias = "klp_init_patch")]
    pub(crate) fn prepare(&mut self, root: &Kobject<RootDirectory>, held: &LockHeld) -> Result {
        let functions = self.objects.iter().map(|object| object.funcs().len()).sum();
        for _ in 0..2 {
            self.spare
                .push(StackCheck::with_capacity(functions)?, GFP_KERNEL)?;
        }
        let name = &*self.modules.patch.name;
        self.directory.add(root.as_parent(), fmt!("{}", name))?;
        let pmod = self.module();
        for object in &mut self.objects {
            object.find_module(held);
            object.add_to_sysfs(&self.directory)?;
            if object.is_loaded() {
                object.relocate(pmod, held)?;
                object.resolve(pmod)?;
            }
        }
        Ok(())
    }

    /// Lets the calling task's state decide for all functions, or not.
    pub(crate) fn set_transition(&self, transition: bool) {
        self.objects
            .iter()
            .for_each(|object| object.set_transition(transition));
    }

    /// Lets calls of all functions go through handlers, not jump, before a transition. Sleeps.
    ///
    /// # Errors
    ///
    /// The errors of [`Ops::remove_jumps`], after a message.
    pub(crate) fn remove_jumps(&self, ops: &mut Ops) -> Result {
        let loaded = self.objects.iter().filter(|object| object.is_loaded());
        let funcs = loaded.flat_map(Object::funcs);
        let result = ops.remove_jumps(funcs.filter_map(Func::site));
        result.inspect_err(|error| self.tell_of_jumps_that_stay(*error))
    }

    /// Lets calls that jump to its code, not to that of another patch, go through handlers. Sleeps.
    ///
    /// # Errors
    ///
    /// The errors of [`Ops::remove_jumps_to`], after a message.
    pub(crate) fn remove_jumps_to_it(&self, ops: &mut Ops) -> Result {
        let result = ops.remove_jumps_to(self.objects.iter().flat_map(Object::hooks));
        result.inspect_err(|error| self.tell_of_jumps_that_stay(*error))
    }

    fn tell_of_jumps_that_stay(&self, error: Error) {
        pr_err!(
            "'{}': calls that jump cannot go through a handler again ({})\n",
            self.name(),
            error.to_errno()
        );
    }

    /// Takes off all redirections.
    #[doc(alias = "klp_unpatch_objects")]
    pub(crate) fn unpatch(&mut self, ops: &mut Ops) {
        let patched = self.objects.iter_mut().filter(|object| object.is_patched());
        ops.detach(|batch| patched.for_each(|object| object.unpatch(batch)));
    }

    /// Takes off and frees the functions that only go back to their original code: what they hid is
    /// gone.
    #[doc(alias = "klp_discard_nops")]
    pub(crate) fn discard_nops(&mut self, ops: &mut Ops) {
        let patched = self.objects.iter_mut().filter(|object| object.is_patched());
        ops.detach(|batch| patched.for_each(|object| object.unpatch_nops(batch)));
        self.objects.retain(Object::free_nops);
    }

    /// The code that tasks must not have on their stacks to switch to `target`.
    ///
    /// Uses the memory set aside for this; [`Self::reclaim`] gives it back.
    pub(crate) fn stack_check(&mut self, ops: &Ops, target: Target) -> Option<KBox<StackCheck>> {
        let mut check = self.spare.pop()?;
        let patched = self.objects.iter().filter(|object| object.is_patched());
        check.fill(patched.flat_map(Object::hooked_funcs).map(|(func, hook)| {
            let code = match target {
                // What is about to go.
                Target::Unpatched => func.new_code(),
                // What has been in use so far.
                Target::Patched => ops.below(hook).unwrap_or(func.old_code()),
            };
            (code, hook.site(), func.shared_name())
        }));
        Some(check)
    }

    /// Takes the memory of [`Self::stack_check`] back.
    pub(crate) fn reclaim(&mut self, check: Option<KBox<StackCheck>>) {
        if let Some(check) = check {
            let fits = self.spare.push_within_capacity(check);
            kernel::warn_on!(fits.is_err());
        }
    }
}
