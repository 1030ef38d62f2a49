// SPDX-License-Identifier: GPL-2.0

//! A registered patch.
//!
//! Process context, under the registry's lock; dropped without it, since removing the directory waits for functions that
//! take it.

#![deny(unsafe_code)]

use crate::{
    account::{
        self,
        Counted, //
    },
    kapi::{
        descriptor::PatchDescriptor,
        kobject::Kobject,
        module::{
            ModulePtr,
            ModuleRef, //
        }, //
    },
    object::Object,
    ops::Ops,
    registry::PatchId,
    stack::Forbidden,
    state::Previous,
    sysfs::{
        PatchDirectory,
        RootDirectory, //
    },
    transition::Target,
};
use kernel::{
    prelude::*,
    str::CString,
    sync::{
        Arc,
        Completion, //
    },
};

/// The reference on the patch module. Kept for ever if the patch was forced: then nobody knows whether a task still
/// runs its code.
struct PatchModule {
    reference: Option<ModuleRef>,
    forced: bool,
}

impl Drop for PatchModule {
    fn drop(&mut self) {
        if self.forced {
            core::mem::forget(self.reference.take());
        }
    }
}

/// Waits, when dropped, until the patch's directory and all below it have been released.
struct Gone(Arc<Completion>);

impl Drop for Gone {
    fn drop(&mut self) {
        self.0.wait_for_completion();
    }
}

/// A patch and all that the core keeps for it. The order of the fields is the order in which they go.
pub(crate) struct Patch {
    id: PatchId,
    name: CString,
    descriptor: PatchDescriptor,
    /// vmlinux and modules, in the order of the patch module; then those that only go back to their original code.
    pub(crate) objects: KVec<Object>,
    /// For the stack checks of a transition: one to be used, one to make the next in.
    spare: KVec<KBox<Forbidden>>,
    /// The states that older patches changed; elsewhere during a transition.
    pub(crate) previous: Option<KBox<Previous>>,
    directory: Kobject<PatchDirectory>,
    _gone: Gone,
    module: PatchModule,
    _counted: Counted<account::Patches>,
    /// Keeps the code of the core.
    _core: ModuleRef,
}

impl Patch {
    /// Takes references on the modules and copies the description.
    ///
    /// # Errors
    ///
    /// `ENODEV` if a module is going; `EINVAL` for an incomplete description; `ENOMEM`.
    #[doc(alias = "klp_init_patch_early")]
    pub(crate) fn new(
        id: PatchId,
        descriptor: PatchDescriptor,
        core: ModuleRef,
    ) -> Result<KBox<Self>> {
        let module = descriptor.module().ok_or(EINVAL)?;
        let reference = ModuleRef::try_get(module).ok_or(ENODEV)?;
        let mut objects = KVec::new();
        for object in descriptor.objects().ok_or(EINVAL)? {
            objects.push(Object::new(object)?, GFP_KERNEL)?;
        }
        let released = Arc::pin_init(Completion::new(), GFP_KERNEL)?;
        let directory = PatchDirectory::new(id, descriptor.replace(), released.clone());
        Ok(KBox::new(
            Self {
                id,
                name: CString::try_from(module.name())?,
                descriptor,
                objects,
                spare: KVec::new(),
                previous: None,
                directory: Kobject::new(directory)?,
                _gone: Gone(released),
                module: PatchModule {
                    reference: Some(reference),
                    forced: false,
                },
                _counted: Counted::new(),
                _core: core,
            },
            GFP_KERNEL,
        )?)
    }

    /// What identifies it among all patches ever.
    pub(crate) fn id(&self) -> PatchId {
        self.id
    }

    /// The patch module's name, which is the patch's.
    pub(crate) fn name(&self) -> &CStr {
        &self.name
    }

    /// What the patch module wrote.
    pub(crate) fn descriptor(&self) -> PatchDescriptor {
        self.descriptor
    }

    /// The patch module.
    pub(crate) fn module(&self) -> Option<ModulePtr> {
        self.module.reference.as_ref().map(ModuleRef::module)
    }

    /// Whether it replaces all other patches.
    pub(crate) fn replaces(&self) -> bool {
        self.descriptor.replace()
    }

    /// Whether it is enabled, or is being so.
    pub(crate) fn is_enabled(&self) -> bool {
        self.directory.data().is_enabled()
    }

    /// Sets that.
    pub(crate) fn set_enabled(&self, enabled: bool) {
        self.directory.data().set_enabled(enabled);
        self.descriptor.set_enabled(enabled);
    }

    /// Notes that tasks were switched by force: the module stays.
    pub(crate) fn set_forced(&mut self) {
        self.module.forced = true;
        self.descriptor.set_forced();
    }

    /// Adds functions that go back to their original code for what `replaced` changes and this does not.
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

    /// Shows the patch in sysfs and finds all functions that are there. `add_nops` comes before, if at all.
    ///
    /// # Errors
    ///
    /// `EEXIST` if the name is taken; what [`Object::show`] gives; `ENOMEM`.
    #[doc(alias = "klp_init_patch")]
    pub(crate) fn show(&mut self, root: &Kobject<RootDirectory>) -> Result {
        let functions = self.objects.iter().map(|object| object.funcs().len()).sum();
        for _ in 0..2 {
            self.spare
                .push(Forbidden::with_capacity(functions)?, GFP_KERNEL)?;
        }
        self.directory
            .add(root.as_parent(), fmt!("{}", self.name()))?;
        let module = self.module().ok_or(EINVAL)?;
        for object in &mut self.objects {
            object.show(&self.directory, module)?;
        }
        Ok(())
    }

    /// Lets the calling task's state decide for all functions, or not.
    pub(crate) fn set_transition(&self, transition: bool) {
        self.objects
            .iter()
            .for_each(|object| object.set_transition(transition));
    }

    /// Takes off all redirections.
    #[doc(alias = "klp_unpatch_objects")]
    pub(crate) fn unpatch(&mut self, ops: &mut Ops) {
        let patched = self.objects.iter_mut().filter(|object| object.is_patched());
        ops.detach(|batch| patched.for_each(|object| object.unpatch(batch)));
    }

    /// Takes off and frees the functions that only go back to their original code: what they hid is gone.
    #[doc(alias = "klp_discard_nops")]
    pub(crate) fn discard_nops(&mut self, ops: &mut Ops) {
        let patched = self.objects.iter_mut().filter(|object| object.is_patched());
        ops.detach(|batch| patched.for_each(|object| object.unpatch_nops(batch)));
        self.objects.retain(Object::free_nops);
    }

    /// What tasks must not have on their stacks to switch to `target`.
    ///
    /// Uses the memory set aside for this; [`Self::reclaim`] gives it back.
    pub(crate) fn forbidden(&mut self, ops: &Ops, target: Target) -> Option<KBox<Forbidden>> {
        let mut list = self.spare.pop()?;
        let patched = self.objects.iter().filter(|object| object.is_patched());
        list.fill(patched.flat_map(Object::hooked_funcs).map(|(func, hook)| {
            let (address, size) = match target {
                // What is about to go.
                Target::Unpatched => (func.new.address, func.new.size),
                // What has been in use so far.
                Target::Patched => ops.below(hook).unwrap_or((func.old.address, func.old.size)),
            };
            (address, size, func.shared_name())
        }));
        Some(list)
    }

    /// Takes the memory of [`Self::forbidden`] back.
    pub(crate) fn reclaim(&mut self, list: Option<KBox<Forbidden>>) {
        if let Some(list) = list {
            // There was room for it before.
            let _ = self.spare.push_within_capacity(list);
        }
    }
}
