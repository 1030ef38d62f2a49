// SPDX-License-Identifier: GPL-2.0

//! The symbol tables of the kernel and its modules.
//!
//! C header: [`include/linux/kallsyms.h`](srctree/include/linux/kallsyms.h)
//!
//! # Examples
//!
//! ```ignore
//! let mut count = 0;
//! kallsyms::for_each_in_vmlinux(c"cleanup", |_address| {
//!     count += 1;
//!     ControlFlow::Continue(())
//! });
//! ```

use crate::bindings;
use core::ops::ControlFlow;
use kernel::{
    ffi::{
        c_char,
        c_int,
        c_ulong,
        c_void, //
    },
    prelude::*,
};

/// Calls `f` with the address of every symbol of vmlinux named `name`, by address, until it breaks.
/// May sleep.
pub(crate) fn for_each_in_vmlinux<F>(name: &CStr, mut f: F)
where
    F: FnMut(usize) -> ControlFlow<()>,
{
    /// Calls the closure.
    ///
    /// # Safety
    ///
    /// `data` must point to the closure, which nobody else may use.
    unsafe extern "C" fn trampoline<F>(data: *mut c_void, address: c_ulong) -> c_int
    where
        F: FnMut(usize) -> ControlFlow<()>,
    {
        // SAFETY: `data` is the `f` below, which nobody else uses during the call.
        let f = unsafe { &mut *data.cast::<F>() };
        f(address).is_break().into()
    }

    let data = core::ptr::from_mut(&mut f).cast();
    // SAFETY: The trampoline fits `data`, which is not kept after the call.
    unsafe {
        bindings::kallsyms_on_each_match_symbol(Some(trampoline::<F>), name.as_char_ptr(), data)
    };
}

/// Calls `f` with the name and address of every symbol of `module`. May sleep.
///
/// Modules that are being loaded are searched too.
pub(crate) fn for_each_in_module<F>(module: &CStr, mut f: F)
where
    F: FnMut(&CStr, usize),
{
    /// Calls the closure.
    ///
    /// # Safety
    ///
    /// `data` must point to the closure, which nobody else may use.
    unsafe extern "C" fn trampoline<F>(
        data: *mut c_void,
        name: *const c_char,
        address: c_ulong,
    ) -> c_int
    where
        F: FnMut(&CStr, usize),
    {
        // SAFETY: `data` is the `f` below, which nobody else uses during the call.
        let f = unsafe { &mut *data.cast::<F>() };
        // SAFETY: The caller in C passes a NUL-terminated name that stays during the call.
        let name = unsafe { CStr::from_char_ptr(name) };
        f(name, address);
        0
    }

    let data = core::ptr::from_mut(&mut f).cast();
    // SAFETY: The trampoline fits `data`, which is not kept after the call.
    unsafe {
        bindings::module_kallsyms_on_each_symbol(module.as_char_ptr(), Some(trampoline::<F>), data)
    };
}

/// Returns the size in bytes of the symbol that starts at or before `address`, if there is one.
pub(crate) fn size_at(address: usize) -> Option<usize> {
    let mut size = 0;
    // SAFETY: `size` is valid for writes; the offset is not wanted.
    let found =
        unsafe { bindings::kallsyms_lookup_size_offset(address, &mut size, core::ptr::null_mut()) };
    (found != 0).then_some(size)
}
