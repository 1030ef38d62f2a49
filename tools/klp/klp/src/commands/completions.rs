// SPDX-License-Identifier: GPL-2.0

//! `klp completions`: what a shell needs to complete the arguments of klp.

use std::process::ExitCode;

use clap::{Args, Command};
use clap_complete::Shell;

use super::{print, Result};

/// Print the completions of klp for a shell.
#[derive(Args)]
#[command(hide = true)]
pub struct Arguments {
    /// The shell.
    shell: Shell,
}

/// Prints them.
pub fn run(arguments: &Arguments, mut command: Command) -> Result {
    let mut script = vec![];
    clap_complete::generate(arguments.shell, &mut command, "klp", &mut script);
    print(&String::from_utf8(script)?)?;
    Ok(ExitCode::SUCCESS)
}
