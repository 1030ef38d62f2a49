// SPDX-License-Identifier: GPL-2.0

//! `klp manpages`: the manual pages, made of the help texts.

use std::{fs, path::PathBuf, process::ExitCode};

use clap::{Args, Command};

use super::Result;

/// Write the manual pages of klp and its commands.
#[derive(Args)]
#[command(hide = true)]
pub struct Arguments {
    /// Where to; it is made if it does not exist.
    directory: PathBuf,
}

/// Writes them: `klp.1`, and `klp-COMMAND.1` for each command that is not hidden.
pub fn run(arguments: &Arguments, command: Command) -> Result {
    let directory = &arguments.directory;
    fs::create_dir_all(directory)
        .and_then(|()| clap_mangen::generate_to(command, directory))
        .map_err(|error| format!("{}: {error}", directory.display()))?;
    Ok(ExitCode::SUCCESS)
}
