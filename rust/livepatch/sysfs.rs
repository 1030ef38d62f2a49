// SPDX-License-Identifier: GPL-2.0

//! `/sys/kernel/livepatch`.
//!
//! ```text
//! /sys/kernel/livepatch
//! /sys/kernel/livepatch/<patch>
//! /sys/kernel/livepatch/<patch>/enabled          0644
//! /sys/kernel/livepatch/<patch>/force            0200
//! /sys/kernel/livepatch/<patch>/replace          0444
//! /sys/kernel/livepatch/<patch>/stack_order      0444
//! /sys/kernel/livepatch/<patch>/transition       0444
//! /sys/kernel/livepatch/<patch>/<object>
//! /sys/kernel/livepatch/<patch>/<object>/patched 0444
//! /sys/kernel/livepatch/<patch>/<object>/<function>,<position>
//! ```
//!
//! The interface is described in `Documentation/ABI/testing/sysfs-kernel-livepatch`.
//!
//! # Contexts and concurrency
//!
//! The files' functions run in process context at any time while the directory exists. Reading
//! `enabled`, `transition`, `replace` and `patched` takes no lock, so it works while a transition
//! holds the registry lock. The other functions take it; so a patch's directory is never removed
//! under it. Nothing is kept here: files show what the model of the patch shares with them.
//!
//! This module and [`mod@crate::registry`] need each other: the files of a patch act on the
//! registry, and the registry makes the directories. A table of functions in between would only
//! hide it.

use crate::{
    kapi::kobject::{
        kobj_type,
        Directory,
        Kobject,
        Page,
        Parent, //
    },
    object::ObjectStatus,
    patch::PatchStatus,
    registry, transition,
};
use kernel::{
    prelude::*,
    str::kstrtobool,
    sync::{
        Arc,
        Completion, //
    },
};

/// The root directory of the core.
pub(crate) struct RootDirectory;

impl Directory for RootDirectory {
    kobj_type!(RootDirectory);
}

impl RootDirectory {
    /// Adds the root to sysfs.
    ///
    /// # Errors
    ///
    /// The errors of [`Kobject::add`].
    pub(crate) fn add_to_sysfs(root: &Kobject<Self>) -> Result {
        root.add(Parent::kernel(), fmt!("livepatch"))
    }
}

/// The directory of a patch.
pub(crate) struct PatchDirectory {
    status: Arc<PatchStatus>,
    released: Arc<Completion>,
}

impl PatchDirectory {
    /// Shows `status`; `released` is completed when the directory and all below it are gone.
    pub(crate) fn new(status: Arc<PatchStatus>, released: Arc<Completion>) -> Self {
        Self { status, released }
    }

    fn show_enabled(&self, page: &Page) -> Result<usize> {
        Ok(page.emit(fmt!("{}\n", u8::from(self.status.is_enabled()))))
    }

    fn store_enabled(&self, text: &CStr) -> Result {
        registry::set_enabled(self.status.id(), kstrtobool(text)?)
    }

    fn show_transition(&self, page: &Page) -> Result<usize> {
        Ok(page.emit(fmt!("{}\n", u8::from(transition::is_of(self.status.id())))))
    }

    fn store_force(&self, text: &CStr) -> Result {
        if kstrtobool(text)? {
            registry::force(self.status.id())
        } else {
            Ok(())
        }
    }

    fn show_replace(&self, page: &Page) -> Result<usize> {
        Ok(page.emit(fmt!("{}\n", u8::from(self.status.replace()))))
    }

    fn show_stack_order(&self, page: &Page) -> Result<usize> {
        Ok(page.emit(fmt!("{}\n", registry::stack_order(self.status.id()))))
    }
}

impl Directory for PatchDirectory {
    kobj_type!(PatchDirectory:
        Attribute::read_write(
            c"enabled",
            PatchDirectory::show_enabled,
            PatchDirectory::store_enabled,
        ),
        Attribute::read_only(c"transition", PatchDirectory::show_transition),
        Attribute::write_only(c"force", PatchDirectory::store_force),
        Attribute::read_only(c"replace", PatchDirectory::show_replace),
        Attribute::read_only(c"stack_order", PatchDirectory::show_stack_order),
    );

    fn released(&self) {
        self.released.complete_all();
    }
}

/// The directory of an object.
pub(crate) struct ObjectDirectory {
    status: Arc<ObjectStatus>,
}

impl ObjectDirectory {
    /// Makes the directory that shows `status`.
    pub(crate) fn new(status: Arc<ObjectStatus>) -> Self {
        Self { status }
    }

    fn show_patched(&self, page: &Page) -> Result<usize> {
        Ok(page.emit(fmt!("{}\n", u8::from(self.status.is_patched()))))
    }
}

impl Directory for ObjectDirectory {
    kobj_type!(ObjectDirectory: Attribute::read_only(c"patched", ObjectDirectory::show_patched));
}

/// The directory of a function, which is empty: its name is what it shows.
pub(crate) struct FuncDirectory;

impl Directory for FuncDirectory {
    kobj_type!(FuncDirectory);
}
