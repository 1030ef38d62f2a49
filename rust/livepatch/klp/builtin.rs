// SPDX-License-Identifier: GPL-2.0

//! The built-in core: its lock, and the variables that the take-over works on.
//!
//! They are static in `kernel/livepatch`; the module reaches them by livepatch relocations.

use crate::{
    bindings,
    kapi::{
        cpu,
        kobject::Kobject, //
    },
    sysfs::RootDirectory,
};
use kernel::{
    prelude::*,
    types::Opaque, //
};

/// How often [`Builtin::create_root`] tries again when there is no memory: for five seconds.
const ROOT_RETRIES: u32 = 500;

/// A patch that does not exist, for the built-in core to find in transition.
struct Sentinel(Opaque<bindings::klp_patch>);

// SAFETY: Nobody looks inside; only the address is used.
unsafe impl Sync for Sentinel {}

static SENTINEL: Sentinel = Sentinel(Opaque::zeroed());

/// The built-in core, locked.
///
/// # Invariants
///
/// `klp_mutex` is held while a value of this type exists.
pub(crate) struct Builtin(());

impl Builtin {
    /// Locks it. Sleeps.
    pub(crate) fn lock() -> Self {
        // SAFETY: The caller may sleep; `Drop` unlocks.
        unsafe { bindings::livepatch_builtin_lock() };
        // INVARIANT: Just taken.
        Self(())
    }

    /// Whether it has neither patches nor a transition.
    pub(crate) fn is_idle(&self) -> bool {
        let list = &raw mut bindings::klp_patches;
        // SAFETY: `klp_mutex`, which protects the list, is held by the type's invariant.
        let empty = unsafe { (*list).next } == list;
        // SAFETY: `klp_mutex`, which protects the variable, is held by the type's invariant.
        let transition = unsafe { bindings::klp_transition_patch };
        empty && transition.is_null()
    }

    /// Whether the directory of a patch is still below its root.
    ///
    /// It stays a while after the patch has left the list, and somebody may be in one of its files
    /// and wait for `klp_mutex`, under which nobody must wait for the file then.
    pub(crate) fn has_directories(&self) -> bool {
        // SAFETY: `klp_mutex`, which protects the variable, is held by the type's invariant; it is
        // null or points to an initialised directory.
        unsafe { bindings::livepatch_has_directories(bindings::klp_root_kobj) }
    }

    /// Makes its functions refuse to work, or work again.
    pub(crate) fn set_blocked(&self, blocked: bool) {
        let patch = if blocked {
            SENTINEL.0.get()
        } else {
            core::ptr::null_mut()
        };
        let variable = &raw mut bindings::klp_transition_patch;
        // SAFETY: `klp_mutex` is held by the type's invariant; volatile, since files of the
        // built-in core read the variable without it.
        unsafe { variable.write_volatile(patch) };
    }

    /// Sets the variable that points to its root directory.
    fn set_root(&self, root: *mut bindings::kobject) {
        let variable = &raw mut bindings::klp_root_kobj;
        // SAFETY: `klp_mutex` is held by the type's invariant; volatile, since `klp_enable_patch()`
        // of the built-in core reads the variable without it.
        unsafe { variable.write_volatile(root) };
    }

    /// Removes its root directory, below which there must not be another one, and puts `root` in
    /// place, which must stay until [`Self::create_root`].
    ///
    /// # Errors
    ///
    /// The errors of [`Kobject::add`]; the built-in core has a root of its own again then.
    pub(crate) fn replace_root(&self, root: &mut Kobject<RootDirectory>) -> Result {
        // SAFETY: `klp_mutex` is held by the type's invariant, and nothing is below the root, which
        // has no files, so nobody uses it. Its name is needed now.
        unsafe { bindings::kobject_del(bindings::klp_root_kobj) };
        // SAFETY: The reference is the variable's, which is set below.
        unsafe { bindings::kobject_put(bindings::klp_root_kobj) };
        let added = RootDirectory::add_to_sysfs(root);
        if added.is_ok() {
            self.set_root(root.as_ptr());
        } else {
            self.create_root();
        }
        added
    }

    /// Gives the built-in core a root directory of its own again. Sleeps.
    ///
    /// There is no way to fail, so this waits for memory, though not for ever: the built-in core
    /// refuses patches without a root, and that does no other harm.
    pub(crate) fn create_root(&self) {
        let name = c"livepatch".as_char_ptr();
        let create = || {
            // SAFETY: `kernel_kobj` was set at boot and never changes; the name is a string.
            unsafe { bindings::kobject_create_and_add(name, bindings::kernel_kobj) }
        };
        let mut root = create();
        for _ in 0..ROOT_RETRIES {
            if !root.is_null() {
                break;
            }
            cpu::wait_a_moment();
            root = create();
        }
        if root.is_null() {
            pr_err!(
                "cannot create /sys/kernel/livepatch: no patch can be enabled until livepatch is \
                 loaded again\n"
            );
        }
        // Null is what the built-in functions expect before they are initialised.
        self.set_root(root);
    }

    /// Returns, with the lock held again, when no task is in a built-in function that waits for it.
    ///
    /// The functions must have been redirected, so nobody enters them any more. Sleeps.
    pub(crate) fn drain(self) -> Self {
        drop(self);
        // Whoever is on the way to the mutex, spinning on it or preempted, has got it or is on the
        // list of those who wait after this. Twice, since a task that has spun in vain schedules
        // once before it is on the list.
        cpu::synchronize_tasks();
        cpu::synchronize_tasks();
        loop {
            let this = Self::lock();
            // SAFETY: Only looks at the mutex, which is static.
            if !unsafe { bindings::livepatch_builtin_contended() } {
                return this;
            }
            drop(this);
            // The waiters were woken and are few; each has the lock only briefly.
            // SAFETY: The caller may sleep, as `lock` does.
            unsafe { bindings::msleep(1) };
        }
    }
}

impl Drop for Builtin {
    fn drop(&mut self) {
        // SAFETY: Balances the lock in `lock`.
        unsafe { bindings::livepatch_builtin_unlock() };
    }
}
