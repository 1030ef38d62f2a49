// SPDX-License-Identifier: GPL-2.0

//! The subcommands, a module each.

pub mod boot_ok;
pub mod build;
pub mod check;
pub mod completions;
pub mod convert;
pub mod doctor;
pub mod force;
pub mod info;
pub mod install;
pub mod list;
pub mod load;
pub mod manpages;
pub mod metrics;
pub mod new;
pub mod package;
pub mod reverse;
pub mod signal;
pub mod status;
pub mod top;
pub mod uninstall;
pub mod unload;
pub mod version;
pub mod wait;

#[cfg(test)]
mod tests;

use std::{
    error::Error,
    fmt::Display,
    io::{self, Write},
    process::ExitCode,
};

use klp_live::{Machine, ModuleName, Patch};

/// How a command ends: with a status, or with an error that is printed and makes the status 1.
pub type Result<T = ExitCode> = std::result::Result<T, Box<dyn Error>>;

/// Prints text on standard output.
///
/// # Errors
///
/// It cannot be written to.
pub fn print(text: &str) -> Result<()> {
    Ok(io::stdout().lock().write_all(text.as_bytes())?)
}

/// The status of a command that has done what it was to do, and `printed` its answer. One that fails
/// may be tried again, so whether the answer can be read does not count; it is said.
pub fn done(printed: Result<()>) -> ExitCode {
    if let Err(error) = printed {
        message(format_args!(
            "klp: the answer cannot be written, but it is done: {error}"
        ));
    }
    ExitCode::SUCCESS
}

/// Prints a line for people on standard error. If nobody can read it, that changes nothing.
pub fn message(text: impl Display) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// The patch whose transition is going on, which must be the one of this name if one is given.
///
/// # Errors
///
/// There is none, or it is another one.
pub fn patch_in_transition(machine: &Machine, name: Option<&ModuleName>) -> Result<Patch> {
    match (machine.patch_in_transition()?, name.map(ModuleName::as_str)) {
        (Some(patch), None) => Ok(patch),
        (Some(patch), Some(name)) if patch.name() == name => Ok(patch),
        (None, None) => Err("no transition is going on".into()),
        (_, Some(name)) => match machine.patch(name) {
            Some(_) => Err(format!("{name} is not in transition").into()),
            None => Err(format!("there is no patch {name}").into()),
        },
    }
}
