// SPDX-License-Identifier: GPL-2.0

//! The kernel's live patching core, in Rust.
//!
//! Takes over from the built-in core when it is loaded and hands back when it is unloaded; in between, every patch
//! module, in whatever language, is enabled, sequenced and removed here. `Documentation/livepatch` describes what live
//! patching is, and its interfaces; the README of this project, how this module is built and used.
//!
//! # Structure
//!
//! ```text
//!   the kernel ──► takeover ──► abi ──► registry ──► patch ─► object ─► func
//!   (redirected by ops)          │         │  ▲                 │        │
//!                                │         ▼  │                 ▼        ▼
//!   tasks ───────────────────────┴──► transition ─► stack      ops    symbols
//!                                                             (table)
//!   users ──► sysfs ──► registry             patched functions ──► ops
//! ```
//!
//! * [`mod@abi`]: the entry points that C calls. [`mod@takeover`]: how the kernel is made to call them.
//! * [`mod@registry`]: all patches; enabling, disabling, modules that come and go. The one lock.
//! * [`mod@patch`], [`mod@object`], [`mod@func`]: one patch. Owned by the core: nothing of it lives in module memory.
//! * [`mod@ops`], [`mod@table`]: redirecting functions, and the handler.
//! * [`mod@transition`], [`mod@walk`], [`mod@stack`], [`mod@ranges`], [`mod@pace`]: moving tasks to the new code.
//! * [`mod@symbols`], [`mod@position`]: finding functions. [`mod@reloc`], [`mod@names`]: relocations of patch modules.
//! * [`mod@state`]: which patches go together. [`mod@shadow`]: data that patches attach to objects.
//! * [`mod@sysfs`]: what users see. [`mod@trace`]: debug messages. [`mod@account`]: finding leaks.
//! * [`mod@kapi`]: safe wrappers over the kernel. It, `abi`, `ops`, `table` and `takeover` contain unsafe code; all other
//!   modules deny it.

use kernel::prelude::*;

mod abi;
mod account;
mod bindings;
mod func;
mod kapi;
mod names;
mod object;
mod ops;
mod pace;
mod patch;
mod position;
mod ranges;
mod registry;
mod reloc;
mod shadow;
mod sizes;
mod sort;
mod stack;
mod state;
mod symbols;
mod sysfs;
mod table;
mod takeover;
mod trace;
mod transition;
mod walk;

use kapi::workqueue::{
    StaticTrigger,
    StaticWork,
    Work, //
};

module! {
    type: LivepatchCore,
    name: "livepatch",
    authors: ["The livepatch-rs developers"],
    description: "Kernel live patching core in Rust",
    license: "GPL",
}

/// Looks at the remaining tasks of a transition.
// SAFETY: `LivepatchCore::init` initialises it first thing.
static PASS: StaticWork = unsafe { StaticWork::uninit() };

/// The last task that a pass left behind has switched itself.
// SAFETY: as above.
static LAST_ARRIVAL: StaticTrigger = unsafe { StaticTrigger::uninit() };

/// Frees retired patches.
// SAFETY: as above.
static BURIAL: StaticWork = unsafe { StaticWork::uninit() };

/// What [`PASS`] does.
struct Pass;

impl Work for Pass {
    fn run() {
        transition::try_complete(&mut registry::REGISTRY.lock());
    }
}

/// What [`LAST_ARRIVAL`] does.
struct LastArrival;

impl Work for LastArrival {
    fn run() {
        PASS.run_now();
    }
}

/// What [`BURIAL`] does.
struct Burial;

impl Work for Burial {
    fn run() {
        registry::bury();
    }
}

/// The module: loading it takes over, unloading it hands back.
struct LivepatchCore {
    _take_over: takeover::TakeOver,
    _nothing_left: account::NothingLeft,
}

impl kernel::Module for LivepatchCore {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        // SAFETY: the module's init function runs once, before anything else in it.
        unsafe { registry::init() };
        // SAFETY: as above.
        unsafe { PASS.init::<Pass>() };
        // SAFETY: as above.
        unsafe { LAST_ARRIVAL.init::<LastArrival>() };
        // SAFETY: as above.
        unsafe { BURIAL.init::<Burial>() };
        Ok(Self {
            _take_over: takeover::TakeOver::new()?,
            _nothing_left: account::NothingLeft,
        })
    }
}
