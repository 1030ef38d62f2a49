// SPDX-License-Identifier: GPL-2.0

//! A live patch in Rust that mends a leak with a shadow variable.
//!
//! The module to be patched is `samples/livepatch/livepatch-shadow-mod.c` of the kernel: each of
//! its dummies comes with memory that nobody remembers. The patch attaches it to the dummy as a
//! shadow variable, and frees it with the dummy.
//!
//! ```text
//! # insmod livepatch-shadow-mod.ko
//! # insmod livepatch-rust-shadow-fix.ko
//! livepatch_rust_shadow_fix: a dummy from before the patch is freed: its memory has leaked
//! livepatch_rust_shadow_fix: a dummy is freed, and its memory with it
//! ```
//!
//! Dummies expire after twelve seconds. What the patch attached and nobody has freed goes when the
//! module of the patch does, as `shadows` demands.
//!
//! The identifier and the type of the variable are those of the kernel's own
//! `livepatch-shadow-fix1.c` and `livepatch-shadow-fix2.c`: 1, a pointer to memory of `kmalloc()`.
//! So they can be enabled together with this one, on top of it or below it. But this one and
//! `fix1` free all the variables when they are unloaded: disable all of them before that. This one
//! does so when the kernel refuses it, too, which the others bear: they only look whether there is
//! a variable, and free it.

use core::ptr;
use kernel::{
    bindings,
    ffi::{c_int, c_ulong},
    prelude::*, //
};
use klp::{Context, Shadow};

klp::patch! {
    name: "livepatch_rust_shadow_fix",
    description: "Live patch that mends a leak with a shadow variable, in Rust",
    license: "GPL",
    // SAFETY: As the head of the file demands, the other patches with these variables are disabled
    // when this one is unloaded, and they never use the data of a variable that another patch can
    // free. It is freed by `kfree()`, which does not sleep.
    shadows: unsafe [LEAK],
    objects: {
        module "livepatch_shadow_mod" {
            // SAFETY: Both return a dummy that `kfree()` takes, or a null pointer, and may sleep.
            // The replacement does not end with a call.
            unsafe dummy_alloc() => alloc,
            // SAFETY: Both get a dummy that nobody uses any more, may sleep, and free it. The
            // replacement does not end with a call of this module.
            unsafe dummy_free(dummy) => free,
        }
    },
}

/// The memory that belongs to a dummy.
// SAFETY: All patches of the module use 1 for a pointer to memory that `kfree()` takes, which is in
// no module. The variable of a dummy is only freed together with it, and those of all dummies when
// the patches with it are disabled, as the head of the file demands.
static LEAK: Shadow<Dummy, KBox<c_int>> = unsafe { Shadow::new(1) };

/// How long a dummy lives, in seconds.
const EXPIRE_PERIOD: c_ulong = 12;

/// The module's `struct dummy`.
#[repr(C)]
struct Dummy {
    list: bindings::list_head,
    jiffies_expire: c_ulong,
}

/// Takes the place of `dummy_alloc()`.
extern "C" fn alloc() -> *mut Dummy {
    new_dummy().map_or(ptr::null_mut(), KBox::into_raw)
}

#[inline(always)]
fn new_dummy() -> Result<KBox<Dummy>> {
    // SAFETY: The kernel changes the variable at any time, so it is read once, as in C.
    let now = unsafe { (&raw const bindings::jiffies).read_volatile() };
    let mut dummy = KBox::new(
        Dummy {
            list: bindings::list_head::default(),
            // The count of jiffies wraps around.
            jiffies_expire: now.wrapping_add(EXPIRE_PERIOD * bindings::HZ as c_ulong),
        },
        GFP_KERNEL,
    )?;
    // While not all tasks run the patch, a dummy with a variable can be freed by the original
    // function, which leaves it to the next one at this address.
    drop(LEAK.take(&mut *dummy));
    LEAK.attach(&*dummy, KBox::new(0, GFP_KERNEL)?, Context::Sleeping)?;
    Ok(dummy)
}

/// Takes the place of `dummy_free()`.
///
/// # Safety
///
/// `dummy` must come from `dummy_alloc()`, and not be used any more.
unsafe extern "C" fn free(dummy: *mut Dummy) {
    // SAFETY: The original function allocates it with `kzalloc()`, and the patch as a `KBox`, which
    // `kmalloc()` allocates.
    let mut dummy = unsafe { KBox::from_raw(dummy) };
    match LEAK.take(&mut *dummy) {
        Some(_) => pr_info!("a dummy is freed, and its memory with it\n"),
        None => pr_info!("a dummy from before the patch is freed: its memory has leaked\n"),
    }
}
