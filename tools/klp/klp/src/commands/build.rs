// SPDX-License-Identifier: GPL-2.0

//! `klp build`: makes a live patch out of a patch of the kernel's source.

use std::{fs, os::unix::fs::MetadataExt, path::PathBuf, process::ExitCode};

use clap::Args;
use klp_build::{Built, Changes, Finished, Kernel, Progress, Request, Tools};
use klp_check::{Level, Verdict};
use serde::Serialize;

use super::{check, message, print, Result};
use crate::{
    context::Context,
    facts::{Depth, Facts, Sources},
    json, kernel,
};

/// Where the package livepatch-dkms has the source.
const INSTALLED: &str = "/usr/share/livepatch-dkms/source";

/// Make a live patch out of patches of the kernel's source, without building a kernel.
///
/// Only the objects that the patches change are compiled, before and after, and compared with the
/// kernel that is to be patched. What cannot be patched is refused, with the rule and a way out; the
/// exit status is 1 then.
#[derive(Args)]
pub struct Arguments {
    /// Write the module here, instead of livepatch-PATCH.ko in this directory.
    #[arg(short, long, value_name = "FILE.ko")]
    output: Option<PathBuf>,

    /// Leave patches that are loaded already in force.
    #[arg(long)]
    no_replace: bool,

    /// Which kernel: debian, debian-cloud, debian-rt, build, running or auto, as scripts/kernel of
    /// livepatch's source has them; the environment variable KERNEL without this, or else auto.
    /// There is no --test with debian-cloud, which cannot boot in the virtual machine.
    #[arg(long, value_name = "NAME")]
    kernel: Option<String>,

    /// The directory of livepatch's source, whose scripts find the kernel and its compilers; without
    /// this, the current one, which only you and root may be able to change, or else the one that
    /// the package livepatch-dkms has installed.
    #[arg(long, value_name = "DIRECTORY")]
    project: Option<PathBuf>,

    /// When it is built, boot the virtual machine of livepatch's tests with this kernel, load the
    /// patch there, run this command, and unload the patch. Not with the source that is installed.
    #[arg(long, value_name = "COMMAND")]
    test: Option<String>,

    /// Patches of the kernel's source, with paths as git diff writes them.
    #[arg(required = true, value_name = "PATCH")]
    patches: Vec<PathBuf>,
}

#[derive(Serialize)]
struct Answer<'a> {
    module: &'a str,
    size: u64,
    patched: &'a [String],
    objects: Vec<Object<'a>>,
}

#[derive(Serialize)]
struct Object<'a> {
    object: &'a str,
    changed: &'a [String],
    new: &'a [String],
    removed: &'a [String],
}

/// Builds.
pub fn run(arguments: &Arguments, context: &Context) -> Result {
    let project = match &arguments.project {
        Some(project) => project.clone(),
        None if PathBuf::from("scripts/kernel").is_file() => {
            distrust_others()?;
            ".".into()
        }
        None => INSTALLED.into(),
    };
    if arguments.test.is_some() && !project.join("scripts/vm").is_file() {
        return Err(format!(
            "{} has no virtual machine for --test: name the directory of livepatch's source with \
             --project",
            project.display()
        )
        .into());
    }
    let kernel = arguments.kernel.clone();
    let kernel = kernel.or_else(|| std::env::var("KERNEL").ok());
    let tools = Tools::new(&project, Some(kernel.unwrap_or_else(|| "auto".into())))?;
    let kernel = Kernel::find(&tools)?;
    let request = Request {
        patches: arguments.patches.clone(),
        output: arguments.output.clone(),
        replace: !arguments.no_replace,
    };
    let progress = |progress: Progress<'_>| match progress {
        Progress::Step(step) => message(step),
        Progress::Note(note) => message(format_args!("note: {note}")),
        Progress::Changed(changes) if !context.json => {
            // The module is wanted, too.
            let _ = print(&text(changes));
        }
        Progress::Changed(_) => (),
    };
    let check = |finished: &Finished<'_>| {
        check_module(&kernel, finished, context).map_err(|error| error.to_string())
    };
    let built = klp_build::build(&tools, &kernel, &request, &progress, &check)?;
    if let Some(command) = &arguments.test {
        test(&tools, &built, command)?;
    }
    report(&built, context)?;
    Ok(ExitCode::SUCCESS)
}

/// Refuses to run the scripts in the current directory, which nobody has named, if others may have
/// put them there, as in /tmp.
fn distrust_others() -> Result<()> {
    const WRITABLE_BY_OTHERS: u32 = 0o022;
    for directory in [".", "scripts"] {
        let metadata = fs::metadata(directory)?;
        let owners = [0, rustix::process::geteuid().as_raw()];
        if !owners.contains(&metadata.uid()) || metadata.mode() & WRITABLE_BY_OTHERS != 0 {
            return Err(format!(
                "the scripts of the current directory are not run unasked, since others may change \
                 {}: --project . runs them, --project {INSTALLED} those that are installed",
                fs::canonicalize(directory)?.display()
            )
            .into());
        }
    }
    Ok(())
}

/// Sees whether the kernel would take the module, as `klp check` does.
fn check_module(kernel: &Kernel, finished: &Finished<'_>, context: &Context) -> Result<()> {
    let machine = context.machine();
    let named = kernel::Kernel::named(&machine, &kernel.build.to_string_lossy())?;
    let sources = Sources {
        system_map: Some(finished.system_map),
        targets: &finished.targets,
        // The module has no types, and objtool has seen to inlined copies.
        depth: Depth::Symbols,
        ..Sources::default()
    };
    let mut facts = Facts::gather(&machine, &named, &sources)?;
    let data = std::fs::read(finished.module)?;
    let report = check::check(&mut facts, &data);
    for finding in &report.findings {
        if matches!(finding.level, Level::Error | Level::Warning) {
            message(check::describe(finished.output, finding));
        }
    }
    match report.verdict(false) {
        Verdict::DoesNotFit => Err(format!(
            "the module is built, but it does not fit {}",
            kernel.release
        )
        .into()),
        _ => Ok(()),
    }
}

/// What is done in the virtual machine, with this program, the module and the command.
const TEST: &str = "\"$1\" load \"$2\"; sh -c \"$3\"; \"$1\" unload \"$2\"";

fn test(tools: &Tools, built: &Built, command: &str) -> Result<()> {
    message("Testing the module in a virtual machine");
    let status = tools
        .virtual_machine()
        .args(["sh", "-euc", TEST, "sh"])
        .arg(std::env::current_exe()?)
        .arg(built.module.canonicalize()?)
        .arg(command)
        // Standard output is for what was built.
        .stdout(std::io::stderr())
        .status()
        .map_err(|error| format!("the virtual machine cannot be started: {error}"))?;
    if !status.success() {
        return Err(format!(
            "{}: built, but its test failed ({status})",
            built.module.display()
        )
        .into());
    }
    Ok(())
}

/// A line for each function, as kpatch-build prints them.
fn text(changes: &Changes) -> String {
    let kinds = [
        ("changed", &changes.changed),
        ("new", &changes.new),
        ("removed", &changes.removed),
    ];
    let lines = kinds.iter().flat_map(|(kind, functions)| {
        let functions = functions.iter();
        functions.map(move |function| format!("{}: {kind} function: {function}\n", changes.object))
    });
    lines.collect()
}

fn report(built: &Built, context: &Context) -> Result<()> {
    let module = built.module.to_string_lossy();
    if context.json {
        let objects = built.changes.iter().map(|changes| Object {
            object: &changes.object,
            changed: &changes.changed,
            new: &changes.new,
            removed: &changes.removed,
        });
        return json::print(
            "build",
            &Answer {
                module: &module,
                size: built.size,
                patched: &built.patched,
                objects: objects.collect(),
            },
        );
    }
    super::print(&format!(
        "Patched objects: {}\nSUCCESS: {module}, {} KiB\n",
        built.patched.join(" "),
        built.size.div_ceil(1024)
    ))
}
