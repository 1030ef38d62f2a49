// SPDX-License-Identifier: GPL-2.0

//! `klp version`: the version of this program.

use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use super::{print, Result};
use crate::{context::Context, json};

/// Print the version of this program.
#[derive(Args)]
pub struct Arguments {}

#[derive(Serialize)]
struct Answer {
    version: &'static str,
}

/// Prints it.
pub fn run(_: &Arguments, context: &Context) -> Result {
    let version = env!("CARGO_PKG_VERSION");
    if context.json {
        json::print("version", &Answer { version })?;
    } else {
        print(&format!("{version}\n"))?;
    }
    Ok(ExitCode::SUCCESS)
}
