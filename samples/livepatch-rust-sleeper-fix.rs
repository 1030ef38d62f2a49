// SPDX-License-Identifier: GPL-2.0

//! A live patch in Rust of a function of a module, which may come before or after its patch.
//!
//! ```text
//! # insmod livepatch-rust-sleeper-fix.ko
//! # insmod livepatch-sleeper.ko
//! livepatch: applying patch 'livepatch_rust_sleeper_fix' to loading module 'livepatch_sleeper'
//! # cat /proc/sleeper
//! awake, in Rust
//! # rmmod livepatch_sleeper
//! livepatch: reverting patch 'livepatch_rust_sleeper_fix' on unloading module 'livepatch_sleeper'
//! ```
//!
//! What `livepatch-sleeper-fix.c` says about readers that sleep in the old function when the patch
//! is enabled is true of this one, too.

use kernel::{
    bindings::seq_file,
    ffi::c_int,
    seq_file::SeqFile,
    seq_print, //
};

klp::patch! {
    name: "livepatch_rust_sleeper_fix",
    description: "Live patch of a function in which tasks sleep, in Rust",
    license: "GPL",
    objects: {
        module "livepatch_sleeper" {
            // SAFETY: Both get the file that is being read, may sleep, and return 0 or an error.
            // The replacement does not end with a call.
            unsafe sleeper_wait(m) => wait_no_longer,
        }
    },
}

/// Takes the place of `sleeper_wait()`.
///
/// # Safety
///
/// `m` must be the file that is being read.
unsafe extern "C" fn wait_no_longer(m: *mut seq_file) -> c_int {
    // SAFETY: The caller passes the file, which only this thread uses.
    let m = unsafe { SeqFile::from_raw(m) };
    seq_print!(m, "awake, in Rust\n");
    0
}
