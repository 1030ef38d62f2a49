// SPDX-License-Identifier: GPL-2.0

//! `klp boot-ok`: tells the boot guard that the machine has come up well.

use clap::Args;
use klp_live::guard::Guard;
use serde::Serialize;

use super::Result;
use crate::{
    context::Context,
    json,
    session::{self, Waits},
};

/// Tell the boot guard that the machine has come up well with the patches that were loaded at boot.
///
/// If the machine dies before that, these patches are skipped at the next boots.
#[derive(Args)]
pub struct Arguments {
    /// Wait until the machine has been up for five minutes, or until this program is asked to end,
    /// as by a shutdown.
    #[arg(long)]
    when_proven: bool,
}

#[derive(Serialize)]
struct Answer {
    /// The patches that are trusted now.
    patches: Vec<String>,
}

/// Tells it.
pub fn run(arguments: &Arguments, context: &Context) -> Result {
    let mut patches = vec![];
    let result = session::run_unlocked(context, &Waits::DEFAULT, |session| {
        let guard = Guard::new(&session.machine, &session.machine.kernel_release()?);
        if arguments.when_proven {
            // A machine that can be shut down in good order has not died, so a signal will do.
            session.kernel.pause(None, guard.probation_left()?);
        }
        let _lock = session.lock("klp boot-ok")?;
        patches = guard.boot_succeeded()?;
        Ok(())
    });
    if context.json {
        json::print("boot-ok", &Answer { patches })?;
    }
    result
}
