// SPDX-License-Identifier: GPL-2.0

//! `klp signal`: signals the tasks that hold a transition up.

use clap::Args;
use serde::Serialize;

use super::Result;
use crate::{
    context::Context,
    json,
    session::{self, Waits},
};

/// Signal the tasks that hold the transition up, where the kernel does not do so itself.
///
/// Kernels from 5.1 on, and the Rust core, signal them after 15 seconds; there the command does
/// nothing.
#[derive(Args)]
pub struct Arguments {}

#[derive(Serialize)]
struct Answer {
    /// The patch in transition.
    patch: Option<String>,
}

/// Signals.
pub fn run(_: &Arguments, context: &Context) -> Result {
    let mut name = None;
    // Who has the lock may be waiting for these very tasks.
    let result = session::run_unlocked(context, &Waits::DEFAULT, |session| {
        let Some(patch) = session.machine.patch_in_transition()? else {
            return Ok(());
        };
        name = Some(patch.name().into());
        session.signal(&patch)
    });
    json::conclude(context, "signal", &Answer { patch: name }, result)
}
