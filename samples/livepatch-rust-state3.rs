// SPDX-License-Identifier: GPL-2.0

//! A cumulative live patch in Rust with a state, version 3 of 3: see `livepatch-rust-state1.rs`.
//!
//! Its code differs from that of version 2, but the state does not.

#[path = "livepatch-rust-state/level1.rs"]
mod level1;
#[path = "livepatch-rust-state/level2.rs"]
mod level2;

use kernel::{
    bindings::{self, seq_file},
    ffi::{c_int, c_void},
    str::CStrExt as _,
    sync::rcu, //
};
use klp::Declared;
use level2::Level2;

klp::patch! {
    name: "livepatch_rust_state3",
    description: "Cumulative live patch with a state, version 3, in Rust",
    license: "GPL",
    replace: true,
    states: [Level2],
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
    let saved = Level2::current(&rcu::read_lock()).map_or(-1, |state| state.first.console);
    let format = c"patch 3, level before it %d\n".as_char_ptr();
    // SAFETY: The caller passes the file.
    unsafe { bindings::seq_printf(m, format, saved) };
    0
}
