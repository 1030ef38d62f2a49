// SPDX-License-Identifier: GPL-2.0

//! What `reloc.rs` and `klp/elf.rs` use of the kernel and of the rest of the core.
//!
//! This crate plays the `kernel` crate for them. What they print and what they have relocated is
//! noted, for the thread of a test.

use std::cell::RefCell;

pub mod prelude {
    //! `kernel::prelude`.

    pub use super::error::{Error, Result, EINVAL, ENOEXEC};
    pub use crate::pr_err;
    pub use std::ffi::CStr;
    use std::{
        ffi::c_char,
        ops::{Deref, DerefMut},
    };

    /// How memory is allocated.
    pub struct Flags;

    /// In the ordinary way.
    pub const GFP_KERNEL: Flags = Flags;

    /// A vector that may run out of memory, but not here.
    pub struct KVVec<T>(Vec<T>);

    impl<T> KVVec<T> {
        /// Makes an empty one.
        pub fn new() -> Self {
            Self(Vec::new())
        }

        /// Makes one with room.
        pub fn with_capacity(capacity: usize, _: Flags) -> Result<Self> {
            Ok(Self(Vec::with_capacity(capacity)))
        }

        /// Appends an element.
        pub fn push(&mut self, value: T, _: Flags) -> Result {
            self.0.push(value);
            Ok(())
        }

        /// Keeps some elements.
        pub fn retain(&mut self, mut f: impl FnMut(&mut T) -> bool) {
            self.0.retain_mut(|value| f(value));
        }
    }

    impl<T> Deref for KVVec<T> {
        type Target = [T];

        fn deref(&self) -> &[T] {
            &self.0
        }
    }

    impl<T> DerefMut for KVVec<T> {
        fn deref_mut(&mut self) -> &mut [T] {
            &mut self.0
        }
    }

    impl<T> IntoIterator for KVVec<T> {
        type Item = T;
        type IntoIter = std::vec::IntoIter<T>;

        fn into_iter(self) -> Self::IntoIter {
            self.0.into_iter()
        }
    }

    /// What the `kernel` crate adds to strings.
    pub trait CStrExt {
        /// Wraps a string of C's.
        ///
        /// # Safety
        ///
        /// It ends with NUL and stays for `'a`.
        unsafe fn from_char_ptr<'a>(pointer: *const c_char) -> &'a Self;
    }

    impl CStrExt for CStr {
        unsafe fn from_char_ptr<'a>(pointer: *const c_char) -> &'a Self {
            // SAFETY: By the safety requirements.
            unsafe { CStr::from_ptr(pointer) }
        }
    }
}

pub mod error {
    //! `kernel::error`.

    use std::ffi::c_int;

    /// An errno.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Error(pub c_int);

    /// What may fail.
    pub type Result<T = (), E = Error> = std::result::Result<T, E>;

    /// Invalid argument.
    pub const EINVAL: Error = Error(22);
    /// Exec format error.
    pub const ENOEXEC: Error = Error(8);

    /// Makes an error of a negative number.
    pub fn to_result(error: c_int) -> Result {
        if error < 0 {
            Err(Error(-error))
        } else {
            Ok(())
        }
    }
}

pub mod str {
    //! `kernel::str`.

    /// Bytes that are text.
    pub struct BStr;

    impl BStr {
        /// Returns the bytes: nothing prints them here.
        pub fn from_bytes(bytes: &[u8]) -> &[u8] {
            bytes
        }
    }
}

pub mod ffi {
    //! `kernel::ffi`.

    pub use std::ffi::c_char;
}

thread_local! {
    static MESSAGES: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Notes a message.
pub(crate) fn print(message: &str) {
    MESSAGES.with_borrow_mut(|messages| messages.push(message.trim_end().to_owned()));
}

/// Returns the messages since the last call.
pub(crate) fn messages() -> Vec<String> {
    MESSAGES.take()
}

/// Notes the message: its text, without what is put in.
#[macro_export]
macro_rules! pr_err {
    ($format:literal $(, $argument:expr)* $(,)?) => {{
        $(let _ = &$argument;)*
        $crate::kernel_crate::print($format);
    }};
}
