// SPDX-License-Identifier: GPL-2.0

//! The kernel's live patching core, in Rust.
//!
//! Takes over from the built-in core when it is loaded and hands back when it is unloaded; in
//! between, every patch module, in whatever language, is enabled, sequenced and removed here.
//! `Documentation/livepatch` describes what live patching is, and its interfaces; the README of
//! this project, how this module is built and used.
//!
//! # Structure
//!
//! ```text
//!   the kernel ──► takeover ──► abi ──► registry ──► patch ─► object ─► func
//!   (redirected by ops)          │         │  │         ▲                 │
//!                                │         │  └──► transition ─► stack    ▼
//!   tasks ───────────────────────┴─────────│────────►   │             symbols
//!                                          │            ▼
//!   users ──► sysfs ──► registry           └────────►  ops ─► table
//!                                                               ▲
//!                            calls of patched functions ──► handler
//! ```
//!
//! * [`mod@abi`]: the entry points that C calls. [`mod@takeover`]: how the kernel is made to call
//!   them.
//! * [`mod@registry`]: all patches; enabling, disabling, modules that come and go. The registry
//!   lock.
//! * [`mod@patch`], [`mod@object`], [`mod@func`]: one patch. Owned by the core: nothing of it lives
//!   in module memory.
//! * [`mod@ops`]: redirecting functions. [`mod@handler`]: where a call of a redirected function
//!   goes.
//! * [`mod@transition`], [`mod@stack`]: moving tasks to the new code. [`mod@obstacle`],
//!   [`mod@blockers`]: which tasks do not move, and why.
//! * [`mod@symbols`]: finding functions. [`mod@reloc`]: relocations of patch modules.
//! * [`mod@state`]: which patches go together. [`mod@shadow`]: data that patches attach to objects.
//! * [`mod@sysfs`]: what users see. [`mod@trace`]: debug messages. [`mod@leak_check`]: finding
//!   leaks.
//! * [`mod@pure`]: algorithms and rules that do not need the kernel, tested on the host.
//! * [`mod@kapi`]: safe wrappers over what the `kernel` crate lacks, which could go there.
//!   [`mod@klp`]: safe wrappers over livepatch's own C types. [`mod@lock`]: evidence that the
//!   registry lock is held.
//!
//! Modules without `#[deny(unsafe_code)]` below are the only ones that may contain unsafe code. The
//! others allow it for nothing but a static, where that needs it; and of [`mod@pure`], only the
//! handler's table has any.

use kernel::prelude::*;

mod abi;
mod bindings;
#[deny(unsafe_code)]
mod blockers;
#[deny(unsafe_code)]
mod func;
mod handler;
mod kapi;
mod klp;
#[deny(unsafe_code)]
mod leak_check;
mod lock;
#[deny(unsafe_code)]
mod object;
#[deny(unsafe_code)]
mod obstacle;
mod ops;
#[deny(unsafe_code)]
mod patch;
mod pure;
#[deny(unsafe_code)]
mod registry;
#[deny(unsafe_code)]
mod reloc;
#[deny(unsafe_code)]
mod shadow;
#[deny(unsafe_code)]
mod stack;
#[deny(unsafe_code)]
mod state;
#[deny(unsafe_code)]
mod symbols;
#[deny(unsafe_code)]
mod sysfs;
mod takeover;
#[deny(unsafe_code)]
mod trace;
#[deny(unsafe_code)]
mod transition;

module! {
    type: LivepatchCore,
    name: "livepatch",
    authors: ["The livepatch-rs developers"],
    description: "Kernel live patching core in Rust",
    license: "GPL",
    params: {
        direct: u8 {
            default: 0,
            description: "Calls that jump to patches (0: none, 1: all, 2: of patches that ask)",
        },
        stall_warning: u32 {
            default: 3600,
            description: "Seconds after which the log warns of an unfinished transition (0: never)",
        },
    },
}

/// The module: loading it takes over, unloading it hands back.
struct LivepatchCore {
    _take_over: takeover::TakeOver,
    _leak_check: leak_check::LeakCheck,
}

impl kernel::Module for LivepatchCore {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        // SAFETY: The module's init function runs once, before anything else in it.
        unsafe { kapi::in_flight::init() };
        // SAFETY: The module's init function runs once, before anything else in it.
        unsafe { kapi::stacktrace::init() };
        // SAFETY: The module's init function runs once, before anything else in it.
        unsafe { registry::init() };
        Ok(Self {
            _take_over: takeover::TakeOver::new()?,
            _leak_check: leak_check::LeakCheck,
        })
    }
}
