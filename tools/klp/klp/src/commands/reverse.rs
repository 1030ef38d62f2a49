// SPDX-License-Identifier: GPL-2.0

//! `klp reverse`: makes tasks switch back.

use clap::Args;
use klp_live::ModuleName;
use serde::Serialize;

use super::{done, patch_in_transition, print, Result};
use crate::{context::Context, json};

/// Reverse the transition that is going on: tasks that have switched switch back.
///
/// A patch that was being enabled is disabled, and one that was being disabled stays. It returns at
/// once; klp wait waits for the end.
#[derive(Args)]
pub struct Arguments {
    /// Only if it is the transition of this patch, by its name or that of its file.
    name: Option<ModuleName>,
}

#[derive(Serialize)]
struct Answer<'a> {
    patch: &'a str,
    /// What it is being made to be.
    enabled: bool,
}

/// Reverses.
pub fn run(arguments: &Arguments, context: &Context) -> Result {
    let machine = context.machine();
    let patch = patch_in_transition(&machine, arguments.name.as_ref())?;
    let enabled = !patch.is_enabled()?;
    patch.set_enabled(enabled)?;
    let name = patch.name();
    let printed = if context.json {
        let patch = name;
        json::print("reverse", &Answer { patch, enabled })
    } else {
        let doing = if enabled { "enabling" } else { "disabling" };
        print(&format!("{doing} patch module: {name}\n"))
    };
    Ok(done(printed))
}
