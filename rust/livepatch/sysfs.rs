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
//! The files' functions run in process context at any time while the directory exists. Reading `enabled`, `transition`,
//! `replace` and `patched` takes no lock, so it works while a transition holds the registry's lock. The other functions
//! take it; so a patch's directory is never removed under it.

#![deny(unsafe_code)]

use crate::{
    kapi::kobject::{
        kobj_type,
        Directory,
        Kobject,
        Page,
        Parent, //
    },
    registry::{
        self,
        PatchId, //
    },
    transition,
};
use kernel::{
    prelude::*,
    str::kstrtobool,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc,
        Completion, //
    },
};

/// The root. The built-in core's root while that is in charge.
pub(crate) struct RootDirectory;

impl Directory for RootDirectory {
    kobj_type!(RootDirectory);
}

impl RootDirectory {
    /// Shows the root.
    pub(crate) fn show(root: &Kobject<Self>) -> Result {
        root.add(Parent::kernel(), fmt!("livepatch"))
    }
}

/// What a patch's directory shows.
pub(crate) struct PatchDirectory {
    id: PatchId,
    replace: bool,
    enabled: Atomic<bool>,
    released: Arc<Completion>,
}

impl PatchDirectory {
    /// `released` is completed when the directory and all below it are gone.
    pub(crate) fn new(id: PatchId, replace: bool, released: Arc<Completion>) -> Self {
        Self {
            id,
            replace,
            enabled: Atomic::new(false),
            released,
        }
    }

    /// Whether the patch is enabled, or is being so.
    pub(crate) fn is_enabled(&self) -> bool {
        // ORDERING: a snapshot for users; whoever decides by it holds the registry's lock.
        self.enabled.load(Relaxed)
    }

    /// Keeps it current. Under the registry's lock.
    pub(crate) fn set_enabled(&self, enabled: bool) {
        // ORDERING: as above.
        self.enabled.store(enabled, Relaxed);
    }

    fn show_enabled(&self, page: &Page) -> Result<usize> {
        Ok(page.emit(fmt!("{}\n", u8::from(self.is_enabled()))))
    }

    fn store_enabled(&self, text: &CStr) -> Result {
        registry::set_enabled(self.id, kstrtobool(text)?)
    }

    fn show_transition(&self, page: &Page) -> Result<usize> {
        Ok(page.emit(fmt!("{}\n", u8::from(transition::is_of(self.id)))))
    }

    fn store_force(&self, text: &CStr) -> Result {
        if kstrtobool(text)? {
            registry::force(self.id)
        } else {
            Ok(())
        }
    }

    fn show_replace(&self, page: &Page) -> Result<usize> {
        Ok(page.emit(fmt!("{}\n", u8::from(self.replace))))
    }

    fn show_stack_order(&self, page: &Page) -> Result<usize> {
        Ok(page.emit(fmt!("{}\n", registry::stack_order(self.id))))
    }
}

impl Directory for PatchDirectory {
    kobj_type!(PatchDirectory:
        Attribute::read_write(c"enabled", PatchDirectory::show_enabled, PatchDirectory::store_enabled),
        Attribute::read_only(c"transition", PatchDirectory::show_transition),
        Attribute::write_only(c"force", PatchDirectory::store_force),
        Attribute::read_only(c"replace", PatchDirectory::show_replace),
        Attribute::read_only(c"stack_order", PatchDirectory::show_stack_order),
    );

    fn released(&self) {
        self.released.complete_all();
    }
}

/// What an object's directory shows.
pub(crate) struct ObjectDirectory {
    patched: Atomic<bool>,
}

impl ObjectDirectory {
    /// Of an object that is not patched.
    pub(crate) fn new() -> Self {
        Self {
            patched: Atomic::new(false),
        }
    }

    /// Whether the object's functions are redirected.
    pub(crate) fn is_patched(&self) -> bool {
        // ORDERING: a snapshot for users; whoever decides by it holds the registry's lock.
        self.patched.load(Relaxed)
    }

    /// Keeps it current. Under the registry's lock.
    pub(crate) fn set_patched(&self, patched: bool) {
        // ORDERING: as above.
        self.patched.store(patched, Relaxed);
    }

    fn show_patched(&self, page: &Page) -> Result<usize> {
        Ok(page.emit(fmt!("{}\n", u8::from(self.is_patched()))))
    }
}

impl Directory for ObjectDirectory {
    kobj_type!(ObjectDirectory: Attribute::read_only(c"patched", ObjectDirectory::show_patched));
}

/// A function's directory, which is empty: its name is what it shows.
pub(crate) struct FuncDirectory;

impl Directory for FuncDirectory {
    kobj_type!(FuncDirectory);
}
