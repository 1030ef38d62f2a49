// SPDX-License-Identifier: GPL-2.0

//! `klp load`: loads patches and waits until they are complete.

use std::{
    fmt::Display,
    fs::{self, File},
    io::{Read, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;
use klp_check::{Finding, Level, Report, Rule};
use klp_live::{
    guard::{Guard, DEATHS},
    store::{Installed, Store},
    Core, Machine, CORE,
};
use klp_module::{Architecture, Module};
use serde::Serialize;

use super::{check, unload, Result};
use crate::{
    context::Context,
    explain,
    facts::{Depth, Facts, Sources},
    json,
    kernel::{is_loaded_build, read_module, Kernel},
    session::{self, Session, Step, Stop, Waits},
};

/// Load patches into the running kernel, and wait until they are complete.
///
/// A patch whose transition stalls is taken off again. One that is loaded already is waited for, and
/// enabled again if it is being disabled.
#[derive(Args)]
pub struct Arguments {
    /// A module's file, the name of an installed patch, or "livepatch" for the Rust core.
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    module: Option<String>,

    /// Load all patches that are installed for this kernel.
    #[arg(long)]
    all: bool,

    /// This is the boot: skip what the machine died with at the last two, leave patches of kpatch
    /// to kpatch.service if there is that unit, and go on if a patch cannot be loaded.
    #[arg(long)]
    boot: bool,

    /// Do not look first whether a patch fits, as klp check does; at boot that is never done.
    #[arg(long)]
    no_check: bool,

    #[command(flatten)]
    waits: Waits,
}

/// What became of a patch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Outcome {
    /// It was loaded, or enabled again, and is complete.
    Loaded,
    /// It was there, and is complete.
    AlreadyLoaded,
    /// It was not loaded, since the machine went down after loading it: twice, or once if another
    /// attempt could not be noted.
    Skipped,
    /// It was not loaded, since another patch has replaced it.
    Replaced,
    /// It could not be loaded.
    Failed,
}

/// A patch that was to be loaded.
#[derive(Serialize)]
pub(super) struct Patch {
    file: PathBuf,
    pub(super) outcome: Outcome,
}

#[derive(Serialize)]
struct Answer {
    patches: Vec<Patch>,
}

/// Loads.
pub fn run(arguments: &Arguments, context: &Context) -> Result {
    let name = match &arguments.module {
        Some(module) => format!("klp load {module}"),
        None => "klp load --all".into(),
    };
    let mut patches = vec![];
    let result = session::run_unlocked(context, &arguments.waits, |session| {
        let _lock = if arguments.boot {
            // Nobody tries again at this boot.
            session.lock_within(&name, Duration::MAX)?
        } else {
            session.lock(&name)?
        };
        session.checks.set(!arguments.no_check && !arguments.boot);
        match &arguments.module {
            module if arguments.boot => at_boot(session, module.as_deref(), &mut patches),
            Some(module) => by_name(session, module, &mut patches),
            None => all(session, &mut patches),
        }
    });
    json::conclude(context, "load", &Answer { patches }, result)
}

pub(super) fn by_name(session: &Session, name: &str, patches: &mut Vec<Patch>) -> Step {
    by_hand(session, &named(session, name)?.path, patches)
}

/// What is to be loaded by this name: the Rust core, or a patch.
fn named(session: &Session, name: &str) -> Step<Installed> {
    let machine = &session.machine;
    let kernel_release = machine.kernel_release()?;
    if name == CORE {
        let core = Guard::new(machine, &kernel_release).core()?;
        return core.ok_or_else(|| {
            Stop::Failed(format!(
                "the Rust core is not installed for kernel {kernel_release}"
            ))
        });
    }
    let path = find(machine, name)?.ok_or_else(|| Stop::Failed(format!("can't find {name}")))?;
    Ok(Installed {
        path,
        kernel_release,
    })
}

/// The file that is meant by a name: one of this name if the name has the ending, else one that is
/// installed, unless it is a path.
pub fn find(machine: &Machine, name: &str) -> klp_live::Result<Option<PathBuf>> {
    let path = Path::new(name);
    if name.contains(".ko") && path.is_file() {
        return Ok(Some(path.into()));
    }
    // Somebody means this very file: what is installed by its name may be an older build.
    if name.contains('/') {
        return Ok(None);
    }
    let installed = Store::new(machine).find(&machine.kernel_release()?, name)?;
    Ok(installed.map(|patch| patch.path))
}

pub(super) fn all(session: &Session, patches: &mut Vec<Patch>) -> Step {
    let machine = &session.machine;
    let installed = Store::new(machine).patches(&machine.kernel_release()?)?;
    for (index, patch) in installed.iter().enumerate() {
        if !is_replaced(session, patch, &installed[index + 1..], patches)? {
            by_hand(session, &patch.path, patches)?;
        }
    }
    Ok(())
}

/// Whether another patch has replaced this one: loading it now would take the newer one off, or
/// put older functions over its own. `later` are those that are loaded after it.
fn is_replaced(
    session: &Session,
    patch: &Installed,
    later: &[Installed],
    patches: &mut Vec<Patch>,
) -> Step<bool> {
    let name = patch.module_name();
    let machine = &session.machine;
    if machine.patch(&name).is_some() {
        return Ok(false);
    }
    if let Some(newer) = replacing(machine, later)? {
        session.warn(format_args!(
            "patch {name} is not loaded: patch {newer} comes after it, replaces it, and is enabled; \
             \"klp load {name}\" loads it"
        ));
    } else if machine.has_patch_module(&name)? {
        // The core has forgotten it, and its module is left.
        session.warn(format_args!(
            "patch {name} is not loaded again: its module is there, but was replaced or disabled; \
             \"klp load {name}\" loads it"
        ));
    } else {
        return Ok(false);
    }
    patches.push(Patch {
        file: patch.path.clone(),
        outcome: Outcome::Replaced,
    });
    Ok(true)
}

/// The name of the first of these patches that is enabled and replaces all before it.
fn replacing(machine: &Machine, patches: &[Installed]) -> klp_live::Result<Option<String>> {
    for installed in patches {
        if let Some(patch) = machine.patch(&installed.module_name()) {
            if patch.is_enabled()? && patch.replaces()? == Some(true) {
                return Ok(Some(patch.name().into()));
            }
        }
    }
    Ok(None)
}

/// Loads a patch that somebody asked for, and trusts it again if that succeeds. It may be there
/// already: that it is, although the boot has not loaded it, says as much.
fn by_hand(session: &Session, path: &Path, patches: &mut Vec<Patch>) -> Step {
    load_and_note(session, path, patches, &|message| session.warn(message))?;
    let release = session.machine.kernel_release()?;
    let guard = Guard::new(&session.machine, &release);
    if let Err(error) = guard.acquit_file(path) {
        session.warn(error);
    }
    Ok(())
}

/// Loads what is installed, or what has this name, unless the boot guard suspects it. What fails is
/// told, and does not keep others from being loaded.
pub(super) fn at_boot(session: &Session, name: Option<&str>, patches: &mut Vec<Patch>) -> Step {
    let guard = Guard::new(&session.machine, &session.machine.kernel_release()?);
    if let Err(error) = guard.tidy() {
        session.warn(error);
    }
    let result = guarded(session, &guard, name, patches);
    if let Err(Stop::Interrupted(..)) = &result {
        // A machine that is shut down in good order has not died.
        if let Err(error) = guard.boot_succeeded().and_then(|_| guard.tidy()) {
            session.warn(error);
        }
    }
    result
}

fn guarded(session: &Session, guard: &Guard, name: Option<&str>, patches: &mut Vec<Patch>) -> Step {
    let machine = &session.machine;
    let mut missing = vec![];
    let installed = match name {
        Some(name) => vec![named(session, name)?],
        None => {
            let (store, release) = (Store::new(machine), machine.kernel_release()?);
            let installed = store.patches_at_boot(&release)?;
            let mut left = store.patches(&release)?;
            left.retain(|patch| !installed.contains(patch));
            if !left.is_empty() {
                let names = left.iter().map(Installed::module_name);
                session.warn(format_args!(
                    "left to kpatch.service: {}",
                    names.collect::<Vec<_>>().join(", ")
                ));
            }
            installed
        }
    };
    for (index, patch) in installed.iter().enumerate() {
        let name = patch.module_name();
        if is_replaced(session, patch, &installed[index + 1..], patches)? {
            continue;
        }
        let what = if machine.is_core_file(&patch.path) {
            "the Rust core".into()
        } else {
            format!("patch {name}")
        };
        // A disk that is full, read-only or damaged must not keep security fixes away.
        let unguarded = |error| {
            session.warn(format_args!("{what} is loaded unguarded: {error}"));
        };
        let deaths = guard.deaths(patch).unwrap_or_else(|error| {
            unguarded(error);
            0
        });
        let suspicion = if deaths >= DEATHS {
            Some("the machine died at two boots in a row after it was loaded".into())
        } else {
            match guard.begin(patch) {
                // It would die at every boot, and each would seem to be the first.
                Err(error) if deaths > 0 => Some(format!(
                    "the machine died at the last boot after it was loaded, and that it is loaded \
                     again cannot be noted: {error}"
                )),
                Err(error) => {
                    unguarded(error);
                    None
                }
                Ok(()) => None,
            }
        };
        if let Some(suspicion) = suspicion {
            tell(
                session,
                &format!("{what} is not loaded: {suspicion}; \"klp load {name}\" tries it again"),
            );
            missing.push(name);
            patches.push(Patch {
                file: patch.path.clone(),
                outcome: Outcome::Skipped,
            });
            continue;
        }
        if deaths > 0 {
            tell(
                session,
                &format!(
                    "the machine died at the last boot after {what} was loaded; it is loaded once \
                     more"
                ),
            );
        }
        match load_and_note(session, &patch.path, patches, &|text| tell(session, text)) {
            Err(Stop::Failed(reason)) => {
                session.warn(reason);
                // Nothing of it has come into effect that the machine may die of.
                if !machine.path("/sys/module").join(&name).exists() {
                    if let Err(error) = guard.acquit(&name) {
                        session.warn(error);
                    }
                }
                missing.push(name);
            }
            result => result?,
        }
    }
    if missing.is_empty() {
        Ok(())
    } else {
        Err(Stop::Failed(format!("not loaded: {}", missing.join(", "))))
    }
}

/// Warns on standard error, and in the kernel log.
fn tell(session: &Session, message: &str) {
    session.warn(message);
    tell_kernel_log(&session.machine, message);
}

/// Writes a warning into the kernel log, for who reads the console.
fn tell_kernel_log(machine: &Machine, message: &str) {
    const WARNING: &str = "<4>";
    let written = fs::OpenOptions::new()
        .append(true)
        .open(machine.path("/dev/kmsg"))
        .and_then(|mut log| log.write_all(format!("{WARNING}klp: {message}\n").as_bytes()));
    // It stands on standard error too.
    drop(written);
}

fn load_and_note(
    session: &Session,
    path: &Path,
    patches: &mut Vec<Patch>,
    tell: &dyn Fn(&str),
) -> Step {
    let result = load(session, path, tell);
    patches.push(Patch {
        file: path.into(),
        outcome: *result.as_ref().unwrap_or(&Outcome::Failed),
    });
    result.map(|_| ())
}

/// Loads the patch in this file, and waits until it is complete; or the Rust core. `tell` is for
/// what has become of other patches.
fn load(session: &Session, path: &Path, tell: &dyn Fn(&str)) -> Step<Outcome> {
    let in_charge = session.machine.core()?;
    session.stop_if_asked(&format!("{} is not loaded", path.display()))?;
    if session.machine.is_core_file(path) {
        if let Core::Rust { .. } = in_charge {
            session.say(format_args!("module named {CORE} already loaded"));
            return Ok(Outcome::AlreadyLoaded);
        }
        session.say(format_args!("loading the Rust core: {}", path.display()));
        session.kernel.modprobe(CORE).map_err(|error| {
            Stop::Failed(format!(
                "failed to load module {CORE}: {}",
                explain::taking_over(&session.machine, &error)
            ))
        })?;
        return Ok(Outcome::Loaded);
    }
    let opened = open(path)?;
    let module = &opened.module;
    let name = module.name();
    session.wait_until_initialised(name)?;
    let before = enabled(&session.machine)?;
    let mut outcome = Outcome::Loaded;
    match session.machine.patch(name) {
        Some(patch) if patch.is_enabled()? => {
            check_build(session, module)?;
            session.say(format_args!(
                "module named {name} already loaded and enabled"
            ));
            outcome = Outcome::AlreadyLoaded;
        }
        Some(patch) if patch.in_transition()? || !session.wait_until_forgotten(&patch)? => {
            return enable_again(session, &patch, module);
        }
        _ => insert(session, path, &opened)?,
    }
    // It is gone again if another patch has replaced it meanwhile.
    if let Some(patch) = session.machine.patch(name) {
        if !session.wait_for_transition(&patch)? {
            session.show_stalled()?;
            session.say(format_args!(
                "module {name} did not complete its transition, unloading..."
            ));
            unload::unload(session, name)?;
            return Err(Stop::Failed(format!(
                "error: failed to load module {name} (transition stalled)"
            )));
        }
    }
    if !is_in_force(&session.machine, name, &before)? {
        return Err(taken_back(name));
    }
    tell_of_replaced(&session.machine, name, &before, tell)?;
    Ok(outcome)
}

/// Tells which installed patches were enabled `before` this one and are not any more. By the order
/// of their names, another one may be in force after the next boot than before it.
fn tell_of_replaced(
    machine: &Machine,
    name: &str,
    before: &[String],
    tell: &dyn Fn(&str),
) -> klp_live::Result<()> {
    let store = Store::new(machine);
    let release = machine.kernel_release()?;
    let after = enabled(machine)?;
    for other in before.iter().filter(|other| !after.contains(other)) {
        if store.find(&release, other)?.is_some() {
            tell(&format!(
                "patch {other} is not in force any more, since patch {name} has replaced it; \
                 {other} is still installed, and boots load what is installed in the order of names"
            ));
        }
    }
    Ok(())
}

/// The names of the patches that are enabled.
fn enabled(machine: &Machine) -> klp_live::Result<Vec<String>> {
    let mut names = vec![];
    for patch in machine.patches()? {
        if patch.is_enabled()? {
            names.push(patch.name().into());
        }
    }
    Ok(names)
}

/// Whether a patch is enabled, or another one has replaced it that was not enabled `before`.
fn is_in_force(machine: &Machine, name: &str, before: &[String]) -> klp_live::Result<bool> {
    for patch in machine.patches()? {
        let replaced = || {
            // Kernels before 6.11 do not tell.
            let may = patch.replaces()?.unwrap_or(true);
            Ok::<_, klp_live::Error>(may && !before.iter().any(|other| other == patch.name()))
        };
        if patch.is_enabled()? && (patch.name() == name || replaced()?) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn taken_back(name: &str) -> Stop {
    Stop::Failed(format!(
        "patch {name} was taken back while it was being enabled; somebody else has disabled it"
    ))
}

/// Checks that the module that is loaded is this one, and not another one of its name.
fn check_build(session: &Session, module: &Module) -> Step {
    let name = module.name();
    let source = session
        .machine
        .read(format!("/sys/module/{name}/srcversion"))?;
    let same = is_loaded_build(&session.machine, name, module)
        .or_else(|| Some(module.info("srcversion")? == source?));
    match same {
        Some(true) => {}
        Some(false) => {
            return Err(Stop::Failed(format!(
                "another build of {name} is loaded; \"klp unload {name}\" takes it off"
            )))
        }
        None => session.warn(format_args!(
            "whether this build of {name} is the one that is loaded cannot be told"
        )),
    }
    Ok(())
}

/// A file with a live patch.
struct Opened {
    file: File,
    contents: Vec<u8>,
    module: Module,
}

/// Opens the file and reads the live patch in it.
fn open(path: &Path) -> Step<Opened> {
    let failed = |error: &dyn Display| Stop::Failed(format!("{}: {error}", path.display()));
    let mut file = File::open(path).map_err(|error| failed(&error))?;
    let mut contents = vec![];
    file.read_to_end(&mut contents)
        .map_err(|error| failed(&error))?;
    let module = Module::parse(&contents).map_err(|reason| failed(&not_a_module(path, reason)))?;
    if !module.is_livepatch() {
        return Err(failed(&"the module is no live patch"));
    }
    Ok(Opened {
        file,
        contents,
        module,
    })
}

/// Why a file is not one that the kernel loads as it is, for this `reason` or since it is compressed.
pub(super) fn not_a_module(path: &Path, reason: String) -> String {
    match read_module(path) {
        Ok(contents) if Module::parse(&contents).is_ok() => {
            "compressed: unpack it first, such as by xz -dk or zstd -dk".into()
        }
        _ => format!("not a kernel module: {reason}"),
    }
}

/// Has the kernel load a module.
fn insert(session: &Session, path: &Path, opened: &Opened) -> Step {
    let module = &opened.module;
    session.say(format_args!("loading patch module: {}", path.display()));
    // Of other architectures, the check knows too little to be in the way.
    let checks = session.checks.get() && module.architecture() == Some(Architecture::X86_64);
    if checks && complains(session, path, &opened.contents, Depth::Module) {
        return Err(Stop::Failed(format!(
            "failed to load module {}: it does not fit this kernel; --no-check has the kernel try",
            path.display()
        )));
    }
    session.stop_if_asked(&format!("{} is not loaded", path.display()))?;
    // One that was loaded and disabled.
    if session.machine.has_patch_module(module.name())? {
        unload::remove(session, module.name(), true)?;
    }
    let result = session.patiently(
        format_args!("failed to load module {}", path.display()),
        || session.kernel.load_module(&opened.file),
        |error| explain::loading(&session.machine, module, error),
    );
    // The kernel looks symbols up faster than it tells them, but does not say which one it misses.
    if checks && matches!(result, Err(Stop::Failed(_))) {
        complains(session, path, &opened.contents, Depth::Symbols);
    }
    result
}

/// Says what a kernel would refuse a patch for, or die of, and whether there is anything. What may
/// pass by itself, such as a transition, is left to the kernel, and so is what cannot be told. It also
/// says who else is at the functions and may win over the patch, since nobody does later; what else
/// klp check finds wrong is for its author.
fn complains(session: &Session, path: &Path, contents: &[u8], depth: Depth) -> bool {
    let machine = &session.machine;
    let sources = Sources {
        depth,
        ..Sources::default()
    };
    let report = || -> Result<Report> {
        let kernel = Kernel::of_release(machine, &machine.kernel_release()?);
        Ok(check::check(
            &mut Facts::gather(machine, &kernel, &sources)?,
            contents,
        ))
    };
    let report = match report() {
        Ok(report) => report,
        // Then the kernel says what is wrong.
        Err(error) => {
            session.warn(format_args!("{} is not checked: {error}", path.display()));
            return false;
        }
    };
    let refused = |finding: &Finding| finding.refused && !finding.rule.may_pass();
    let rivals = |finding: &Finding| finding.rule == Rule::Held && finding.level == Level::Warning;
    for finding in &report.findings {
        if refused(finding) || rivals(finding) {
            session.warn(check::describe(path, finding));
        }
    }
    report.findings.iter().any(refused)
}

/// Turns a patch round that is being disabled, or enables it on old kernels, which keep those that
/// are disabled.
fn enable_again(session: &Session, patch: &klp_live::Patch, module: &Module) -> Step<Outcome> {
    let name = patch.name();
    if let (Some(checksum), Some(loaded)) = (module.checksum(), patch.checksum()?) {
        if checksum != loaded {
            return Err(Stop::Failed(format!(
                "error: cannot re-enable patch module {name}, cannot verify checksum match"
            )));
        }
    }
    check_build(session, module)?;
    session.say("module already loaded, re-enabling");
    session.set_enabled(patch, true, &format!("failed to re-enable module {name}"))?;
    if !session.wait_for_transition(patch)? {
        session.show_stalled()?;
        session.say(format_args!(
            "module {name} did not complete its transition, disabling..."
        ));
        session.set_enabled(patch, false, &format!("failed to disable module {name}"))?;
        session.wait_for_transition(patch)?;
        return Err(Stop::Failed(format!(
            "error: failed to re-enable module {name} (transition stalled), patch disabled"
        )));
    }
    if !patch.is_enabled()? {
        return Err(taken_back(name));
    }
    Ok(Outcome::Loaded)
}
