// SPDX-License-Identifier: GPL-2.0

//! `klp info`: what a patch module's file says about itself.

use std::{
    env,
    ffi::OsString,
    io::{self, Write},
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use clap::Args;
use serde::Serialize;

use super::{load, Result};
use crate::{context::Context, json, kernel::open_module};

/// Show information about a patch module.
#[derive(Args)]
pub struct Arguments {
    /// A module's file, or the name of an installed patch.
    module: String,
}

#[derive(Serialize)]
struct Answer<'a> {
    file: &'a Path,
    name: &'a str,
    livepatch: bool,
    kernel: Option<&'a str>,
    /// The keys and values of its section `.modinfo`.
    info: Vec<(&'a str, &'a str)>,
}

/// Shows it.
pub fn run(arguments: &Arguments, context: &Context) -> Result {
    let name = &arguments.module;
    let path: PathBuf =
        load::find(&context.machine(), name)?.ok_or_else(|| format!("can't find {name}"))?;
    if context.json {
        let module = open_module(&path)?;
        let answer = Answer {
            file: &path,
            name: module.name(),
            livepatch: module.is_livepatch(),
            kernel: module.kernel_release(),
            info: module.all_info().collect(),
        };
        json::print("info", &answer)?;
        return Ok(ExitCode::SUCCESS);
    }
    writeln!(io::stdout(), "Patch information for {name}:")?;
    // It knows parameters and signatures too, and people and scripts know how it looks.
    let output = Command::new("modinfo")
        .arg(&path)
        .env("PATH", system_path())
        .output()
        .map_err(|error| format!("modinfo: {error}"))?;
    io::stdout().write_all(&output.stdout)?;
    if !output.status.success() {
        let reason = String::from_utf8_lossy(&output.stderr);
        return Err(format!(
            "failed to get info for module {name}: {}",
            reason.trim_end()
        )
        .into());
    }
    Ok(ExitCode::SUCCESS)
}

/// Where programs are, with those for root.
fn system_path() -> OsString {
    let mut path = env::var_os("PATH").unwrap_or_default();
    path.push(":/usr/sbin:/sbin");
    path
}
