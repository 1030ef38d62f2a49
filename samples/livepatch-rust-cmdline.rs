// SPDX-License-Identifier: GPL-2.0

//! A complete live patch in Rust of a function of vmlinux: what `/proc/cmdline` shows.
//!
//! ```text
//! # cat /proc/cmdline
//! console=ttyS0 root=/dev/vda
//! # insmod livepatch-rust-cmdline.ko
//! # cat /proc/cmdline
//! console=ttyS0 root=/dev/vda live-patched in Rust
//! # ls /sys/kernel/livepatch/livepatch_rust_cmdline
//! enabled  force  replace  stack_order  transition  vmlinux
//! # echo 0 > /sys/kernel/livepatch/livepatch_rust_cmdline/enabled
//! # cat /proc/cmdline
//! console=ttyS0 root=/dev/vda
//! # rmmod livepatch_rust_cmdline
//! ```
//!
//! The patch does what `livepatch-cmdline.c` does in C. It uses `saved_command_line`, which the
//! kernel does not export: `samples.symvers` names it, and after the build `klp convert`
//! turns the references into relocations that the kernel's loader resolves in live patches.

use kernel::{
    bindings::{self, seq_file},
    ffi::{c_int, c_void},
    str::CStrExt as _, //
};

klp::patch! {
    name: "livepatch_rust_cmdline",
    description: "Live patch of /proc/cmdline, in Rust",
    license: "GPL",
    objects: {
        vmlinux {
            // SAFETY: Both are show functions of `/proc/cmdline`, which get the file and a pointer,
            // may sleep, and return 0. The replacement does not end with a call.
            unsafe cmdline_proc_show(m, v) => show_marked_cmdline,
        }
    },
}

/// Takes the place of `cmdline_proc_show()`, so it has the same parameters and the same contract.
///
/// # Safety
///
/// `m` must be the file that is being read.
unsafe extern "C" fn show_marked_cmdline(m: *mut seq_file, _v: *mut c_void) -> c_int {
    // SAFETY: The command line does not change after the boot.
    let cmdline = unsafe { bindings::saved_command_line };
    let format = c"%s live-patched in Rust\n".as_char_ptr();
    // SAFETY: The caller passes the file, and the command line is a string.
    unsafe { bindings::seq_printf(m, format, cmdline) };
    0
}
