// SPDX-License-Identifier: GPL-2.0

//! A patch in Rust whose callback uses shadow variables in every way, and which goes wrong in the
//! way that the parameter `fault` says. `tools/testing/vm` uses it.

use core::{
    cell::Cell,
    sync::atomic::{AtomicI32, Ordering}, //
};
use kernel::{
    bindings::{self, seq_file},
    ffi::{c_int, c_long, c_uint, c_void},
    prelude::*,
    seq_file::SeqFile,
    seq_print,
    time::{delay::fsleep, Delta}, //
};
use klp::{Callbacks, Context, FreeAll, Never, Object, Shadow, State};

klp::patch! {
    name: "klp_test_rust",
    description: "Patch in Rust that goes wrong",
    license: "GPL",
    params: {
        fault: u8 {
            default: 0,
            description: "1 state, 2 or 6 callback fails; 3 callback, 4 function panics; 5 sleeps",
        },
    },
    replace: true,
    states: [First, Second],
    // SAFETY: No other patch has the variables, whose data only prints when it is dropped.
    shadows: unsafe [NUMBER],
    objects: {
        vmlinux {
            callbacks: Test,
            // SAFETY: Both are show functions of `/proc/cmdline`, which get the file and a pointer,
            // may sleep, and return 0. The replacement does not end with a call.
            unsafe cmdline_proc_show(m, v) => show,
        }
    },
}

fn fault(number: u8) -> bool {
    // Before Linux 7.3 `value()` is a reference.
    module_parameters::fault.value().eq(&number)
}

macro_rules! check {
    ($condition:expr) => {
        if !$condition {
            pr_err!("line {}: {}\n", line!(), stringify!($condition));
            return Err(EINVAL);
        }
    };
}

static DROPPED: AtomicI32 = AtomicI32::new(0);

fn dropped() -> c_int {
    DROPPED.load(Ordering::Relaxed)
}

/// A number that tells when it is dropped.
#[repr(C)]
struct Number(c_int);

impl Drop for Number {
    fn drop(&mut self) {
        DROPPED.fetch_add(1, Ordering::Relaxed);
        pr_info!("number {} dropped\n", self.0);
    }
}

// SAFETY: No other patch uses the identifier, and all objects in this one are of the type. The data
// is a number in C's layout.
static NUMBER: Shadow<u64, Number> = unsafe { Shadow::new(0x4b4c52) };

// SAFETY: No other patch uses the identifier, and all objects in this one are of the type. The data
// is a number in C's layout.
static OF_STATE: Shadow<u64, Number> = unsafe { Shadow::new(0x4b4c55) };

/// An object whose variables stay until the module and the state go.
static STAYS: u64 = 0;

fn use_shadow_variables() -> Result {
    let mut object = KBox::new(0_u64, GFP_KERNEL)?;
    let mut other = KBox::new(0_u64, GFP_KERNEL)?;
    check!(NUMBER.get(&*object).is_none());
    check!(NUMBER.take(&mut *object).is_none());

    let failed = NUMBER.get_or_attach(&*object, Context::Sleeping, || Err(ENXIO));
    check!(failed.is_err_and(|error| error == ENXIO));
    check!(NUMBER.get(&*object).is_none());

    let made = NUMBER.get_or_attach(&*object, Context::Sleeping, || {
        fsleep(Delta::from_millis(1));
        Ok(Number(1))
    })?;
    check!(made.0 == 1);
    let called = Cell::new(false);
    let found = NUMBER.get_or_attach(&*object, Context::Sleeping, || {
        called.set(true);
        Err(ENXIO)
    })?;
    check!(core::ptr::eq(made, found) && !called.get());

    // Of another patch, for example.
    let twice = NUMBER.attach(&*object, Number(2), Context::Sleeping);
    check!(twice.is_err_and(|error| error == EEXIST));
    check!(dropped() == 1);
    check!(NUMBER.get(&*object).is_some_and(|number| number.0 == 1));
    check!(NUMBER.get(&*other).is_none());
    check!(NUMBER.take(&mut *other).is_none());

    let taken = NUMBER.take(&mut *object);
    check!(dropped() == 1);
    check!(taken.is_some_and(|number| number.0 == 1));
    check!(dropped() == 2);
    check!(NUMBER.get(&*object).is_none());

    NUMBER.attach(&STAYS, Number(3), Context::Atomic)?;
    OF_STATE.attach(&STAYS, Number(4), Context::Sleeping)?;
    pr_info!("shadow variables are all right\n");
    Ok(())
}

struct Test;

/// For a second call of what enables the patch.
// SAFETY: Nobody looks at the module behind the pointer.
static MODULE: ThisModule = unsafe { ThisModule::from_ptr(core::ptr::null_mut()) };

impl Callbacks for Test {
    fn pre_patch(_object: &Object) -> Result {
        if fault(2) {
            return Err(ENODEV);
        }
        if fault(3) {
            panic!("in a callback");
        }
        use_shadow_variables()?;
        check!(<KlpPatch as kernel::Module>::init(&MODULE).is_err_and(|error| error == EBUSY));
        check!(NUMBER.get(&STAYS).is_some());
        if fault(6) {
            return Err(ENODEV);
        }
        Ok(())
    }

    fn post_unpatch(object: &Object) {
        if object.is_forced() {
            pr_info!("disabled by force\n");
        }
    }
}

/// A state that tells when it comes and goes.
struct First;

// SAFETY: No other patch uses the identifier or the shadow variables; the value is empty, and
// dropping their data only prints.
unsafe impl State for First {
    const ID: usize = 0x4b4c53;
    const VERSION: c_uint = 1;
    const SHADOWS: &'static [&'static dyn FreeAll] = &[&OF_STATE];
    type Older = Never;

    fn create() -> Result<Self> {
        pr_info!("first state created\n");
        Ok(Self)
    }

    fn take_over(older: &Never) -> Result<Self> {
        match *older {}
    }
}

impl Drop for First {
    fn drop(&mut self) {
        pr_info!("first state dropped\n");
    }
}

/// A state that can fail.
struct Second;

// SAFETY: No other patch uses the identifier; the value is empty.
unsafe impl State for Second {
    const ID: usize = 0x4b4c54;
    const VERSION: c_uint = 1;
    type Older = Never;

    fn create() -> Result<Self> {
        if fault(1) {
            return Err(EBUSY);
        }
        pr_info!("second state created\n");
        Ok(Self)
    }

    fn take_over(older: &Never) -> Result<Self> {
        match *older {}
    }
}

impl Drop for Second {
    fn drop(&mut self) {
        pr_info!("second state dropped\n");
    }
}

/// Takes the place of `cmdline_proc_show()`.
///
/// # Safety
///
/// `m` must be the file that is being read.
unsafe extern "C" fn show(m: *mut seq_file, _v: *mut c_void) -> c_int {
    if fault(4) {
        panic!("in a replacement");
    }
    if fault(5) {
        // SAFETY: Show functions may sleep.
        unsafe { bindings::schedule_timeout_interruptible(c_long::MAX) };
    }
    // SAFETY: The caller passes the file, which only this thread uses.
    let m = unsafe { SeqFile::from_raw(m) };
    seq_print!(m, "klp_test_rust\n");
    0
}
