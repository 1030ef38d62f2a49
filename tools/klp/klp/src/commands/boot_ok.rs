// SPDX-License-Identifier: GPL-2.0

//! `klp boot-ok`: tells the boot guard that the machine has come up well.

use clap::Args;
use klp_live::guard::{Guard, PROBATION};
use serde::Serialize;

use super::Result;
use crate::{
    context::Context,
    json,
    session::{self, Session, Step, Waits},
};

/// Tell the boot guard that the machine has come up well with what was loaded at boot: patches, and
/// the Rust core.
///
/// If the machine dies before that, at two boots in a row, they are skipped at the next ones.
#[derive(Args)]
pub struct Arguments {
    /// Wait for five minutes, or until this program is asked to end, as by a shutdown.
    #[arg(long)]
    when_proven: bool,
}

#[derive(Serialize)]
struct Answer {
    /// What is trusted now.
    patches: Vec<String>,
}

/// Tells it.
pub fn run(arguments: &Arguments, context: &Context) -> Result {
    let mut patches = vec![];
    let result = session::run_unlocked(context, &Waits::DEFAULT, |session| {
        patches = boot_ok(session, arguments.when_proven)?;
        Ok(())
    });
    json::conclude(context, "boot-ok", &Answer { patches }, result)
}

pub(super) fn boot_ok(session: &Session, when_proven: bool) -> Step<Vec<String>> {
    let guard = Guard::new(&session.machine, &session.machine.kernel_release()?);
    if when_proven {
        let end = session.kernel.now() + PROBATION;
        loop {
            let left = end.saturating_sub(session.kernel.now());
            // A machine that can be shut down in good order has not died, so a signal will do.
            if left.is_zero() || session.kernel.pause(None, left).is_some() {
                break;
            }
        }
    }
    // Who has the lock is not waited for: this boot has come up well whatever they do.
    let lock = session.try_lock("klp boot-ok")?;
    let patches = guard.boot_succeeded()?;
    if lock.is_ok() {
        guard.tidy()?;
    }
    Ok(patches)
}
