// SPDX-License-Identifier: GPL-2.0

//! A live patch in Rust with callbacks, which are told what happens to each object.
//!
//! ```text
//! # insmod livepatch-rust-callbacks.ko
//! livepatch_rust_callbacks: the kernel: before patching
//! livepatch_rust_callbacks: the kernel: patched
//! # insmod livepatch-sleeper.ko
//! livepatch_rust_callbacks: livepatch_sleeper: before patching
//! livepatch_rust_callbacks: livepatch_sleeper: patched
//! # rmmod livepatch_sleeper
//! livepatch_rust_callbacks: livepatch_sleeper: before unpatching
//! livepatch_rust_callbacks: livepatch_sleeper: unpatched
//! # echo 0 > /sys/kernel/livepatch/livepatch_rust_callbacks/enabled
//! livepatch_rust_callbacks: the kernel: before unpatching
//! livepatch_rust_callbacks: the kernel: unpatched
//! ```
//!
//! The first callback can refuse: with `refuse_kernel=1` the patch cannot be enabled, and with
//! `refuse_module=1` the module cannot be loaded while it is:
//!
//! ```text
//! # insmod livepatch-rust-callbacks.ko refuse_kernel=1
//! insmod: ERROR: could not insert module livepatch-rust-callbacks.ko: Device or resource busy
//! ```

use kernel::{
    bindings::seq_file,
    ffi::c_int,
    prelude::*,
    seq_file::SeqFile,
    seq_print, //
};
use klp::{Callbacks, Object};

klp::patch! {
    name: "livepatch_rust_callbacks",
    description: "Live patch with callbacks, in Rust",
    license: "GPL",
    params: {
        refuse_kernel: u8 {
            default: 0,
            description: "do not let the patch be enabled",
        },
        refuse_module: u8 {
            default: 0,
            description: "do not let the module be loaded",
        },
    },
    objects: {
        vmlinux {
            callbacks: Announce,
        }
        module "livepatch_sleeper" {
            callbacks: Announce,
            // SAFETY: Both get the file that is being read, may sleep, and return 0 or an error.
            // The replacement does not end with a call.
            unsafe sleeper_wait(m) => wait_no_longer,
        }
    },
}

/// Tells what happens.
struct Announce;

impl Announce {
    fn say(object: &Object, what: &str) {
        match object.name() {
            None => pr_info!("the kernel: {what}\n"),
            Some(name) => pr_info!("{name}: {what}\n"),
        }
    }
}

impl Callbacks for Announce {
    fn pre_patch(object: &Object) -> Result {
        // Before Linux 7.3 `value()` is a reference.
        let refuse = match object.name() {
            None => module_parameters::refuse_kernel.value().ne(&0),
            Some(_) => module_parameters::refuse_module.value().ne(&0),
        };
        if refuse {
            return Err(EBUSY);
        }
        Self::say(object, "before patching");
        Ok(())
    }

    fn post_patch(object: &Object) {
        Self::say(object, "patched");
    }

    fn pre_unpatch(object: &Object) {
        Self::say(object, "before unpatching");
    }

    fn post_unpatch(object: &Object) {
        Self::say(object, "unpatched");
    }
}

/// Takes the place of `sleeper_wait()`.
///
/// # Safety
///
/// `m` must be the file that is being read.
unsafe extern "C" fn wait_no_longer(m: *mut seq_file) -> c_int {
    // SAFETY: The caller passes the file, which only this thread uses.
    let m = unsafe { SeqFile::from_raw(m) };
    seq_print!(m, "awake, with callbacks\n");
    0
}
