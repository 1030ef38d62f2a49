// SPDX-License-Identifier: GPL-2.0

//! Taking the work of the built-in core over, and giving it back.
//!
//! The kernel calls livepatch through a handful of functions. They are redirected with the same
//! machinery that redirects patched functions, so the core installs itself with what it provides.
//! The built-in core is left as it would be with no patch, but for two variables: `klp_root_kobj`
//! is our root, and `klp_transition_patch` is not null, so that whoever is still on the way through
//! its `klp_enable_patch()` gets `EBUSY` and cannot enable a patch behind our back.
//!
//! # Concurrency
//!
//! Both ways happen under the registry lock and, inside it, `klp_mutex`, when no patch has a
//! directory any more: whoever is in a file of such a directory may wait for `klp_mutex`, and
//! removing the directory, or the root above it, waits for him.
//!
//! * Take-over: a task may be anywhere in a built-in function when it is redirected. The three that
//!   sleep do so on `klp_mutex` only. After they are redirected, [`Builtin::drain`] waits until
//!   nobody is on the way to that mutex or waits for it, and only then the registry lock is given
//!   up: no patch is enabled here while a module passes through the built-in `klp_module_coming()`,
//!   which would not see the patch.
//! * Hand-back: a task may sleep in one of our functions on the registry lock. When it gets it, it
//!   sees that we are not in charge and goes on in the built-in function
//!   ([`crate::registry::NotInCharge`]); so does a patch that came when the module could not be
//!   kept any more. We wait until the last one has left ([`mod@crate::kapi::in_flight`]), and then
//!   for tasks that were preempted in their last instructions. The same after a take-over that
//!   failed when functions had been redirected.
//!
//! Relocations and shadow variables do not depend on who is in charge: both cores' functions may
//! run at the same time. The variables are in one table, the built-in core's
//! ([`mod@crate::klp::shadow`]). `klp_shadow_get()` only reads it, and is called where every
//! instruction counts: it is left to the built-in core.
//!
//! The functions that do not sleep are covered by ftrace's own wait for all tasks when an ops is
//! unregistered and, where RCU is not watching, by [`cpu::synchronize_all`] in [`Ops::detach`].
//! With `PREEMPT_RT` the former does not cover a task that waits for a spinlock
//! ([`cpu::synchronize_tasks`]), so they take none.
//!
//! # When ftrace has been killed
//!
//! After a bug in its own data ftrace stops working for good, and call sites that lead to our
//! handler cannot be changed any more. Then the handler sends every call to the original function,
//! and the module's exit function does not return, since the memory of the handler must stay.

use crate::{
    abi,
    bindings,
    kapi::{
        cpu,
        dyndbg::cstr,
        ftrace::{
            self,
            Registers, //
        },
        in_flight,
        kallsyms,
        kobject::Kobject,
        looks::Looks, //
    },
    klp::{
        builtin::Builtin,
        descriptor::EntryPoint,
        shadow, //
    },
    ops::{
        Hook,
        Ops, //
    },
    registry::{
        self,
        Runtime,
        REGISTRY, //
    },
    sysfs::RootDirectory,
    transition, //
};
use core::borrow::Borrow;
use kernel::{
    ffi::c_long,
    prelude::*,
    sync::{
        Arc,
        Completion, //
    },
};

/// How often the take-over looks whether the directories of patches that the built-in core has
/// disabled are gone: for 20 s at least, since `CONFIG_DEBUG_KOBJECT_RELEASE` keeps them for up to
/// 12 s.
const DIRECTORY_WAITS: u32 = 2000;

/// A function that the kernel calls.
struct Redirection {
    name: &'static CStr,
    /// The address of the built-in function.
    from: usize,
    /// The address of the function here.
    to: usize,
}

/// The functions that the kernel calls, with what runs instead.
fn redirections() -> [Redirection; 13] {
    macro_rules! redirect {
        ($name:ident) => {
            Redirection {
                name: cstr(concat!(stringify!($name), "\0")),
                from: bindings::$name as *const () as usize,
                to: abi::$name as *const () as usize,
            }
        };
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
        redirect!(klp_shadow_alloc),
        redirect!(klp_shadow_get_or_alloc),
        redirect!(klp_shadow_free),
        redirect!(klp_shadow_free_all),
    ]
}

/// Being in charge. Dropping it hands the work back.
pub(crate) struct TakeOver {
    hooks: KVVec<Hook>,
}

impl TakeOver {
    /// Takes over. Sleeps.
    ///
    /// # Errors
    ///
    /// `EBUSY` if the built-in core has patches, or frees one for too long, or something else has
    /// redirected one of its functions; `ENXIO` if one of them cannot be redirected in this kernel;
    /// `EINVAL` for a parameter without a meaning; `ENOMEM`. Nothing has changed then.
    pub(crate) fn new() -> Result<Self> {
        let result = Self::try_new();
        if result.is_err() {
            // Some functions may have been redirected for a moment, and somebody be asleep in the
            // functions here.
            in_flight::wait_for_callers();
            stay_if_stuck();
        }
        result
    }

    fn try_new() -> Result<Self> {
        let jumps = WantedJumps::by_parameter()?;
        let mut hooks = KVVec::new();
        for Redirection { name, from, to } in redirections() {
            let site = kallsyms::size_at(from).and_then(|size| ftrace::location(from, size));
            let site = site.ok_or_else(|| {
                pr_err!("cannot take over: ftrace cannot intercept {}\n", name);
                ENXIO
            })?;
            let mut hook = Hook::new()?;
            // SAFETY: The function in `abi` has the prototype of the one with its name, which
            // `abi` checks, and stays as long as this module.
            hook.set_target(site, unsafe { EntryPoint::from_raw(to) }, 0);
            hooks.push(hook, GFP_KERNEL)?;
        }
        shadow::init().inspect_err(|error| {
            pr_err!(
                "cannot take over: the built-in core's shadow variables ({})\n",
                error.to_errno()
            );
        })?;
        let mut root = Kobject::new(RootDirectory)?;
        let queue = registry::new_queue()?;
        // SAFETY: The module takes over once only.
        let looks = unsafe { Looks::new() };
        let handed_back = Arc::pin_init(Completion::new(), GFP_KERNEL)?;
        let registers = if jumps != WantedJumps::None && ftrace::can_jump() {
            Registers::All
        } else {
            Registers::Arguments
        };
        let mut ops = Ops::new(registers)?;

        let mut waits = 0..DIRECTORY_WAITS;
        let (mut registry, builtin) = loop {
            let registry = REGISTRY.lock();
            let builtin = Builtin::lock();
            if !builtin.is_idle() {
                pr_err!("cannot take over: the core in charge has patches, disable them first\n");
                return Err(EBUSY);
            }
            if !builtin.has_directories() {
                break (registry, builtin);
            }
            drop(builtin);
            drop(registry);
            if waits.next().is_none() {
                pr_err!("cannot take over: a patch of the core in charge is still being freed\n");
                return Err(EBUSY);
            }
            cpu::wait_a_moment();
        };
        if let Err(failed) = ops.attach(&mut hooks) {
            pr_err!(
                "cannot take over: redirecting {} failed ({})\n",
                redirections()
                    .get(failed.index)
                    .map_or(c"?", |redirection| redirection.name),
                failed.error.to_errno()
            );
            return Err(failed.error);
        }
        builtin.set_blocked(true);
        if let Err(error) = builtin.replace_root(&mut root) {
            pr_err!(
                "cannot take over: /sys/kernel/livepatch ({})\n",
                error.to_errno()
            );
            builtin.set_blocked(false);
            ops.detach(|batch| hooks.iter_mut().for_each(|hook| batch.unlink(hook)));
            return Err(error);
        }
        drop(builtin.drain());
        if jumps != WantedJumps::None {
            if let Err(error) = ops.allow_jumps() {
                pr_warn!("calls cannot jump to replacements ({})\n", error.to_errno());
            }
        }
        registry.set_runtime(Runtime {
            root,
            ops,
            queue,
            looks,
            jumps_by_default: jumps == WantedJumps::All,
            handed_back,
        });
        pr_info!("the Rust core is in charge\n");
        Ok(Self { hooks })
    }
}

impl Drop for TakeOver {
    fn drop(&mut self) {
        registry::wait_until_unused();
        let (mut registry, builtin) = loop {
            let registry = REGISTRY.lock();
            let builtin = Builtin::lock();
            // That of a patch that the built-in core has refused is below our root.
            if !builtin.has_directories() {
                break (registry, builtin);
            }
            drop(builtin);
            drop(registry);
            cpu::wait_a_moment();
        };
        let Some(runtime) = registry.take_runtime() else {
            return;
        };
        let Runtime {
            root,
            mut ops,
            queue,
            looks,
            handed_back,
            ..
        } = runtime;
        drop(root);
        builtin.create_root();
        builtin.set_blocked(false);
        // Before the last function leaves the filter, which waits for those on the way here.
        ops.forbid_jumps();
        let hooks = &mut self.hooks;
        ops.detach(|batch| hooks.iter_mut().for_each(|hook| batch.unlink(hook)));
        drop(builtin);
        drop(registry);
        handed_back.complete_all();

        transition::synchronize_last_switch();
        drop(looks);
        drop(queue);
        in_flight::wait_for_callers();
        drop(ops);
        pr_info!("the built-in core is in charge again\n");
        stay_if_stuck();
    }
}

/// Whose calls are to jump.
#[derive(Clone, Copy, PartialEq, Eq)]
enum WantedJumps {
    /// Those of no patch.
    None,
    /// Those of patches whose file `direct` asks for it.
    Asked,
    /// Those of all patches but where their file `direct` says otherwise.
    All,
}

impl WantedJumps {
    /// What the module parameter `direct` says.
    ///
    /// # Errors
    ///
    /// `EINVAL` for a number without a meaning, after a message.
    fn by_parameter() -> Result<Self> {
        // A reference to the value or the value itself, depending on the kernel's release.
        match *Borrow::<u8>::borrow(&crate::module_parameters::direct.value()) {
            0 => Ok(Self::None),
            1 => Ok(Self::All),
            2 => Ok(Self::Asked),
            other => {
                pr_err!("cannot take over: direct={} has no meaning\n", other);
                Err(EINVAL)
            }
        }
    }
}

/// Does not return if ftrace still calls this module and cannot be stopped. Sleeps.
fn stay_if_stuck() {
    if ftrace::is_stuck() {
        pr_emerg!("ftrace is dead and still calls this module: it cannot be unloaded\n");
        loop {
            // SAFETY: The caller may sleep.
            unsafe { bindings::schedule_timeout_idle(c_long::MAX) };
        }
    }
}
