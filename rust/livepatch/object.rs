// SPDX-License-Identifier: GPL-2.0

//! One object of a patch: vmlinux or a module.
//!
//! Process context, under the registry lock.

use crate::{
    func::Func,
    kapi::{
        kobject::Kobject,
        module::{
            self,
            ModulePtr,
            ModulesLocked, //
        }, //
    },
    klp::{
        descriptor::{
            NewFunc,
            NewObject,
            ObjectDescriptor, //
        },
        module::find_alive, //
    },
    leak_check::{
        self,
        Counted, //
    },
    lock::LockHeld,
    ops::{
        Batch,
        Hook,
        Ops,
        Step, //
    },
    pure::sort,
    reloc, symbols,
    sysfs::{
        ObjectDirectory,
        PatchDirectory, //
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
        Arc, //
    },
};

/// The part of an object that users see. Written by the object, under the registry lock.
pub(crate) struct ObjectStatus {
    patched: Atomic<bool>,
}

impl ObjectStatus {
    /// Whether the object's functions are redirected.
    pub(crate) fn is_patched(&self) -> bool {
        // ORDERING: A snapshot for users; whoever decides by it holds the registry lock.
        self.patched.load(Relaxed)
    }
}

/// An object and the functions of it that the patch changes.
pub(crate) struct Object {
    /// The module's name; `None` for vmlinux.
    name: Option<CString>,
    /// The description in the patch module; `None` for an object that only goes back to its
    /// original code.
    descriptor: Option<ObjectDescriptor>,
    /// The module, while it is loaded.
    module: Option<ModulePtr>,
    /// What is wrong with the description behind the functions that are here.
    flaw: Option<Error>,
    funcs: KVVec<Func>,
    /// The hook of each of `funcs`.
    hooks: KVVec<Hook>,
    status: Arc<ObjectStatus>,
    directory: Kobject<ObjectDirectory>,
    _counted: Counted<leak_check::Objects>,
}

impl Object {
    /// An object as the patch module describes it.
    ///
    /// Ends at what is wrong with the description, for [`Self::add_to_sysfs`] to report: whoever
    /// describes a patch in two wrong ways gets the error of the first one.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(
        described: NewObject<'_>,
        funcs: &mut dyn Iterator<Item = NewFunc<'_>>,
    ) -> Result<Self> {
        let name = described.name.map(CString::try_from).transpose()?;
        let mut object = Self::empty(name, Some(described.descriptor))?;
        for func in funcs {
            match Func::new(func) {
                Ok(func) => object.push(func)?,
                Err(ENOMEM) => return Err(ENOMEM),
                Err(error) => {
                    object.flaw = Some(error);
                    break;
                }
            }
        }
        Ok(object)
    }

    /// An object that the patch module does not describe, since it only goes back to its original
    /// code.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new_nop(name: Option<&CStr>) -> Result<Self> {
        Self::empty(name.map(CString::try_from).transpose()?, None)
    }

    fn empty(name: Option<CString>, descriptor: Option<ObjectDescriptor>) -> Result<Self> {
        let status = Arc::new(
            ObjectStatus {
                patched: Atomic::new(false),
            },
            GFP_KERNEL,
        )?;
        Ok(Self {
            name,
            descriptor,
            module: None,
            flaw: None,
            funcs: KVVec::new(),
            hooks: KVVec::new(),
            directory: Kobject::new(ObjectDirectory::new(status.clone()))?,
            status,
            _counted: Counted::new(),
        })
    }

    fn push(&mut self, func: Func) -> Result {
        self.hooks.push(Hook::new()?, GFP_KERNEL)?;
        self.funcs.push(func, GFP_KERNEL)?;
        Ok(())
    }

    /// Adds functions that go back to their original code for those that `replaced` changes and
    /// this does not.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn add_nops(&mut self, replaced: &Object) -> Result {
        // A patch changes a function once only, so the nops need not be searched for others.
        let mut own = KVVec::with_capacity(self.funcs.len(), GFP_KERNEL)?;
        for func in &self.funcs {
            own.push(func.identity(), GFP_KERNEL)?;
        }
        sort::by_key(&mut own, |identity| *identity);
        let mut missing = KVVec::new();
        for func in &replaced.funcs {
            if own.binary_search(&func.identity()).is_err() {
                missing.push(Func::new_nop(func)?, GFP_KERNEL)?;
            }
        }
        drop(own);
        for func in missing {
            self.push(func)?;
        }
        Ok(())
    }

    /// The module's name, `None` for vmlinux.
    pub(crate) fn module_name(&self) -> Option<&CStr> {
        self.name.as_deref()
    }

    /// The name of the object in messages and sysfs.
    pub(crate) fn display_name(&self) -> &CStr {
        self.module_name().unwrap_or(c"vmlinux")
    }

    /// Whether its code is there.
    pub(crate) fn is_loaded(&self) -> bool {
        self.name.is_none() || self.module.is_some()
    }

    /// Whether its functions are redirected.
    pub(crate) fn is_patched(&self) -> bool {
        self.status.is_patched()
    }

    /// Notes whether its functions are redirected.
    fn set_patched(&mut self, patched: bool) {
        // ORDERING: A snapshot for users; whoever decides by it holds the registry lock.
        self.status.patched.store(patched, Relaxed);
        if let Some(descriptor) = &mut self.descriptor {
            let locked = ModulesLocked::new();
            descriptor.set_patched(patched, &locked);
            self.funcs
                .iter_mut()
                .for_each(|func| func.set_patched(patched, &locked));
        }
    }

    /// Its functions, in the order of the patch module.
    pub(crate) fn funcs(&self) -> &[Func] {
        &self.funcs
    }

    /// Its functions with what redirects them.
    pub(crate) fn hooked_funcs(&self) -> impl Iterator<Item = (&Func, &Hook)> {
        self.funcs.iter().zip(self.hooks.iter())
    }

    /// What redirects its functions.
    pub(crate) fn hooks(&self) -> &[Hook] {
        &self.hooks
    }

    /// Lets the calling task's state decide for all functions, or not.
    pub(crate) fn set_transition(&self, transition: bool) {
        for hook in &self.hooks {
            hook.set_transition(transition);
        }
    }

    /// Sets the module, or that there is none.
    pub(crate) fn set_module(&mut self, module: Option<ModulePtr>) {
        self.module = module;
        if let Some(descriptor) = &mut self.descriptor {
            descriptor.set_module(module);
        }
    }

    /// Looks whether the object's module is loaded.
    #[doc(alias = "klp_find_object_module")]
    pub(crate) fn find_module(&mut self, held: &LockHeld) {
        let found = self.module_name().and_then(|name| find_alive(name, held));
        self.set_module(found);
    }

    /// Adds the object and its functions to the directory of the patch in sysfs.
    ///
    /// # Errors
    ///
    /// The errors of [`Kobject::add`]; `EINVAL` for a name longer than any module's, and what
    /// [`Func::new`] gave.
    #[doc(alias = "klp_init_object")]
    pub(crate) fn add_to_sysfs(&mut self, patch: &Kobject<PatchDirectory>) -> Result {
        if self
            .module_name()
            .is_some_and(|name| name.to_bytes().len() >= module::NAME_SIZE)
        {
            return Err(EINVAL);
        }
        let name = self.name.as_deref().unwrap_or(c"vmlinux");
        self.directory.add(patch.as_parent(), fmt!("{}", name))?;
        self.funcs
            .iter_mut()
            .try_for_each(|func| func.add_to_sysfs(&self.directory))?;
        self.flaw.map_or(Ok(()), Err)
    }

    /// Writes the relocations of the patch module `pmod` for this object, which is loaded.
    ///
    /// # Errors
    ///
    /// The errors of [`reloc::apply_for`].
    pub(crate) fn relocate(&self, pmod: ModulePtr, held: &LockHeld) -> Result {
        match self.module_name() {
            Some(name) => reloc::apply_for(pmod, name, held),
            // Those for vmlinux were written when the patch module was loaded.
            None => Ok(()),
        }
    }

    /// Finds the original functions in the object, which is loaded, and the sizes of these and of
    /// their replacements in the patch module `pmod`.
    ///
    /// # Errors
    ///
    /// The errors of [`Func::resolve`]; `ENOMEM`.
    #[doc(alias = "klp_init_object_loaded")]
    pub(crate) fn resolve(&mut self, pmod: ModulePtr) -> Result {
        let object = self.name.as_deref().map(CStr::to_bytes);
        let mut wanted = KVVec::with_capacity(self.funcs.len(), GFP_KERNEL)?;
        for (order, func) in self.funcs.iter().enumerate() {
            wanted.push(func.wanted(order), GFP_KERNEL)?;
        }
        symbols::find_all(object, &mut wanted)?;
        let mut found = KVVec::with_capacity(self.funcs.len(), GFP_KERNEL)?;
        for wanted in &wanted {
            found.push(wanted.result(), GFP_KERNEL)?;
        }
        drop(wanted);
        let old_sizes = symbols::sizes_at(
            self.module,
            found.iter().map(|found| found.unwrap_or_default()),
        )?;
        let new_sizes = symbols::sizes_at(
            Some(pmod),
            self.funcs.iter().map(|func| func.new_code().address),
        )?;
        let sizes = old_sizes.into_iter().zip(new_sizes);
        let locked = ModulesLocked::new();
        for ((func, found), (old_size, new_size)) in self.funcs.iter_mut().zip(found).zip(sizes) {
            func.resolve(object, found, old_size, new_size, &locked)?;
        }
        Ok(())
    }

    /// Undoes [`Self::relocate`] and [`Self::resolve`]: the module goes.
    #[doc(alias = "klp_free_object_loaded")]
    pub(crate) fn unresolve(&mut self, pmod: ModulePtr, held: &LockHeld) {
        if let Some(name) = self.module_name() {
            reloc::clear_for(pmod, name, held);
        }
        self.set_module(None);
        let locked = ModulesLocked::new();
        self.funcs
            .iter_mut()
            .for_each(|func| func.unresolve(&locked));
    }

    /// Redirects all functions, or none.
    ///
    /// # Errors
    ///
    /// `EINVAL` if ftrace cannot intercept a function, else the error of ftrace; after a message,
    /// unless there was no memory before ftrace was asked.
    #[doc(alias = "klp_patch_object")]
    pub(crate) fn patch(&mut self, ops: &mut Ops) -> Result {
        let mut funcs = self.funcs.iter().zip(self.hooks.iter_mut());
        let nowhere = funcs.position(|(func, hook)| func.set_target(hook).is_none());

        // The functions before one that has no place may have their own reason to fail, which then
        // is the first.
        let count = nowhere.unwrap_or(self.hooks.len());
        let hooks = self.hooks.get_mut(..count).unwrap_or_default();
        if let Err(failed) = ops.attach(hooks) {
            let what = match failed.step {
                // The C core says nothing of it either.
                Step::Prepare => None,
                Step::Filter => Some("set ftrace filter"),
                Step::Register => Some("register ftrace handler"),
            };
            if let (Some(func), Some(what)) = (self.funcs.get(failed.index), what) {
                pr_err!(
                    "failed to {} for function '{}' ({})\n",
                    what,
                    func.name(),
                    failed.error.to_errno()
                );
            }
            return Err(failed.error);
        }
        if let Some(func) = nowhere.and_then(|index| self.funcs.get(index)) {
            pr_err!("failed to find location for function '{}'\n", func.name());
            let hooks = &mut self.hooks;
            ops.detach(|batch| hooks.iter_mut().for_each(|hook| batch.unlink(hook)));
            return Err(EINVAL);
        }

        self.set_patched(true);
        Ok(())
    }

    /// Takes the redirections off; done when the batch is.
    #[doc(alias = "klp_unpatch_object")]
    pub(crate) fn unpatch<'h>(&'h mut self, batch: &mut Batch<'_, 'h>) {
        self.set_patched(false);
        self.hooks.iter_mut().for_each(|hook| batch.unlink(hook));
    }

    /// Takes the functions off that only go back to their original code; done when the batch is.
    pub(crate) fn unpatch_nops<'h>(&'h mut self, batch: &mut Batch<'_, 'h>) {
        if self.descriptor.is_none() {
            self.set_patched(false);
        }
        for (func, hook) in self.funcs.iter().zip(self.hooks.iter_mut()) {
            if func.is_nop() {
                batch.unlink(hook);
            }
        }
    }

    /// Frees the functions that [`Self::unpatch_nops`] took off. Returns whether anything is left
    /// of the object.
    pub(crate) fn free_nops(&mut self) -> bool {
        let mut kept = self.funcs.iter().map(|func| !func.is_nop());
        self.hooks.retain(|_| kept.next().unwrap_or(true));
        self.funcs.retain(|func| !func.is_nop());
        self.descriptor.is_some()
    }

    /// Calls the patch module before the object is patched.
    ///
    /// # Errors
    ///
    /// The errors of [`ObjectDescriptor::pre_patch`].
    pub(crate) fn pre_patch(&mut self) -> Result {
        self.descriptor
            .as_mut()
            .map_or(Ok(()), ObjectDescriptor::pre_patch)
    }

    /// Calls the patch module after the object has been patched.
    pub(crate) fn post_patch(&mut self) {
        if let Some(descriptor) = &mut self.descriptor {
            descriptor.post_patch();
        }
    }

    /// Calls the patch module before the object is unpatched.
    pub(crate) fn pre_unpatch(&mut self) {
        if let Some(descriptor) = &mut self.descriptor {
            descriptor.pre_unpatch();
        }
    }

    /// Calls the patch module after the object has been unpatched, if `pre_patch` had succeeded.
    pub(crate) fn post_unpatch(&mut self) {
        if let Some(descriptor) = &mut self.descriptor {
            descriptor.post_unpatch();
        }
    }
}
