// SPDX-License-Identifier: GPL-2.0

//! The subcommands, a module each.

pub mod convert;
pub mod new;

use std::{error::Error, process::ExitCode};

/// How a command ends: with a status, or with an error that is printed and makes the status 1.
pub type Result<T = ExitCode> = std::result::Result<T, Box<dyn Error>>;
