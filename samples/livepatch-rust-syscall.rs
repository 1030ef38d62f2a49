// SPDX-License-Identifier: GPL-2.0

//! A live patch in Rust of a system call: nobody can switch address space randomisation off.
//!
//! ```text
//! # setarch -R true
//! # insmod livepatch-rust-syscall.ko
//! # setarch -R true
//! setarch: failed to set personality to x86_64: Operation not permitted
//! ```
//!
//! What is called a system call in the source, `SYSCALL_DEFINE1(personality, ...)`, is several
//! functions. The one to patch is the outermost, `__x64_sys_personality()`: the compiler puts the
//! others into it. It has the registers of user space as its only parameter, and the arguments are
//! in `di`, `si`, `dx`, `r10`, `r8` and `r9`; they are as user space left them, with rubbish in the
//! upper half of what is an `int`.
//!
//! For 32-bit programs there is another one, `__ia32_sys_personality()`, with its arguments in
//! `bx`, `cx`, `dx`, `si`, `di` and `bp`. A real patch has to replace it, too, on kernels that have
//! it: with `#[cfg(CONFIG_IA32_EMULATION)]` in front of its entry.

use kernel::{
    bindings::{self, pt_regs},
    ffi::{c_long, c_uint},
    prelude::*, //
};

klp::patch! {
    name: "livepatch_rust_syscall",
    description: "Live patch of a system call, in Rust",
    license: "GPL",
    objects: {
        vmlinux {
            // SAFETY: Both get the registers of the task in user space, and return the old
            // personality or an error. The replacement does not end with a call.
            unsafe __x64_sys_personality(regs) => personality,
        }
    },
}

/// Only asks for the personality.
const QUERY: c_uint = 0xffff_ffff;

/// `ADDR_NO_RANDOMIZE` of `include/uapi/linux/personality.h`.
const ADDR_NO_RANDOMIZE: c_uint = 0x0004_0000;

/// Takes the place of the system call.
///
/// # Safety
///
/// `regs` must be the registers of the calling task in user space.
unsafe extern "C" fn personality(regs: *const pt_regs) -> c_long {
    // SAFETY: The caller passes the registers.
    let personality = unsafe { (*regs).di } as c_uint;
    let task: *mut bindings::task_struct = kernel::current!().as_ptr();
    // SAFETY: The calling task exists, and only it changes its personality.
    let current = unsafe { &raw mut (*task).personality };
    // SAFETY: The calling task exists, and only it changes its personality.
    let old = unsafe { current.read() };
    if personality != QUERY {
        if personality & ADDR_NO_RANDOMIZE != 0 {
            return EPERM.to_errno() as c_long;
        }
        // SAFETY: The calling task exists, and others read its personality only.
        unsafe { current.write(personality) };
    }
    old as c_long
}
