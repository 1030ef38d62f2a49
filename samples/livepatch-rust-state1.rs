// SPDX-License-Identifier: GPL-2.0

//! A cumulative live patch in Rust that changes more of the system than code, version 1 of 3.
//!
//! It lets all messages of the kernel go to the console, and keeps the level from before as its
//! state. Each version replaces the one before, and the state is handed over: nobody takes the
//! level that the patch has set for the one from before.
//!
//! ```text
//! # cat /proc/sys/kernel/printk
//! 4    4    1    7
//! # insmod livepatch-rust-state1.ko; cat /proc/sys/kernel/printk
//! 15    4    1    7
//! # insmod livepatch-rust-state2.ko; cat /proc/sys/kernel/printk
//! 15    7    1    7
//! # insmod livepatch-rust-state3.ko; rmmod livepatch_rust_state1 livepatch_rust_state2
//! # cat /proc/cmdline
//! patch 3, level before it 4
//! ```
//!
//! Version 3 has the state in the same version as version 2, so it can be replaced by version 2
//! again, for example since it has turned out to be wrong. Version 1 does not know what version 2
//! has changed, and the kernel refuses it:
//!
//! ```text
//! # insmod livepatch-rust-state2.ko; rmmod livepatch_rust_state3
//! # insmod livepatch-rust-state1.ko
//! insmod: ERROR: could not insert module livepatch-rust-state1.ko: Invalid parameters
//! # echo 0 > /sys/kernel/livepatch/livepatch_rust_state2/enabled
//! # cat /proc/sys/kernel/printk
//! 4    4    1    7
//! ```

#[path = "livepatch-rust-state/level1.rs"]
mod level1;

use kernel::{
    bindings::{self, seq_file},
    ffi::{c_int, c_void},
    str::CStrExt as _,
    sync::rcu, //
};
use klp::Declared;
use level1::Level1;

klp::patch! {
    name: "livepatch_rust_state1",
    description: "Cumulative live patch with a state, version 1, in Rust",
    license: "GPL",
    replace: true,
    states: [Level1],
    objects: {
        vmlinux {
            // SAFETY: Both are show functions of `/proc/cmdline`, which get the file and a pointer,
            // may sleep, and return 0. The replacement does not end with a call.
            unsafe cmdline_proc_show(m, v) => show_saved_level,
        }
    },
}

/// Takes the place of `cmdline_proc_show()`, and shows what the state has kept.
///
/// # Safety
///
/// `m` must be the file that is being read.
unsafe extern "C" fn show_saved_level(m: *mut seq_file, _v: *mut c_void) -> c_int {
    let saved = Level1::current(&rcu::read_lock()).map_or(-1, |state| state.console);
    let format = c"patch 1, level before it %d\n".as_char_ptr();
    // SAFETY: The caller passes the file.
    unsafe { bindings::seq_printf(m, format, saved) };
    0
}
