// SPDX-License-Identifier: GPL-2.0

//! Taking the work of the built-in core over, and giving it back.
//!
//! The kernel calls livepatch through a handful of functions. They are redirected with the same engine that redirects
//! patched functions, so the core installs itself with the machinery it provides. The built-in core is left as it would be
//! with no patch, but for two variables: `klp_root_kobj` is our root, and `klp_transition_patch` is not null, so that
//! whoever is still on the way through its `klp_enable_patch()` gets `EBUSY` and cannot enable a patch behind our back.
//!
//! # Concurrency
//!
//! Both ways happen under the registry's lock and, inside it, `klp_mutex`.
//!
//! * Take-over: a task may be anywhere in a built-in function when it is redirected. The three that sleep do so on
//!   `klp_mutex` only. After they are redirected, [`Builtin::drain`] waits until nobody is on the way to that mutex or
//!   waits for it, and only then the registry's lock is given up: no patch is enabled here while a module passes through
//!   the built-in `klp_module_coming()`, which would not see the patch.
//! * Hand-back: a task may sleep in one of our functions on the registry's lock. When it gets it, it sees that we are not
//!   in charge and goes on in the built-in function ([`crate::registry::Outcome`]); we wait until the last one has left
//!   ([`crate::kapi::user`]), and then for tasks that were preempted in their last instructions. The same after a take-over that
//!   failed when functions had been redirected.
//!
//! Relocations and shadow variables do not depend on who is in charge: both cores' functions may run at the same time. The
//! variables are in one table, the built-in core's ([`crate::kapi::shadow`]).
//!
//! The functions that do not sleep are covered by ftrace's own wait for all tasks and CPUs when an ops is unregistered.

use crate::{
    abi, bindings,
    kapi::{
        cpu,
        ftrace,
        kallsyms,
        kobject::Kobject,
        module::ModulePtr,
        shadow,
        user,
        workqueue::OwnedQueue, //
    },
    ops::{
        Hook,
        Ops, //
    },
    registry::{
        Engine,
        REGISTRY, //
    },
    sysfs::RootDirectory,
};
use kernel::{
    prelude::*,
    types::Opaque, //
};

/// This module.
pub(crate) fn this_module() -> ModulePtr {
    extern "C" {
        // Made by modpost. The `kernel` crate's way to it differs between releases.
        static __this_module: Opaque<u8>;
    }
    // SAFETY: only the address is taken.
    let module = unsafe { &__this_module }.get().cast();
    // SAFETY: the code that runs belongs to it.
    match unsafe { ModulePtr::from_raw(module) } {
        Some(module) => module,
        None => unreachable!("a loadable module has a structure"),
    }
}

/// A patch that is none: what the built-in core sees in transition while we are in charge.
struct Sentinel(Opaque<bindings::klp_patch>);

// SAFETY: nobody looks inside.
unsafe impl Sync for Sentinel {}

static SENTINEL: Sentinel = Sentinel(Opaque::zeroed());

/// The built-in core, locked.
///
/// # Invariants
///
/// `klp_mutex` is held while a value of this type exists.
struct Builtin(());

impl Builtin {
    fn lock() -> Self {
        // SAFETY: we may sleep; `Drop` balances it.
        unsafe { bindings::livepatch_builtin_lock() };
        // INVARIANT: just taken.
        Self(())
    }

    /// Whether it has neither patches nor a transition.
    fn is_idle(&self) -> bool {
        let list = &raw mut bindings::klp_patches;
        // SAFETY: the lock is held, by the type's invariant.
        let empty = unsafe { (*list).next } == list;
        // SAFETY: as above.
        let transition = unsafe { bindings::klp_transition_patch };
        empty && transition.is_null()
    }

    /// Makes its functions refuse to work, or work again.
    fn set_blocked(&self, blocked: bool) {
        let sentinel = if blocked {
            SENTINEL.0.get()
        } else {
            core::ptr::null_mut()
        };
        // SAFETY: the lock is held, by the type's invariant.
        unsafe { bindings::klp_transition_patch = sentinel };
    }

    /// Removes its root directory and puts ours in place.
    fn replace_root(&self, root: &Kobject<RootDirectory>) -> Result {
        // SAFETY: the lock is held, and there are no patches, so nobody uses the root. Its name is needed now.
        unsafe { bindings::kobject_del(bindings::klp_root_kobj) };
        // SAFETY: the reference is the variable's, which is set below.
        unsafe { bindings::kobject_put(bindings::klp_root_kobj) };
        let shown = RootDirectory::show(root);
        if shown.is_ok() {
            // SAFETY: the lock is held; ours stays until `restore_root`.
            unsafe { bindings::klp_root_kobj = root.as_ptr() };
        } else {
            self.create_root();
        }
        shown
    }

    /// Gives the built-in core a root directory of its own again.
    fn create_root(&self) {
        let name = c"livepatch".as_char_ptr();
        // SAFETY: the parent was set at boot; the name is a string.
        let root = unsafe { bindings::kobject_create_and_add(name, bindings::kernel_kobj) };
        if root.is_null() {
            pr_err!("cannot create /sys/kernel/livepatch: no patch can be enabled until livepatch is loaded again\n");
        }
        // SAFETY: the lock is held. Null is what its functions expect before they are initialised.
        unsafe { bindings::klp_root_kobj = root };
    }

    /// Returns, with the lock held again, when no task is in a built-in function that waits for it.
    ///
    /// The functions must have been redirected, so nobody enters them any more.
    fn drain(self) -> Self {
        drop(self);
        // Those on the way to the mutex, spinning on it or preempted, have got it or sleep on it after this.
        cpu::synchronize_tasks();
        loop {
            let this = Self::lock();
            // SAFETY: only the address is taken.
            let owner = unsafe { &raw const bindings::klp_mutex.owner.counter };
            // SAFETY: valid for reads; waiters change it at any time, hence volatile.
            let owner = unsafe { owner.read_volatile() };
            // The lowest bit says that somebody waits.
            if owner & 1 == 0 {
                return this;
            }
            drop(this);
            // SAFETY: we may sleep. The waiters were woken and are few; each has the lock only briefly.
            unsafe { bindings::msleep(1) };
        }
    }
}

impl Drop for Builtin {
    fn drop(&mut self) {
        // SAFETY: balances `lock`.
        unsafe { bindings::livepatch_builtin_unlock() };
    }
}

/// The functions that the kernel calls, by name, with what runs instead.
fn redirections() -> [(&'static CStr, usize, usize); 14] {
    macro_rules! redirect {
        ($name:ident) => {{
            let name = $crate::kapi::dyndbg::cstr(concat!(stringify!($name), "\0"));
            (
                name,
                bindings::$name as *const () as usize,
                abi::$name as *const () as usize,
            )
        }};
    }
    [
        redirect!(klp_enable_patch),
        redirect!(klp_module_coming),
        redirect!(klp_module_going),
        redirect!(klp_copy_process),
        redirect!(klp_update_patch_state),
        redirect!(__klp_sched_try_switch),
        redirect!(klp_get_prev_state),
        redirect!(klp_apply_section_relocs),
        redirect!(klp_get_state),
        redirect!(klp_shadow_get),
        redirect!(klp_shadow_alloc),
        redirect!(klp_shadow_get_or_alloc),
        redirect!(klp_shadow_free),
        redirect!(klp_shadow_free_all),
    ]
}

/// Being in charge. Dropping it hands the work back.
pub(crate) struct TakeOver {
    redirects: KVec<Hook>,
}

impl TakeOver {
    /// Takes over. Sleeps.
    ///
    /// # Errors
    ///
    /// `EBUSY` if the built-in core has patches or something else has redirected one of its functions; `ENXIO` if one of
    /// them cannot be redirected in this kernel; `ENOMEM`. Nothing has changed then.
    pub(crate) fn new() -> Result<Self> {
        user::init()?;
        let result = Self::try_new();
        if result.is_err() {
            // Some functions may have been redirected for a moment, and somebody be asleep in ours.
            user::see_off();
        }
        result
    }

    fn try_new() -> Result<Self> {
        let mut redirects = KVec::new();
        for (name, from, to) in redirections() {
            let location = kallsyms::size_at(from).and_then(|size| ftrace::location(from, size));
            let ip = location.ok_or_else(|| {
                pr_err!("cannot take over: ftrace cannot intercept {}\n", name);
                ENXIO
            })?;
            let mut hook = Hook::new()?;
            hook.aim(ip, to, 0);
            redirects.push(hook, GFP_KERNEL)?;
        }
        shadow::init().inspect_err(|error| {
            pr_err!(
                "cannot take over: the built-in core's shadow variables ({})\n",
                error.to_errno()
            );
        })?;
        let root = Kobject::new(RootDirectory)?;
        let queue = OwnedQueue::new(c"livepatch")?;
        let mut ops = Ops::new()?;

        let mut registry = REGISTRY.lock();
        let builtin = Builtin::lock();
        if !builtin.is_idle() {
            pr_err!("cannot take over: the core in charge has patches, disable them first\n");
            return Err(EBUSY);
        }
        if let Err(failed) = ops.attach(&mut redirects) {
            pr_err!(
                "cannot take over: redirecting {} failed ({})\n",
                redirections()
                    .get(failed.index)
                    .map_or(c"?", |(name, ..)| name),
                failed.error.to_errno()
            );
            return Err(failed.error);
        }
        builtin.set_blocked(true);
        if let Err(error) = builtin.replace_root(&root) {
            pr_err!(
                "cannot take over: /sys/kernel/livepatch ({})\n",
                error.to_errno()
            );
            builtin.set_blocked(false);
            ops.detach(|batch| redirects.iter_mut().for_each(|hook| batch.unlink(hook)));
            return Err(error);
        }
        drop(builtin.drain());
        registry.engine = Some(Engine { root, ops, queue });
        pr_info!("the Rust core is in charge\n");
        Ok(Self { redirects })
    }
}

impl Drop for TakeOver {
    fn drop(&mut self) {
        let mut registry = REGISTRY.lock();
        // Every registered patch holds a reference on the module, so there is none.
        kernel::warn_on!(!registry.patches.is_empty());
        let Some(engine) = registry.engine.take() else {
            return;
        };
        let Engine {
            root,
            mut ops,
            queue,
        } = engine;
        let builtin = Builtin::lock();
        drop(root);
        builtin.create_root();
        builtin.set_blocked(false);
        let redirects = &mut self.redirects;
        ops.detach(|batch| redirects.iter_mut().for_each(|hook| batch.unlink(hook)));
        drop(builtin);
        drop(registry);

        crate::LAST_ARRIVAL.synchronize();
        crate::PASS.cancel();
        crate::BURIAL.cancel();
        drop(queue);
        user::see_off();
        drop(ops);
        pr_info!("the built-in core is in charge again\n");
    }
}
