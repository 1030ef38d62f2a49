// SPDX-License-Identifier: GPL-2.0

//! `klp check`: whether patches fit a kernel, before anything is loaded.

use std::{
    fmt::Write,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Args;
use klp_check::{Finding, Level, Patch, Report, Verdict};
use serde::Serialize;

use super::{message, print, Result};
use crate::{
    context::Context,
    facts::{Depth, Facts, Sources},
    json,
    kernel::{read_module, Kernel},
};

/// Tell whether patches fit a kernel, before anything is loaded.
///
/// Looks at what the kernel will look at, and at what it does not: inlined copies, types, layouts.
/// Nothing is loaded or changed. The exit status is 0 if all patches fit, 1 if one does not, and 2
/// if it could not be told for one.
///
/// Without --kernel, the kernel is the one that runs. As root, more can be seen of it.
#[derive(Args)]
pub struct Arguments {
    /// The modules of patches.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,

    /// The kernel: its release, a directory that it was built in or its headers are in, or the file
    /// that it is booted from (/boot/vmlinuz-RELEASE). A path has a slash in it.
    #[arg(long, value_name = "RELEASE|DIRECTORY|IMAGE")]
    kernel: Option<String>,

    /// The kernel's vmlinux: its symbols, and what else is in it (BTF, DWARF).
    #[arg(long, value_name = "FILE")]
    vmlinux: Option<PathBuf>,

    /// The kernel's symbols, as a System.map or a copy of /proc/kallsyms.
    #[arg(long, value_name = "FILE")]
    system_map: Option<PathBuf>,

    /// A module that is patched, by its file: for modules that are not loaded and not the kernel's
    /// own.
    #[arg(long, value_name = "FILE")]
    target: Vec<PathBuf>,

    /// What else modules export, in the format of Module.symvers.
    #[arg(long, value_name = "FILE")]
    exports: Vec<PathBuf>,

    /// Look only at what is quickly seen: not at types, inlined copies, and what tasks do.
    #[arg(long)]
    quick: bool,

    /// Do not take a patch for one that fits if anything could not be looked at.
    #[arg(long)]
    strict: bool,

    /// Print only what does not fit or could not be told.
    #[arg(long, short)]
    quiet: bool,
}

/// The answer for a patch.
#[derive(Serialize)]
struct Checked {
    file: PathBuf,
    verdict: Verdict,
    findings: Vec<Finding>,
}

#[derive(Serialize)]
struct Answer {
    kernel: Option<String>,
    patches: Vec<Checked>,
}

/// Checks. What keeps it from telling anything is a status of its own, too.
pub fn run(arguments: &Arguments, context: &Context) -> Result {
    check_all(arguments, context).or_else(|error| {
        if error.downcast_ref::<std::io::Error>().is_some() {
            return Err(error);
        }
        message(format_args!("klp check: {error}"));
        Ok(ExitCode::from(2))
    })
}

fn check_all(arguments: &Arguments, context: &Context) -> Result {
    let machine = context.machine();
    let kernel = match &arguments.kernel {
        Some(name) => Kernel::named(&machine, name)?,
        None => Kernel::of_release(&machine, &machine.kernel_release()?),
    };
    let sources = Sources {
        vmlinux: arguments.vmlinux.as_deref(),
        system_map: arguments.system_map.as_deref(),
        targets: &arguments.target,
        exports: &arguments.exports,
        depth: if arguments.quick {
            Depth::Symbols
        } else {
            Depth::Everything
        },
    };
    let mut facts = Facts::gather(&machine, &kernel, &sources)?;
    let mut patches = vec![];
    for file in &arguments.files {
        let report = read_module(file)
            .map_err(|error| format!("{}: {error}", file.display()))
            .map(|data| check(&mut facts, &data))
            .unwrap_or_else(|error: String| Report::unreadable(&error));
        let verdict = report.verdict(arguments.strict);
        if !context.json {
            print(&text(file, &facts, &report, verdict, arguments.quiet)?)?;
        }
        patches.push(Checked {
            file: file.clone(),
            verdict,
            findings: report.findings,
        });
    }
    let is = |verdict| patches.iter().any(|patch| patch.verdict == verdict);
    let status = if is(Verdict::DoesNotFit) {
        1
    } else if is(Verdict::Unknown) {
        2
    } else {
        0
    };
    if context.json {
        json::print(
            "check",
            &Answer {
                kernel: facts.kernel.release.clone(),
                patches,
            },
        )?;
    }
    Ok(ExitCode::from(status))
}

/// Checks a patch, given the contents of its file.
pub fn check(facts: &mut Facts<'_>, data: &[u8]) -> Report {
    let patch = match Patch::parse(data, facts.layout()) {
        Ok(patch) => patch,
        Err(error) => return Report::damaged(&error),
    };
    for object in patch.objects() {
        facts.learn(&object);
    }
    let mut report = if facts.depth() == Depth::Everything {
        facts.learn_inlined(&patch);
        klp_check::check(&patch, &facts.kernel)
    } else {
        klp_check::check_quickly(&patch, &facts.kernel)
    };
    report.sort();
    report
}

/// A finding as compilers tell it: what, where, why, and what to do.
pub fn describe(file: &Path, finding: &Finding) -> String {
    let mut text = format!("{}[{}]: {}", finding.level, finding.rule, finding.text);
    let subject = finding.subject.to_string();
    let colon = if subject.is_empty() { "" } else { ": " };
    text += &format!("\n  --> {}{colon}{subject}", file.display());
    for note in &finding.notes {
        text += &format!("\n   = {note}");
    }
    if let Some(advice) = &finding.advice {
        text += &format!("\n   = help: {advice}");
    }
    text
}

/// The answer for people.
fn text(
    file: &Path,
    facts: &Facts<'_>,
    report: &Report,
    verdict: Verdict,
    quiet: bool,
) -> std::result::Result<String, std::fmt::Error> {
    let mut text = String::new();
    let shown = |finding: &&Finding| {
        !quiet
            || matches!(
                finding.level,
                Level::Error | Level::Unknown | Level::Warning
            )
    };
    for finding in report.findings.iter().filter(shown) {
        writeln!(text, "{}\n", describe(file, finding))?;
    }
    let kernel = facts.kernel.release.as_deref().unwrap_or("the kernel");
    let file = file.display();
    match verdict {
        Verdict::Fits if quiet => (),
        Verdict::Fits => {
            let without = report.without_information();
            let without = match &without[..] {
                [] => String::new(),
                rules => format!(
                    ", as far as is known: no information on {}",
                    rules.join(", ")
                ),
            };
            writeln!(text, "{file}: fits {kernel}{without}")?;
        }
        Verdict::DoesNotFit => writeln!(text, "{file}: does not fit {kernel}")?,
        Verdict::Unknown => writeln!(text, "{file}: cannot tell whether it fits {kernel}")?,
    }
    Ok(text)
}
