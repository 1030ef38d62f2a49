// SPDX-License-Identifier: GPL-2.0

//! What `klp_test_rust_state1.rs` and its successors have in common: a state that says what is done
//! with it, and a shadow variable that belongs to it.

use kernel::{
    bindings::{self, seq_file},
    ffi::{c_int, c_long, c_uint, c_void},
    prelude::*,
    seq_file::SeqFile,
    seq_print,
    sync::rcu,
    types::Opaque, //
};
use klp::{Callbacks, Context, Declared, FreeAll, Never, Object, Shadow, State};

/// Declares the patch with a version of the state.
macro_rules! patch_with_version {
    ($name:literal, $version:literal) => {
        klp::patch! {
            name: $name,
            description: "Patch in Rust with a version of a state",
            license: "GPL",
            params: {
                refuse: u8 { default: 0, description: "the version that cannot be made", },
                sleep: u8 { default: 0, description: "let the function sleep", },
            },
            replace: true,
            states: [versions::Version<$version>],
            objects: {
                vmlinux {
                    callbacks: versions::Test<$version>,
                    // SAFETY: Both are show functions of `/proc/cmdline`, which get the file and a
                    // pointer, may sleep, and return 0. The replacement does not end with a call.
                    unsafe cmdline_proc_show(m, v) => versions::show::<$version>,
                }
            },
        }
    };
}

/// A version of the state.
#[repr(C)]
pub(crate) struct Version<const NUMBER: c_uint> {
    /// The versions that the value has gone through, a decimal digit each.
    path: c_uint,
}

impl<const NUMBER: c_uint> Version<NUMBER> {
    fn new(path: c_uint) -> Result<Self> {
        // Before Linux 7.3 `value()` is a reference.
        if crate::module_parameters::refuse.value().eq(&(NUMBER as u8)) {
            return Err(EBUSY);
        }
        Ok(Self {
            path: path * 10 + NUMBER,
        })
    }
}

impl<const NUMBER: c_uint> Drop for Version<NUMBER> {
    fn drop(&mut self) {
        pr_info!("version {NUMBER} dropped\n");
    }
}

/// Implements a version by its number and the one before, and how to get the path from that.
macro_rules! version {
    ($number:literal, $older:ty, $path:expr) => {
        // SAFETY: All patches with the state use this file. Its data is a number in C's layout, and
        // they replace all others. So do all that use the shadow variable, the data of which only
        // prints when it is dropped; and none of them is replaced by force.
        unsafe impl State for Version<$number> {
            const ID: usize = 0x4b4c56;
            const VERSION: c_uint = $number;
            const SHADOWS: &'static [&'static dyn FreeAll] = &[&MARK];
            type Older = $older;

            fn create() -> Result<Self> {
                Self::new(0)
            }

            fn take_over(older: &$older) -> Result<Self> {
                let path: fn(&$older) -> c_uint = $path;
                Self::new(path(older))
            }

            fn apply(&self) {
                pr_info!("version {} applied\n", $number);
            }

            fn revert(&self) {
                pr_info!("version {} reverted\n", $number);
            }
        }
    };
}

version!(1, Never, |older| match *older {});
version!(2, Version<1>, |older| older.path);
version!(3, Version<2>, |older| older.path);
// Its author has not thought of the versions between.
version!(4, Version<1>, |older| older.path);

/// The version that has attached it.
#[repr(C)]
struct Mark(c_uint);

impl Drop for Mark {
    fn drop(&mut self) {
        pr_info!("mark {} dropped\n", self.0);
    }
}

// SAFETY: Only the patches with this file use the identifier, for an integer of the kernel. The
// data is a number in C's layout, and nobody but the state frees the variable.
static MARK: Shadow<Opaque<c_int>, Mark> = unsafe { Shadow::new(0x4b4c57) };

/// An object that is there before the patches and after them.
fn object() -> &'static Opaque<c_int> {
    // SAFETY: It is an integer in static memory, which the kernel may change.
    unsafe { &*(&raw const bindings::panic_timeout).cast() }
}

/// The callbacks of a patch with a version of the state.
pub(crate) struct Test<const NUMBER: c_uint>;

impl<const NUMBER: c_uint> Callbacks for Test<NUMBER> {
    fn pre_patch(_object: &Object) -> Result {
        MARK.get_or_attach(object(), Context::Sleeping, || Ok(Mark(NUMBER)))?;
        Ok(())
    }
}

/// Takes the place of `cmdline_proc_show()`.
///
/// # Safety
///
/// `m` must be the file that is being read.
pub(crate) unsafe extern "C" fn show<const NUMBER: c_uint>(
    m: *mut seq_file,
    _v: *mut c_void,
) -> c_int
where
    Version<NUMBER>: Declared,
{
    // Before Linux 7.3 `value()` is a reference.
    if crate::module_parameters::sleep.value().ne(&0) {
        // SAFETY: Show functions may sleep.
        unsafe { bindings::schedule_timeout_interruptible(c_long::MAX) };
    }
    let path = Version::<NUMBER>::current(&rcu::read_lock()).map_or(0, |version| version.path);
    let mark = MARK.get(object()).map_or(0, |mark| mark.0);
    // SAFETY: The caller passes the file, which only this thread uses.
    let m = unsafe { SeqFile::from_raw(m) };
    seq_print!(m, "version {NUMBER}, path {path}, mark {mark}\n");
    0
}
