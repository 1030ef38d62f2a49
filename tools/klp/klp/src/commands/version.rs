// SPDX-License-Identifier: GPL-2.0

//! `klp version`: the version of this program.

use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use super::Result;
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
        println!("{version}");
    }
    Ok(ExitCode::SUCCESS)
}
