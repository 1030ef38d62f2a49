// SPDX-License-Identifier: GPL-2.0

//! One function of a patch.
//!
//! Process context, under the registry lock.

use crate::{
    kapi::{
        ftrace::{
            self,
            CallSite, //
        },
        kobject::Kobject,
        module::ModulesLocked, //
    },
    klp::descriptor::{
        EntryPoint,
        FuncDescriptor,
        NewFunc, //
    },
    leak_check::{
        self,
        Counted, //
    },
    ops::Hook,
    pure::sympos::{
        LookupError,
        Wanted, //
    },
    symbols,
    sysfs::{
        FuncDirectory,
        ObjectDirectory, //
    },
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

/// The change that a patch makes to a function.
enum Change {
    /// Something else runs instead.
    Replace {
        descriptor: FuncDescriptor,
        entry: EntryPoint,
        /// The size of the replacement in bytes; 0 while the object is not loaded.
        size: usize,
    },
    /// The function goes back to its original code: the patch replaces one that changed it.
    Nop,
}

/// A function and its replacement.
pub(crate) struct Func {
    name: Arc<CString>,
    sympos: usize,
    change: Change,
    old: Code,
    directory: Kobject<FuncDirectory>,
    _counted: Counted<leak_check::Functions>,
}

impl Func {
    /// A function as the patch module describes it.
    ///
    /// # Errors
    ///
    /// `EINVAL` without a replacement or with a name longer than any symbol's; `ENOMEM`.
    pub(crate) fn new(described: NewFunc<'_>) -> Result<Self> {
        if described.old_name.to_bytes().len() >= kernel::bindings::KSYM_NAME_LEN as usize {
            return Err(EINVAL);
        }
        Ok(Self {
            name: Arc::new(CString::try_from(described.old_name)?, GFP_KERNEL)?,
            sympos: described.sympos,
            change: Change::Replace {
                entry: described.new_func.ok_or(EINVAL)?,
                size: 0,
                descriptor: described.descriptor,
            },
            old: Code::default(),
            directory: Kobject::new(FuncDirectory)?,
            _counted: Counted::new(),
        })
    }

    /// A function that goes back to its original code, since `replaced` changes it and the new
    /// patch does not.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new_nop(replaced: &Func) -> Result<Self> {
        Ok(Self {
            name: replaced.name.clone(),
            sympos: replaced.sympos,
            change: Change::Nop,
            old: Code::default(),
            directory: Kobject::new(FuncDirectory)?,
            _counted: Counted::new(),
        })
    }

    /// The function's name.
    pub(crate) fn name(&self) -> &CStr {
        &self.name
    }

    /// The function's name, to be kept by the caller.
    pub(crate) fn shared_name(&self) -> Arc<CString> {
        self.name.clone()
    }

    /// Whether it only goes back to its original code.
    pub(crate) fn is_nop(&self) -> bool {
        matches!(self.change, Change::Nop)
    }

    /// The original code.
    pub(crate) fn old_code(&self) -> Code {
        self.old
    }

    /// The code that runs while the patch is enabled.
    pub(crate) fn new_code(&self) -> Code {
        match self.change {
            Change::Replace { entry, size, .. } => Code {
                address: entry.address(),
                size,
            },
            Change::Nop => self.old,
        }
    }

    /// The function's identity in its object: its name and which one of that name it is.
    pub(crate) fn identity(&self) -> (&[u8], usize) {
        (self.name().to_bytes(), self.position())
    }

    /// Which symbol of the name it is; a unique symbol is also the first one.
    fn position(&self) -> usize {
        self.sympos.max(1)
    }

    /// Adds the function to the directory of its object in sysfs.
    ///
    /// # Errors
    ///
    /// The errors of [`Kobject::add`].
    #[doc(alias = "klp_init_func")]
    pub(crate) fn add_to_sysfs(&mut self, object: &Kobject<ObjectDirectory>) -> Result {
        let position = self.position();
        self.directory
            .add(object.as_parent(), fmt!("{},{}", &**self.name, position))
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
    pub(crate) fn resolve(
        &mut self,
        object: Option<&[u8]>,
        found: Result<usize, LookupError>,
        old_size: Option<usize>,
        new_size: Option<usize>,
        locked: &ModulesLocked,
    ) -> Result {
        let address = found
            .map_err(|error| symbols::report(error, object, self.name().to_bytes(), self.sympos))?;
        let old_size = old_size.ok_or_else(|| {
            pr_err!("kallsyms size lookup failed for '{}'\n", self.name());
            ENOENT
        })?;
        if let Change::Replace {
            size, descriptor, ..
        } = &mut self.change
        {
            *size = new_size.ok_or_else(|| {
                pr_err!(
                    "kallsyms size lookup failed for '{}' replacement\n",
                    &**self.name
                );
                ENOENT
            })?;
            descriptor.set_old(address, old_size, locked);
            descriptor.set_new_size(*size, locked);
        }
        self.old = Code {
            address,
            size: old_size,
        };
        Ok(())
    }

    /// Undoes [`Self::resolve`]: the object goes.
    pub(crate) fn unresolve(&mut self, locked: &ModulesLocked) {
        self.old = Code::default();
        if let Change::Replace { descriptor, .. } = &mut self.change {
            descriptor.set_old(0, 0, locked);
        }
    }

    /// Where ftrace intercepts the function; `None` if it cannot, or the object is not loaded.
    pub(crate) fn site(&self) -> Option<CallSite> {
        ftrace::location(self.old.address, self.old.size)
    }

    /// Sets where `hook` intercepts the function and where it sends calls. `None` if ftrace cannot
    /// intercept the function.
    pub(crate) fn set_target(&self, hook: &mut Hook) -> Option<()> {
        let site = self.site()?;
        match self.change {
            Change::Replace { entry, size, .. } => hook.set_target(site, Some(entry), size),
            Change::Nop => hook.set_target(site, None, 0),
        }
        Some(())
    }

    /// Keeps the description current.
    pub(crate) fn set_patched(&mut self, patched: bool, locked: &ModulesLocked) {
        if let Change::Replace { descriptor, .. } = &mut self.change {
            descriptor.set_patched(patched, locked);
        }
    }
}
