// SPDX-License-Identifier: GPL-2.0

//! Live patches in Rust.
//!
//! A live patch is a kernel module that names functions of the kernel or of other modules, and for
//! each of them a function that takes its place. [`patch!`] declares all of it beside ordinary
//! Rust functions, and is the whole of the module's set-up:
//!
//! ```ignore
//! //! Live patch of /proc/cmdline.
//!
//! use kernel::{bindings::seq_file, ffi::{c_int, c_void}};
//!
//! klp::patch! {
//!     name: "my_patch",
//!     description: "Live patch of /proc/cmdline",
//!     license: "GPL",
//!     objects: {
//!         vmlinux {
//!             // SAFETY: As a show function it gets the file and a `void *`, may show nothing, and
//!             // calls nothing.
//!             unsafe cmdline_proc_show(m, v) => show_nothing,
//!         }
//!     },
//! }
//!
//! extern "C" fn show_nothing(_m: *mut seq_file, _v: *mut c_void) -> c_int {
//!     0
//! }
//! ```
//!
//! What can be seen to be wrong when the patch is compiled does not compile: see [`patch!`]. What
//! only the kernel that loads it knows, such as whether it has the functions, is an error of
//! `insmod`.
//!
//! The patch works with the livepatch core of the kernel, whichever that is, and needs no other
//! module.
//!
//! # Replacements
//!
//! A replacement is an `extern "C"` function, most often an `unsafe` one, with the parameters and
//! the contract of the function that it replaces. That it is one, nobody can check: `unsafe` before
//! the name of the function in [`patch!`] says so. It is not traced, since Rust functions cannot
//! be, and so it cannot be patched itself: a later patch names the original function again.
//!
//! **There is no way to call the original.** The core redirects every call of it, so a call from
//! the replacement by the function's name comes back to the replacement, until the stack is used
//! up. Copy what is needed of the original into the patch, or patch its callers instead, as C
//! patches do.
//!
//! # Panics
//!
//! A panic is a bug of the patch, and the kernel treats it as one: it prints a report and ends the
//! task, without unwinding, so that locks stay locked. In a replacement these are the ones that it
//! or its callers hold; the patch itself can still be disabled. In a callback the lock of the
//! livepatch core is among them, and then no patch can be enabled or disabled, and no module be
//! loaded or unloaded, before the next boot. In an interrupt, or if the sysctl `panic_on_oops` is
//! set, the whole machine stops. Return errors.

mod bindings;
mod callbacks;
mod declaration;
#[doc(hidden)]
pub mod macros;
mod shadow;
mod state;

pub use callbacks::{Callbacks, Object};
pub use shadow::{Context, FreeAll, Shadow};
pub use state::{Declared, Never, State};

/// What stands before messages of this crate in the kernel's log.
const __LOG_PREFIX: &[u8] = b"klp\0";

#[doc(hidden)]
pub mod private {
    //! What [`patch!`](crate::patch) expands to.

    pub use crate::{
        bindings::{klp_callbacks, klp_func, klp_object, klp_state},
        callbacks::callbacks,
        declaration::*,
        state::{PatchModule, StateList},
    };
}
