// SPDX-License-Identifier: GPL-2.0

//! What all commands are given: the machine that they work on, and how they answer.

use std::path::PathBuf;

use clap::Args;
use klp_live::Machine;

/// Options of all commands.
#[derive(Args)]
pub struct Context {
    /// Answer in JSON, for programs.
    #[arg(long, global = true)]
    pub json: bool,

    /// The root directory of the machine to look at, with its /sys, /proc and /var.
    #[arg(
        long,
        global = true,
        value_name = "DIRECTORY",
        default_value = "/",
        hide = true
    )]
    root: PathBuf,
}

impl Context {
    /// The machine that the command works on.
    pub fn machine(&self) -> Machine {
        Machine::with_root(&self.root)
    }
}
