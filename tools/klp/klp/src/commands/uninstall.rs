// SPDX-License-Identifier: GPL-2.0

//! `klp uninstall`: removes an installed patch.

use std::path::PathBuf;

use clap::Args;
use klp_live::{
    guard::Guard,
    store::{module_name, Store},
    KernelRelease,
};
use serde::Serialize;

use super::Result;
use crate::{
    context::Context,
    json,
    session::{self, Session, Step, Stop, Waits},
};

/// Remove an installed patch, ours or kpatch's, wherever it is installed for that kernel. If it is
/// loaded, it stays so until the next boot.
///
/// A copy that belongs to a package stays, and the status is 1 then. What is installed for other
/// kernels stays too.
#[derive(Args)]
pub struct Arguments {
    /// The kernel that it is for, as "uname -r" prints it: the running one.
    #[arg(short, long, value_name = "RELEASE")]
    kernel_version: Option<KernelRelease>,

    /// The name of the patch or of its file, without a path.
    module: String,
}

#[derive(Serialize)]
struct Answer {
    /// The file that is gone, which is the one that would have been loaded.
    file: Option<PathBuf>,
    /// Others of the same module that are gone.
    others: Vec<PathBuf>,
}

/// Uninstalls.
pub fn run(arguments: &Arguments, context: &Context) -> Result {
    let name = format!("klp uninstall {}", arguments.module);
    let mut files = vec![];
    let result = session::run(context, &name, &Waits::DEFAULT, |session| {
        uninstall(session, arguments, &mut files)
    });
    let mut files = files.into_iter();
    let answer = Answer {
        file: files.next(),
        others: files.collect(),
    };
    json::conclude(context, "uninstall", &answer, result)
}

fn uninstall(session: &Session, arguments: &Arguments, files: &mut Vec<PathBuf>) -> Step {
    let name = &arguments.module;
    let machine = &session.machine;
    let release = match &arguments.kernel_version {
        Some(release) => release.as_str().into(),
        None => machine.kernel_release()?,
    };
    if name.contains('/') {
        return Err(Stop::Failed(
            "please supply patch module name without path".into(),
        ));
    }
    let store = Store::new(machine);
    let copies = store.copies(&release, name)?;
    let elsewhere = store
        .all_patches()?
        .into_iter()
        .filter(|patch| patch.module_name() == module_name(name) && patch.kernel_release != release)
        .map(|patch| patch.kernel_release)
        .collect::<Vec<_>>()
        .join(", ");
    if copies.is_empty() {
        let mut reason = format!("{name} is not installed for kernel {release}");
        if !elsewhere.is_empty() {
            reason += &format!(", but for {elsewhere}: name one with -k");
        }
        return Err(Stop::Failed(reason));
    }
    session.say(format_args!("uninstalling {name} ({release})"));
    let mut result = Ok(());
    for copy in copies {
        // Another one that stays is no reason to keep this one.
        match store.uninstall(&copy) {
            Ok(()) => files.push(copy.path),
            Err(error) => result = result.and(Err(error)),
        }
    }
    result?;
    if !elsewhere.is_empty() {
        session.warn(format_args!(
            "{name} stays installed for {elsewhere}: name one with -k to uninstall it there"
        ));
    }
    if let Err(error) = Guard::new(machine, &release).acquit(name) {
        session.warn(error);
    }
    Ok(())
}
