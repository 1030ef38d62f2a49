// SPDX-License-Identifier: GPL-2.0

//! One function of a patch.
//!
//! Process context, under the registry's lock.

#![deny(unsafe_code)]

use crate::{
    account::{
        self,
        Counted, //
    },
    kapi::{
        descriptor::FuncDescriptor,
        ftrace,
        kobject::Kobject, //
    },
    ops::Hook,
    position::{
        Miss,
        Wanted, //
    },
    symbols,
    sysfs::{
        FuncDirectory,
        ObjectDirectory, //
    },
    table::ORIGINAL,
};
use kernel::{
    prelude::*,
    str::CString,
    sync::Arc, //
};

/// Code of a function: where it is, and how many bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Code {
    /// Its address; 0 while the object is not loaded.
    pub(crate) address: usize,
    /// Its size in bytes.
    pub(crate) size: usize,
}

/// A function and its replacement.
pub(crate) struct Func {
    name: Arc<CString>,
    sympos: usize,
    /// What the patch module wrote; `None` for a function that goes back to its original code because the patch
    /// replaces one that changed it.
    descriptor: Option<FuncDescriptor>,
    /// The original code.
    pub(crate) old: Code,
    /// What runs instead; the original code for one that goes back.
    pub(crate) new: Code,
    directory: Kobject<FuncDirectory>,
    _counted: Counted<account::Functions>,
}

impl Func {
    /// A function as the patch module describes it.
    pub(crate) fn new(descriptor: FuncDescriptor) -> Result<Self> {
        let name = descriptor.old_name().ok_or(EINVAL)?;
        Ok(Self {
            name: Arc::new(CString::try_from(name)?, GFP_KERNEL)?,
            sympos: descriptor.sympos(),
            descriptor: Some(descriptor),
            old: Code::default(),
            new: Code {
                address: descriptor.new_func(),
                size: 0,
            },
            directory: Kobject::new(FuncDirectory)?,
            _counted: Counted::new(),
        })
    }

    /// A function that goes back to its original code, since `replaced` changes it and the new patch does not.
    pub(crate) fn new_nop(replaced: &Func) -> Result<Self> {
        Ok(Self {
            name: replaced.name.clone(),
            sympos: replaced.sympos,
            descriptor: None,
            old: Code::default(),
            new: Code::default(),
            directory: Kobject::new(FuncDirectory)?,
            _counted: Counted::new(),
        })
    }

    /// The function's name.
    pub(crate) fn name(&self) -> &CStr {
        &self.name
    }

    /// The same, to keep.
    pub(crate) fn shared_name(&self) -> Arc<CString> {
        self.name.clone()
    }

    /// Whether it only goes back to its original code.
    pub(crate) fn is_nop(&self) -> bool {
        self.descriptor.is_none()
    }

    /// What identifies the function in its object: its name and which one of that name it is.
    pub(crate) fn identity(&self) -> (&[u8], usize) {
        (self.name().to_bytes(), self.position())
    }

    /// Which symbol of the name it is; a unique symbol is also the first one.
    fn position(&self) -> usize {
        self.sympos.max(1)
    }

    /// Checks the description and shows the function in sysfs.
    ///
    /// # Errors
    ///
    /// `EINVAL` without a replacement or with a name longer than any symbol's; what [`Kobject::add`] gives.
    #[doc(alias = "klp_init_func")]
    pub(crate) fn show(&self, object: &Kobject<ObjectDirectory>) -> Result {
        if (self.new.address == 0 && !self.is_nop())
            || self.name().to_bytes().len() >= kernel::bindings::KSYM_NAME_LEN as usize
        {
            return Err(EINVAL);
        }
        self.directory.add(
            object.as_parent(),
            fmt!("{},{}", self.name(), self.position()),
        )
    }

    /// The symbol of the original code, to be looked for.
    pub(crate) fn wanted(&self, order: usize) -> Wanted<'_> {
        Wanted::new(self.name().to_bytes(), self.sympos, order)
    }

    /// Takes the address of the original code in `object`, which is loaded, and the sizes of both.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the symbol is not clear, `ENOENT` if a size is unknown, after a message.
    pub(crate) fn locate(
        &mut self,
        object: Option<&[u8]>,
        found: Result<usize, Miss>,
        old_size: Option<usize>,
        new_size: Option<usize>,
    ) -> Result {
        let address = found
            .map_err(|miss| symbols::report(miss, object, self.name().to_bytes(), self.sympos))?;
        let size = old_size.ok_or_else(|| {
            pr_err!("kallsyms size lookup failed for '{}'\n", self.name());
            ENOENT
        })?;
        self.old = Code { address, size };

        if self.is_nop() {
            self.new = self.old;
        } else {
            self.new.size = new_size.ok_or_else(|| {
                pr_err!(
                    "kallsyms size lookup failed for '{}' replacement\n",
                    self.name()
                );
                ENOENT
            })?;
        }
        if let Some(descriptor) = self.descriptor {
            descriptor.set_old(self.old.address, self.old.size);
            descriptor.set_new_size(self.new.size);
        }
        Ok(())
    }

    /// Forgets what [`Self::locate`] found: the object goes.
    pub(crate) fn forget(&mut self) {
        self.old = Code::default();
        match self.descriptor {
            Some(descriptor) => descriptor.set_old(0, 0),
            None => self.new = Code::default(),
        }
    }

    /// Aims `hook` at the replacement. `None` if ftrace cannot intercept the function.
    pub(crate) fn aim(&self, hook: &mut Hook) -> Option<()> {
        let ip = ftrace::location(self.old.address, self.old.size)?;
        let target = if self.is_nop() {
            ORIGINAL
        } else {
            self.new.address
        };
        hook.aim(ip, target, self.new.size);
        Some(())
    }

    /// Keeps the description current.
    pub(crate) fn set_patched(&self, patched: bool) {
        if let Some(descriptor) = self.descriptor {
            descriptor.set_patched(patched);
        }
    }
}
