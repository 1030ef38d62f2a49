// SPDX-License-Identifier: GPL-2.0

//! The structures that declare a patch to the core, and what is wrong with a declaration.

use crate::bindings::{
    self,
    klp_callbacks,
    klp_func,
    klp_object,
    klp_patch,
    klp_state, //
};
use crate::state::State;
use core::{
    cell::UnsafeCell,
    sync::atomic::{AtomicBool, Ordering}, //
};
use kernel::{
    error::to_result,
    ffi::{c_uint, c_ulong, c_void},
    prelude::*,
    str::{as_char_ptr_in_const_context, CStr},
    types::Opaque, //
};

/// A list in static memory that ends with an empty entry, as the core expects it.
#[repr(transparent)]
pub struct Table<T, const N: usize>(UnsafeCell<[T; N]>);

// SAFETY: Only the core uses the entries, under its own lock, and gets them by a raw pointer.
unsafe impl<T, const N: usize> Sync for Table<T, N> {}

impl<T, const N: usize> Table<T, N> {
    /// Makes a list; the last entry must be the empty one.
    pub const fn new(entries: [T; N]) -> Self {
        Self(UnsafeCell::new(entries))
    }

    /// A pointer to the first entry, for the core.
    pub const fn as_ptr(&'static self) -> *mut T {
        self.0.get().cast()
    }
}

/// The entry for a function: its name, which of several of that name (0 if there is only one), and
/// what takes its place.
///
/// # Safety
///
/// The replacement must be fit for the function, as [`patch!`](crate::patch) demands.
pub const unsafe fn func(name: &'static CStr, position: usize, replacement: *const ()) -> klp_func {
    klp_func {
        old_name: as_char_ptr_in_const_context(name),
        old_sympos: position as c_ulong,
        new_func: replacement.cast_mut().cast::<c_void>(),
        ..end()
    }
}

/// The entry for the kernel itself, or for a module with a name.
pub const fn object(
    name: Option<&'static CStr>,
    funcs: *mut klp_func,
    callbacks: klp_callbacks,
) -> klp_object {
    klp_object {
        name: match name {
            Some(name) => as_char_ptr_in_const_context(name),
            None => core::ptr::null(),
        },
        funcs,
        callbacks,
        ..end()
    }
}

/// The entry for a state.
pub const fn state(id: usize, version: c_uint) -> klp_state {
    klp_state {
        id: id as c_ulong,
        version,
        ..end()
    }
}

/// The empty entry.
pub const fn end<T: pin_init::Zeroable>() -> T {
    pin_init::zeroed()
}

/// The patch of a module.
pub struct Patch {
    declaration: Opaque<klp_patch>,
    /// Whether the core has been asked to enable it.
    started: AtomicBool,
}

// SAFETY: Only the core uses the declaration, under its own lock.
unsafe impl Sync for Patch {}

/// Says that the module enables its patch. Only [`Patch::enable`] makes it.
pub struct Enabled(());

impl Patch {
    /// Declares a patch; `states` may be null.
    pub const fn new(objects: *mut klp_object, states: *mut klp_state, replace: bool) -> Self {
        extern "C" {
            static __this_module: Opaque<c_void>;
        }
        Self {
            declaration: Opaque::new(klp_patch {
                mod_: (&raw const __this_module).cast_mut().cast(),
                objs: objects,
                states,
                replace,
                ..end()
            }),
            started: AtomicBool::new(false),
        }
    }

    /// Starts the transition to the patch, and returns the module, which is made before it and
    /// dropped if the core refuses the patch.
    ///
    /// # Errors
    ///
    /// What `klp_enable_patch()` says; `EBUSY` if this is not the first call.
    ///
    /// # Safety
    ///
    /// The lists must be static and end with empty entries.
    #[inline]
    pub unsafe fn enable<M>(&'static self, make: impl FnOnce(Enabled) -> M) -> Result<M> {
        // ORDERING: Relaxed, since the flag only picks the one caller that goes on.
        if self.started.swap(true, Ordering::Relaxed) {
            return Err(EBUSY);
        }
        let module = make(Enabled(()));
        // SAFETY: The declaration is what the core expects, by the safety requirements, and the
        // core gets it once only.
        to_result(unsafe { bindings::klp_enable_patch(self.as_ptr()) })?;
        Ok(module)
    }

    /// Whether tasks may still run the replacements though the core says that none does. For
    /// callbacks only.
    #[inline]
    pub(crate) fn is_forced(&self) -> bool {
        // SAFETY: The flag changes with the core's lock held, and so do callbacks run.
        unsafe { (*self.as_ptr()).forced }
    }

    /// The patch for functions of the core.
    #[inline]
    pub(crate) fn as_ptr(&self) -> *mut klp_patch {
        self.declaration.get()
    }
}

/// A function that nobody has declared, for the compiler to infer its type. Never called.
pub fn undeclared<T>() -> T {
    unreachable!()
}

/// The name of a function and its position, or 0 if the author gave none.
pub type Name = (&'static str, usize);

const fn same(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    if a.len() != b.len() {
        return false;
    }
    // From the end, since names of functions that belong together begin alike.
    let mut i = a.len();
    while i > 0 && a[i - 1] == b[i - 1] {
        i -= 1;
    }
    i == 0
}

/// What is wrong with two functions of a list, and the index of the first one.
pub enum Clash {
    /// All functions differ.
    None,
    /// They are the same.
    Twice(usize),
    /// They have the same name, and one has no position.
    NoPosition(usize),
}

/// Looks for two functions that cannot be told apart.
pub const fn clash(names: &[Name]) -> Clash {
    let mut i = 0;
    while i < names.len() {
        let (name, position) = names[i];
        let mut j = i + 1;
        while j < names.len() {
            let (other_name, other_position) = names[j];
            if same(name, other_name) {
                if position == other_position {
                    return Clash::Twice(i);
                }
                if position == 0 || other_position == 0 {
                    return Clash::NoPosition(i);
                }
            }
            j += 1;
        }
        i += 1;
    }
    Clash::None
}

/// Whether an object is in the list once only.
pub const fn is_unique_object(name: &str, all: &[&str]) -> bool {
    let mut count = 0;
    let mut i = 0;
    while i < all.len() {
        count += same(all[i], name) as usize;
        i += 1;
    }
    count == 1
}

/// Whether a state is in the list once only.
pub const fn is_unique_state(id: usize, all: &[usize]) -> bool {
    let mut count = 0;
    let mut i = 0;
    while i < all.len() {
        count += (all[i] == id) as usize;
        i += 1;
    }
    count == 1
}

/// Whether the kernel can have a function of this name.
pub const fn is_symbol(name: &str) -> bool {
    !name.is_empty() && name.len() < bindings::KSYM_NAME_LEN as usize
}

/// Whether a name in quotes is one that Rust could write without them.
pub const fn is_identifier(name: &str) -> bool {
    let mut i = 0;
    while i < name.len() {
        let character = name.as_bytes()[i];
        let letter = character.is_ascii_alphabetic() || character == b'_';
        if !letter && (i == 0 || !character.is_ascii_digit()) {
            return false;
        }
        i += 1;
    }
    // Rust has no way to write these.
    i != 0 && !has(name, &["_", "crate", "self", "super", "Self"])
}

/// What the kernel calls a function that is written `r#name`, since its name is a keyword of Rust.
pub const fn plain(name: &'static str) -> &'static str {
    match name.as_bytes() {
        [b'r', b'#', plain @ ..] => match core::str::from_utf8(plain) {
            Ok(plain) => plain,
            Err(_) => name,
        },
        _ => name,
    }
}

/// Whether there is an entry of this name.
pub const fn has(name: &str, all: &[&str]) -> bool {
    let mut i = 0;
    while i < all.len() {
        if same(all[i], name) {
            return true;
        }
        i += 1;
    }
    false
}

/// Whether a name has a character that the names of loaded modules never have.
pub const fn has_dash(name: &str) -> bool {
    let mut i = 0;
    while i < name.len() {
        if name.as_bytes()[i] == b'-' {
            return true;
        }
        i += 1;
    }
    false
}

/// Whether a module can have this name.
pub const fn is_module(name: &str) -> bool {
    const fn length<const N: usize>(_: fn(&bindings::module) -> &[u8; N]) -> usize {
        N
    }
    !name.is_empty() && name.len() < length(|module| &module.name)
}

/// Whether a patch of this name becomes the module that is being built, of which kbuild says the
/// path without a suffix.
pub const fn is_built_as(name: &str, path: Option<&str>) -> bool {
    let Some(path) = path else {
        return true;
    };
    let (name, path) = (name.as_bytes(), path.as_bytes());
    if name.len() > path.len() {
        return false;
    }
    let start = path.len() - name.len();
    let mut i = 0;
    while i < name.len() {
        let character = if path[start + i] == b'-' {
            b'_'
        } else {
            path[start + i]
        };
        if character != name[i] {
            return false;
        }
        i += 1;
    }
    start == 0 || path[start - 1] == b'/'
}

/// A name that ends with NUL as a string for C.
pub const fn c_str(text: &'static str) -> &'static CStr {
    match CStr::from_bytes_with_nul(plain(text).as_bytes()) {
        Ok(string) => string,
        Err(_) => panic!("klp: a name in the declaration contains NUL"),
    }
}

/// Whether the kernel takes the license for one that is compatible with the GPL.
pub const fn is_gpl(license: &str) -> bool {
    has(
        license,
        &[
            "GPL",
            "GPL v2",
            "GPL and additional rights",
            "Dual BSD/GPL",
            "Dual MIT/GPL",
            "Dual MPL/GPL",
        ],
    )
}

/// Whether a state's older version is an older version of it.
pub const fn is_older<S: State>() -> bool {
    let never = <S::Older as State>::VERSION == 0;
    never || (<S::Older as State>::ID == S::ID && <S::Older as State>::VERSION < S::VERSION)
}
