// SPDX-License-Identifier: GPL-2.0

//! One object of a patch: vmlinux or a module.
//!
//! Process context, under the registry's lock.

#![deny(unsafe_code)]

use crate::{
    account::{
        self,
        Counted, //
    },
    func::Func,
    kapi::{
        descriptor::ObjectDescriptor,
        kobject::Kobject,
        module::{
            self,
            ModulePtr, //
        }, //
    },
    ops::{
        Batch,
        Hook,
        Ops, //
    },
    reloc, sort, symbols,
    sysfs::{
        ObjectDirectory,
        PatchDirectory, //
    },
};
use kernel::{
    prelude::*,
    str::CString, //
};

/// An object and the functions of it that the patch changes.
pub(crate) struct Object {
    /// The module's name; `None` for vmlinux.
    name: Option<CString>,
    /// What the patch module wrote; `None` for an object that only goes back to its original code.
    descriptor: Option<ObjectDescriptor>,
    /// The module, while it is loaded.
    module: Option<ModulePtr>,
    funcs: KVec<Func>,
    /// What redirects each of `funcs`.
    hooks: KVec<Hook>,
    directory: Kobject<ObjectDirectory>,
    _counted: Counted<account::Objects>,
}

impl Object {
    /// An object as the patch module describes it.
    ///
    /// # Errors
    ///
    /// `EINVAL` if a function has no name or the object no functions.
    pub(crate) fn new(descriptor: ObjectDescriptor) -> Result<Self> {
        let mut object = Self::empty(descriptor.name(), Some(descriptor))?;
        for func in descriptor.funcs().ok_or(EINVAL)? {
            object.push(Func::new(func)?)?;
        }
        Ok(object)
    }

    /// An object that the patch module does not describe.
    pub(crate) fn new_nop(name: Option<&CStr>) -> Result<Self> {
        Self::empty(name, None)
    }

    fn empty(name: Option<&CStr>, descriptor: Option<ObjectDescriptor>) -> Result<Self> {
        Ok(Self {
            name: name.map(CString::try_from).transpose()?,
            descriptor,
            module: None,
            funcs: KVec::new(),
            hooks: KVec::new(),
            directory: Kobject::new(ObjectDirectory::new())?,
            _counted: Counted::new(),
        })
    }

    fn push(&mut self, func: Func) -> Result {
        self.hooks.push(Hook::new()?, GFP_KERNEL)?;
        self.funcs.push(func, GFP_KERNEL)?;
        Ok(())
    }

    /// Adds functions that go back to their original code for those that `replaced` changes and this does not.
    pub(crate) fn add_nops(&mut self, replaced: &Object) -> Result {
        // Nops that this adds are for functions that `replaced` changes only once, so they need not be searched too.
        let mut own = KVec::with_capacity(self.funcs.len(), GFP_KERNEL)?;
        for func in &self.funcs {
            own.push(func.identity(), GFP_KERNEL)?;
        }
        sort::by_key(&mut own, |identity| *identity);
        let mut missing = KVec::new();
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

    /// What messages and sysfs call the object.
    pub(crate) fn display_name(&self) -> &CStr {
        self.module_name().unwrap_or(c"vmlinux")
    }

    /// Whether its code is there.
    pub(crate) fn is_loaded(&self) -> bool {
        self.name.is_none() || self.module.is_some()
    }

    /// Whether its functions are redirected.
    pub(crate) fn is_patched(&self) -> bool {
        self.directory.data().is_patched()
    }

    fn set_patched(&self, patched: bool) {
        self.directory.data().set_patched(patched);
        if let Some(descriptor) = self.descriptor {
            descriptor.set_patched(patched);
        }
    }

    /// Its functions.
    pub(crate) fn funcs(&self) -> &[Func] {
        &self.funcs
    }

    /// Its functions with what redirects them.
    pub(crate) fn hooked_funcs(&self) -> impl Iterator<Item = (&Func, &Hook)> {
        self.funcs.iter().zip(self.hooks.iter())
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
        if let Some(descriptor) = self.descriptor {
            descriptor.set_module(module);
        }
    }

    /// Shows the object in sysfs and, if its code is there, finds the functions.
    ///
    /// # Errors
    ///
    /// `EINVAL` for a name longer than any module's; what [`Func::show`] and [`Self::locate`] give.
    #[doc(alias = "klp_init_object")]
    pub(crate) fn show(&mut self, patch: &Kobject<PatchDirectory>, pmod: ModulePtr) -> Result {
        let found = match self.module_name() {
            Some(name) if name.to_bytes().len() >= module::NAME_SIZE => return Err(EINVAL),
            Some(name) => module::find_alive(name),
            None => None,
        };
        self.set_module(found);
        self.directory
            .add(patch.as_parent(), fmt!("{}", self.display_name()))?;
        for func in &self.funcs {
            func.show(&self.directory)?;
        }
        if self.is_loaded() {
            self.locate(pmod)?;
        }
        Ok(())
    }

    /// Writes the relocations of the patch module `pmod` for this object and finds the functions.
    ///
    /// # Errors
    ///
    /// What [`reloc::apply_for`] and [`Func::locate`] give; `ENOMEM`.
    #[doc(alias = "klp_init_object_loaded")]
    pub(crate) fn locate(&mut self, pmod: ModulePtr) -> Result {
        if let Some(name) = self.module_name() {
            // Those for vmlinux were written when the patch module was loaded.
            reloc::apply_for(pmod, name)?;
        }
        let object = self.name.as_deref().map(CStr::to_bytes);
        let mut wanted = KVec::with_capacity(self.funcs.len(), GFP_KERNEL)?;
        for (order, func) in self.funcs.iter().enumerate() {
            wanted.push(func.wanted(order), GFP_KERNEL)?;
        }
        symbols::find_all(object, &mut wanted)?;
        let mut found = KVec::with_capacity(self.funcs.len(), GFP_KERNEL)?;
        for wanted in &wanted {
            found.push(wanted.result(), GFP_KERNEL)?;
        }
        drop(wanted);
        let old_sizes = symbols::sizes_at(
            self.module,
            found.iter().map(|found| found.unwrap_or_default()),
        )?;
        let new_sizes =
            symbols::sizes_at(Some(pmod), self.funcs.iter().map(|func| func.new.address))?;
        let sizes = old_sizes.into_iter().zip(new_sizes);
        for ((func, found), (old_size, new_size)) in self.funcs.iter_mut().zip(found).zip(sizes) {
            func.locate(object, found, old_size, new_size)?;
        }
        Ok(())
    }

    /// Undoes [`Self::locate`]: the module goes.
    #[doc(alias = "klp_free_object_loaded")]
    pub(crate) fn forget(&mut self, pmod: ModulePtr) {
        if let Some(name) = self.module_name() {
            reloc::clear_for(pmod, name);
        }
        self.set_module(None);
        for func in &mut self.funcs {
            func.forget();
        }
    }

    /// Redirects all functions, or none.
    ///
    /// # Errors
    ///
    /// `EINVAL` if ftrace cannot intercept a function, else what ftrace says; after a message.
    #[doc(alias = "klp_patch_object")]
    pub(crate) fn patch(&mut self, ops: &mut Ops) -> Result {
        let mut funcs = self.funcs.iter().zip(self.hooks.iter_mut());
        let nowhere = funcs.position(|(func, hook)| func.aim(hook).is_none());

        // The functions before one that has no place may have their own reason to fail, which then is the first.
        let count = nowhere.unwrap_or(self.hooks.len());
        let hooks = self.hooks.get_mut(..count).unwrap_or_default();
        if let Err(failed) = ops.attach(hooks) {
            if let Some(func) = self.funcs.get(failed.index) {
                pr_err!(
                    "failed to register ftrace handler for function '{}' ({})\n",
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

        self.funcs.iter().for_each(|func| func.set_patched(true));
        self.set_patched(true);
        Ok(())
    }

    /// Takes the redirections off; done when the batch is.
    #[doc(alias = "klp_unpatch_object")]
    pub(crate) fn unpatch<'h>(&'h mut self, batch: &mut Batch<'_, 'h>) {
        self.set_patched(false);
        self.funcs.iter().for_each(|func| func.set_patched(false));
        self.hooks.iter_mut().for_each(|hook| batch.unlink(hook));
    }

    /// Takes off those that only go back to their original code.
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

    /// Frees those that [`Self::unpatch_nops`] took off. Returns whether anything is left of the object.
    pub(crate) fn free_nops(&mut self) -> bool {
        let mut kept = self.funcs.iter().map(|func| !func.is_nop());
        self.hooks.retain(|_| kept.next().unwrap_or(true));
        self.funcs.retain(|func| !func.is_nop());
        self.descriptor.is_some()
    }

    /// Calls the patch module before the object is patched.
    pub(crate) fn pre_patch(&self) -> Result {
        self.descriptor.map_or(Ok(()), ObjectDescriptor::pre_patch)
    }

    /// Calls the patch module after the object has been patched.
    pub(crate) fn post_patch(&self) {
        if let Some(descriptor) = self.descriptor {
            descriptor.post_patch();
        }
    }

    /// Calls the patch module before the object is unpatched.
    pub(crate) fn pre_unpatch(&self) {
        if let Some(descriptor) = self.descriptor {
            descriptor.pre_unpatch();
        }
    }

    /// Calls the patch module after the object has been unpatched, if `pre_patch` had succeeded.
    pub(crate) fn post_unpatch(&self) {
        if let Some(descriptor) = self.descriptor {
            descriptor.post_unpatch();
        }
    }
}
