// SPDX-License-Identifier: GPL-2.0

//! `klp install`: installs a patch, to be loaded at boot.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use clap::Args;
use klp_live::{guard::Guard, store::Store};
use klp_module::Module;
use serde::Serialize;

use super::Result;
use crate::{
    context::Context,
    json,
    session::{self, Session, Step, Stop, Waits},
};

/// The unit that loads installed patches at boot.
const UNIT: &str = "klp.service";

/// Install a patch, to be loaded at every boot of the kernel that it was made for.
///
/// It goes into /var/lib/klp. It is not loaded now.
#[derive(Args)]
pub struct Arguments {
    /// The kernel that it is for, as "uname -r" prints it: the running one.
    #[arg(short, long, value_name = "RELEASE")]
    kernel_version: Option<String>,

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
        enable_unit(session)
    });
    if context.json {
        json::print("install", &Answer { file })?;
    }
    result
}

fn install(session: &Session, arguments: &Arguments) -> Step<PathBuf> {
    let path = &arguments.module;
    let name = path.display();
    let machine = &session.machine;
    let release = match &arguments.kernel_version {
        Some(release) => release.clone(),
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
        .map_err(|reason| failed(&format!("is not a kernel module: {reason}")))?;
    if !module.is_livepatch() {
        return Err(failed("is no live patch"));
    }
    let version = module.kernel_release().unwrap_or_default();
    if version != release {
        return Err(Stop::Failed(format!(
            "invalid module version {version} for kernel {release}"
        )));
    }
    let store = Store::new(machine);
    if store.find(&release, file)?.is_some() {
        return Err(failed("is already installed"));
    }

    session.say(format_args!("installing {name} ({release})"));
    let installed = store.install(&release, file, &contents)?;
    // What it was suspected of, another file of this name did.
    Guard::new(machine, &release).acquit(file)?;
    Ok(installed)
}

/// Has systemd load installed patches at boot, if the unit is there.
fn enable_unit(session: &Session) -> Step {
    let unit = ["/etc/systemd/system", "/usr/lib/systemd/system"]
        .map(|directory| session.machine.path(Path::new(directory).join(UNIT)));
    if !unit.iter().any(|unit| unit.exists()) {
        return Ok(());
    }
    let root = session.machine.path("/");
    let enabled = Command::new("systemctl")
        .arg("--quiet")
        .arg("--root")
        .arg(root)
        .args(["enable", UNIT])
        .status();
    match enabled {
        Ok(status) if status.success() => {}
        // The patch is installed all the same.
        Ok(status) => session.warn(format_args!(
            "{UNIT} cannot be enabled: systemctl: {status}"
        )),
        Err(error) => session.warn(format_args!("{UNIT} cannot be enabled: systemctl: {error}")),
    }
    Ok(())
}
