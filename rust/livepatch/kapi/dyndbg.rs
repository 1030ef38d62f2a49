// SPDX-License-Identifier: GPL-2.0

//! `pr_debug()` with dynamic debug.
//!
//! The `kernel` crate's `pr_debug!` cannot be switched on at run time; the kernel's selftests do
//! just that, by file and function name.
//!
//! C header: [`include/linux/dynamic_debug.h`](srctree/include/linux/dynamic_debug.h)

use core::{
    cell::UnsafeCell,
    mem::offset_of, //
};

use kernel::{
    bindings::{
        __BindgenBitfieldUnit, //
        _ddebug,
    },
    fmt,
    prelude::*,
    str::as_char_ptr_in_const_context, //
};

/// Class of entries without a class: the largest that fits in the field.
const CLASS_DEFAULT: u32 = 63;

/// One entry of the `__dyndbg` section.
///
/// # Invariants
///
/// The strings are static. The kernel changes the flags at any time; nobody else changes anything.
#[repr(transparent)]
pub(crate) struct Site(UnsafeCell<_ddebug>);

// SAFETY: Read by volatile loads only; the one writer is the kernel.
unsafe impl Sync for Site {}

impl Site {
    /// Makes an entry that is off. The names are what users ask for, so those of the C core.
    pub(crate) const fn new(
        modname: &'static CStr,
        function: &'static CStr,
        filename: &'static CStr,
        format: &'static CStr,
        line: u32,
    ) -> Self {
        // SAFETY: All zeroes is a valid value: null pointers, no bits, a static key that is off.
        let mut site: _ddebug = unsafe { core::mem::zeroed() };
        site.modname = as_char_ptr_in_const_context(modname);
        site.function = as_char_ptr_in_const_context(function);
        site.filename = as_char_ptr_in_const_context(filename);
        site.format = as_char_ptr_in_const_context(format);
        // lineno:18, class_id:6, flags:8.
        let bits = (line & 0x3_ffff) | CLASS_DEFAULT << 18;
        site._bitfield_1 = __BindgenBitfieldUnit::new(bits.to_le_bytes());
        Self(UnsafeCell::new(site))
    }

    /// Returns whether somebody wants to see the message. Any context.
    #[inline(always)]
    pub(crate) fn enabled(&self) -> bool {
        let bits = self.0.get().cast::<u8>();
        // SAFETY: The flags are the last byte of the bit field, inside the entry.
        let flags = unsafe { bits.add(offset_of!(_ddebug, _bitfield_1) + 3) };
        // SAFETY: The byte is valid for reads. The kernel may be changing it, hence volatile.
        u32::from(unsafe { flags.read_volatile() }) & kernel::bindings::_DPRINTK_FLAGS_PRINT != 0
    }

    /// Prints the message, with what the entry's flags add. Any context that may call `printk()`.
    #[cold]
    pub(crate) fn print(&self, args: fmt::Arguments<'_>) {
        // SAFETY: The entry is in the section and complete; `%pA` takes a `fmt::Arguments`.
        unsafe {
            kernel::bindings::__dynamic_pr_debug(
                self.0.get(),
                c"livepatch: %pA".as_char_ptr(),
                core::ptr::from_ref(&args).cast::<core::ffi::c_void>(),
            )
        };
    }
}

/// Prints a debug message if it has been switched on in `/sys/kernel/debug/dynamic_debug/control`.
///
/// `pr_debug!("file.c", "function", "format for the list", "format", arguments...)`: the first
/// three are what the control file shows.
macro_rules! pr_debug {
    ($file:literal, $function:literal, $listed:literal, $($args:tt)*) => {{
        #[cfg(CONFIG_DYNAMIC_DEBUG)]
        {
            // Nothing but its place makes the static special.
            #[allow(unsafe_code)]
            #[used(compiler)]
            #[link_section = "__dyndbg"]
            static SITE: $crate::kapi::dyndbg::Site = $crate::kapi::dyndbg::Site::new(
                c"livepatch",
                $crate::kapi::dyndbg::cstr(concat!($function, "\0")),
                $crate::kapi::dyndbg::cstr(concat!("kernel/livepatch/", $file, "\0")),
                $crate::kapi::dyndbg::cstr(concat!($listed, "\\n\0")),
                line!(),
            );
            if SITE.enabled() {
                SITE.print(::kernel::prelude::fmt!($($args)*));
            }
        }
    }};
}
pub(crate) use pr_debug;

/// Makes a C string of a literal with its NUL, for [`pr_debug`].
#[doc(hidden)]
pub(crate) const fn cstr(literal: &'static str) -> &'static CStr {
    match CStr::from_bytes_with_nul(literal.as_bytes()) {
        Ok(string) => string,
        Err(_) => panic!("a name with a NUL inside"),
    }
}
