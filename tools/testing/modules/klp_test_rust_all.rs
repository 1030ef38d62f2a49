// SPDX-License-Identifier: GPL-2.0

//! A patch in Rust of the kernel and of a module that takes the place of all other patches.
//! `tools/testing/vm` has it and a patch in C replace each other.

use kernel::{
    bindings::seq_file,
    ffi::{c_int, c_void},
    seq_file::SeqFile,
    seq_print, //
};

klp::patch! {
    name: "klp_test_rust_all",
    description: "Patch in Rust that replaces all others",
    license: "GPL",
    replace: true,
    objects: {
        vmlinux {
            // SAFETY: Both are show functions of `/proc/cmdline`, which get the file and a pointer,
            // may sleep, and return 0. The replacement does not end with a call.
            unsafe cmdline_proc_show(m, v) => show,
        }
        module "livepatch_sleeper" {
            // SAFETY: Both get the file that is being read, may sleep, and return 0 or an error.
            // The replacement does not end with a call.
            unsafe sleeper_wait(m) => wait_no_longer,
        }
    },
}

/// Takes the place of `cmdline_proc_show()`.
///
/// # Safety
///
/// `m` must be the file that is being read.
unsafe extern "C" fn show(m: *mut seq_file, _v: *mut c_void) -> c_int {
    // SAFETY: The caller passes the file, which only this thread uses.
    let m = unsafe { SeqFile::from_raw(m) };
    seq_print!(m, "klp_test_rust_all\n");
    0
}

/// Takes the place of `sleeper_wait()`.
///
/// # Safety
///
/// `m` must be the file that is being read.
unsafe extern "C" fn wait_no_longer(m: *mut seq_file) -> c_int {
    // SAFETY: The caller passes the file, which only this thread uses.
    let m = unsafe { SeqFile::from_raw(m) };
    seq_print!(m, "awake, instead of all\n");
    0
}
