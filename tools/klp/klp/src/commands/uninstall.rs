// SPDX-License-Identifier: GPL-2.0

//! `klp uninstall`: removes an installed patch.

use clap::Args;
use klp_live::{guard::Guard, store::Store, KernelRelease};
use serde::Serialize;

use super::Result;
use crate::{
    context::Context,
    json,
    session::{self, Session, Step, Stop, Waits},
};

/// Remove an installed patch, ours or kpatch's. If it is loaded, it stays so until the next boot.
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
    /// The file that is gone.
    file: Option<std::path::PathBuf>,
}

/// Uninstalls.
pub fn run(arguments: &Arguments, context: &Context) -> Result {
    let name = format!("klp uninstall {}", arguments.module);
    let mut file = None;
    let result = session::run(context, &name, &Waits::DEFAULT, |session| {
        file = Some(uninstall(session, arguments)?);
        Ok(())
    });
    if context.json {
        json::print("uninstall", &Answer { file })?;
    }
    result
}

fn uninstall(session: &Session, arguments: &Arguments) -> Step<std::path::PathBuf> {
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
    let patch = store
        .find(&release, name)?
        .ok_or_else(|| Stop::Failed(format!("{name} is not installed for kernel {release}")))?;
    session.say(format_args!("uninstalling {name} ({release})"));
    store.uninstall(&patch)?;
    if let Err(error) = Guard::new(machine, &release).acquit(name) {
        session.warn(error);
    }
    Ok(patch.path)
}
