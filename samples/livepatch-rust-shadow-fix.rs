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
//! `livepatch-shadow-fix1.c`: 1, a pointer to memory of `kmalloc()`. So the patches in C can be
//! enabled on top of this one.

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
    shadows: [LEAK],
    objects: {
        module "livepatch_shadow_mod" {
            dummy_alloc() => alloc,
            dummy_free(dummy) => free,
        }
    },
}

/// The memory that belongs to a dummy.
// SAFETY: All patches of the module use 1 for a pointer to memory that `kfree()` takes.
static LEAK: Shadow<KBox<c_int>> = unsafe { Shadow::new(1) };

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

fn new_dummy() -> Result<KBox<Dummy>> {
    // SAFETY: The kernel changes the variable at any time, so it is read once, as in C.
    let now = unsafe { (&raw const bindings::jiffies).read_volatile() };
    let dummy = KBox::new(
        Dummy {
            list: bindings::list_head::default(),
            jiffies_expire: now + EXPIRE_PERIOD * bindings::HZ as c_ulong,
        },
        GFP_KERNEL,
    )?;
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
