// SPDX-License-Identifier: GPL-2.0

//! `klp doctor`: what on this machine stands in the way of a patch.

use std::{
    fmt::Write,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Args;
use klp_live::{Finding, Level, PatchFile};
use serde::Serialize;

use super::{print, Result};
use crate::{context::Context, json, kernel::open_module};

/// Look for what stands in the way of a patch on this machine.
///
/// Each finding is ok, a note (something to know) or a problem: patches will not load, or not
/// become complete. The exit status is 1 if there is a problem.
#[derive(Args)]
pub struct Arguments {
    /// A patch to check against this machine, too.
    file: Option<PathBuf>,
}

#[derive(Serialize)]
struct Answer<'a> {
    findings: &'a [Finding],
}

fn patch_file(path: &Path) -> Result<PatchFile> {
    let module = open_module(path)?;
    Ok(PatchFile {
        kernel: module.kernel_release().map(Into::into),
        livepatch: module.is_livepatch(),
        signed: module.is_signed(),
        funcs: module.replaced_functions().map(<[_]>::to_vec),
    })
}

fn level(level: Level) -> &'static str {
    match level {
        Level::Ok => "ok",
        Level::Note => "note",
        Level::Problem => "problem",
    }
}

fn text(findings: &[Finding]) -> std::result::Result<String, std::fmt::Error> {
    let mut text = String::new();
    for finding in findings {
        writeln!(
            text,
            "{:8} {}: {}",
            level(finding.level),
            finding.check,
            finding.text
        )?;
        if let Some(advice) = finding.advice {
            writeln!(text, "{:8} {advice}", "")?;
        }
    }
    Ok(text)
}

/// Prints the findings.
pub fn run(arguments: &Arguments, context: &Context) -> Result {
    let file = arguments.file.as_deref().map(patch_file).transpose()?;
    let findings = context.machine().examine(file.as_ref())?;
    if context.json {
        json::print(
            "doctor",
            &Answer {
                findings: &findings,
            },
        )?;
    } else {
        print(&text(&findings)?)?;
    }
    let worst = findings.iter().map(|finding| finding.level).max();
    Ok(match worst {
        Some(Level::Problem) => ExitCode::FAILURE,
        _ => ExitCode::SUCCESS,
    })
}
