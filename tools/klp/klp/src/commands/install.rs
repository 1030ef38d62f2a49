// SPDX-License-Identifier: GPL-2.0

//! `klp install`: installs a patch, to be loaded at boot.

use std::{fs, path::PathBuf, process::Command};

use clap::Args;
use klp_live::{
    guard::Guard,
    store::{module_name, Store},
    KernelRelease,
};
use klp_module::Module;
use serde::Serialize;

use super::{load, Result};
use crate::{
    context::Context,
    json,
    session::{self, Session, Step, Stop, Waits},
};

/// The units that load installed patches at boot, and that tell the boot guard.
const UNITS: [&str; 2] = ["klp.service", "klp-boot-ok.service"];

/// Install a patch, to be loaded at every boot of the kernel that it was made for.
///
/// It goes into /var/lib/klp. It is not loaded now.
#[derive(Args)]
pub struct Arguments {
    /// The kernel that it is for, as "uname -r" prints it: the running one.
    #[arg(short, long, value_name = "RELEASE")]
    kernel_version: Option<KernelRelease>,

    /// The module's file.
    module: PathBuf,
}

#[derive(Serialize)]
struct Answer {
    file: Option<PathBuf>,
}

/// Installs.
pub fn run(arguments: &Arguments, context: &Context) -> Result {
    let name = format!("klp install {}", arguments.module.display());
    let mut file = None;
    let result = session::run(context, &name, &Waits::DEFAULT, |session| {
        file = Some(install(session, arguments)?);
        Ok(())
    });
    json::conclude(context, "install", &Answer { file }, result)
}

fn install(session: &Session, arguments: &Arguments) -> Step<PathBuf> {
    let path = &arguments.module;
    let name = path.display();
    let machine = &session.machine;
    let release = match &arguments.kernel_version {
        Some(release) => release.as_str().into(),
        None => machine.kernel_release()?,
    };
    let failed = |reason: &str| Stop::Failed(format!("{name} {reason}"));

    if !path.exists() {
        return Err(failed("doesn't exist"));
    }
    let file = path
        .file_name()
        .and_then(|file| file.to_str())
        .filter(|file| file.ends_with(".ko"))
        .ok_or_else(|| failed("isn't a .ko file"))?;
    let contents = fs::read(path).map_err(|error| failed(&format!("cannot be read: {error}")))?;
    let module = Module::parse(&contents)
        .map_err(|reason| failed(&format!("is {}", load::not_a_module(path, reason))))?;
    if !module.is_livepatch() {
        return Err(failed("is no live patch"));
    }
    let version = module.kernel_release().unwrap_or_default();
    if version != release {
        return Err(Stop::Failed(format!(
            "invalid module version {version} for kernel {release}"
        )));
    }
    // What is installed is known by the names of files, and hidden ones are not looked at.
    if module_name(file) != module.name() {
        return Err(failed(&format!(
            "doesn't have the name of its module, which is {}",
            module.name()
        )));
    }
    let store = Store::new(machine);
    if store.find(&release, file)?.is_some() {
        return Err(failed("is already installed"));
    }

    session.say(format_args!("installing {name} ({release})"));
    let installed = store.install(&release, file, &contents)?;
    if let Err(stop) = enable_units(session) {
        // A patch that is not loaded at boot would look installed.
        if let Some(patch) = store.find(&release, file)? {
            store.uninstall(&patch)?;
        }
        return Err(stop);
    }
    // Who installs it trusts it.
    if let Err(error) = Guard::new(machine, &release).acquit(file) {
        session.warn(error);
    }
    Ok(installed)
}

/// Has systemd load installed patches at boot, if the units are there.
fn enable_units(session: &Session) -> Step {
    let units = UNITS.map(|unit| session.machine.has_unit(unit).then_some(unit));
    let units = units.into_iter().flatten().collect::<Vec<_>>();
    if units.is_empty() {
        return Ok(());
    }
    let enabled = Command::new("systemctl")
        .arg("--quiet")
        .arg("--root")
        .arg(session.machine.path("/"))
        .arg("enable")
        .args(&units)
        .status();
    let units = units.join(", ");
    match enabled {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(Stop::failed(format_args!(
            "{units} cannot be enabled: systemctl: {status}"
        ))),
        // The unit's files may be there without systemd.
        Err(error) => {
            session.warn(format_args!(
                "{units} cannot be enabled: systemctl: {error}"
            ));
            Ok(())
        }
    }
}
