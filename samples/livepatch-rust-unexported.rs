// SPDX-License-Identifier: GPL-2.0

//! A live patch in Rust that calls a function which the kernel does not export.
//!
//! ```text
//! # insmod livepatch-rust-unexported.ko
//! # cat /proc/cmdline
//! 87 processes, started with: console=ttyS0 root=/dev/vda
//! ```
//!
//! Modules cannot call `nr_processes()`, but live patches can. It takes three things:
//!
//! 1. A declaration: below, or in `kernel::bindings` if a header of the kernel has one that the
//!    bindings include. Nobody compares it with the kernel's function; look at the source.
//! 2. A line in `samples.symvers`, for modpost, which otherwise says that the symbol is undefined.
//! 3. `klp convert` after the build, which turns the call into a livepatch relocation. The
//!    kernel's loader fills in the address; the call is an ordinary one.
//!
//! The function that is patched must not be called like this: the call comes back to the patch.

use kernel::{
    bindings::{self, seq_file},
    ffi::{c_int, c_void},
    str::CStrExt as _, //
};

klp::patch! {
    name: "livepatch_rust_unexported",
    description: "Live patch that calls an unexported function, in Rust",
    license: "GPL",
    objects: {
        vmlinux {
            // SAFETY: Both are show functions of `/proc/cmdline`, which get the file and a pointer,
            // may sleep, and return 0. The replacement does not end with a call.
            unsafe cmdline_proc_show(m, v) => show_processes,
        }
    },
}

extern "C" {
    /// How many processes there are, from `kernel/fork.c`.
    fn nr_processes() -> c_int;
}

/// Takes the place of `cmdline_proc_show()`.
///
/// # Safety
///
/// `m` must be the file that is being read.
unsafe extern "C" fn show_processes(m: *mut seq_file, _v: *mut c_void) -> c_int {
    // SAFETY: The function only adds up counters, in any context.
    let processes = unsafe { nr_processes() };
    // SAFETY: The command line does not change after the boot.
    let cmdline = unsafe { bindings::saved_command_line };
    let format = c"%d processes, started with: %s\n".as_char_ptr();
    // SAFETY: The caller passes the file, and the command line is a string.
    unsafe { bindings::seq_printf(m, format, processes, cmdline) };
    0
}
