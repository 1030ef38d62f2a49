// SPDX-License-Identifier: GPL-2.0

//! `klp wait`: waits until no transition is going on.

use std::{process::ExitCode, time::Duration};

use clap::Args;
use klp_live::{
    kernel::Running,
    wait::{for_transition, Outcome},
    Blocker, Escaped, Kernel, Machine, ModuleName, Patch,
};
use serde::Serialize;

use super::Result;
use crate::{context::Context, json, session::Seconds};

/// Wait until no transition is going on, or only until that of one patch has ended.
///
/// The exit status is 0, also if there was nothing to wait for. It is 1 if the time is over; who
/// holds the transition up is printed then.
#[derive(Args)]
pub struct Arguments {
    /// The patch, by its name or that of its file. It need not exist: one that is disabled goes when its
    /// transition ends.
    name: Option<ModuleName>,

    /// Wait no longer than this; without it, for as long as it takes.
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<Seconds>,
}

#[derive(Serialize)]
struct Answer<'a> {
    /// Whether no transition is going on.
    complete: bool,
    /// The patch that is still in transition.
    patch: Option<&'a str>,
    /// How many tasks have yet to switch.
    remaining: Option<u64>,
}

/// The next transition to wait for.
fn next(machine: &Machine, name: Option<&ModuleName>) -> Result<Option<Patch>> {
    Ok(match name {
        None => machine.patch_in_transition()?,
        Some(name) => match machine.patch(name.as_str()) {
            Some(patch) => patch.in_transition()?.then_some(patch),
            None => None,
        },
    })
}

/// Waits.
pub fn run(arguments: &Arguments, context: &Context) -> Result {
    let machine = context.machine();
    let kernel = Running::new()?;
    let end = arguments
        .timeout
        .map(|Seconds(timeout)| kernel.now() + timeout);
    while let Some(patch) = next(&machine, arguments.name.as_ref())? {
        let left = end.map_or(Duration::MAX, |end| end.saturating_sub(kernel.now()));
        match for_transition(&kernel, &patch, left, || ())? {
            // Another one may have begun.
            Outcome::Done(_) => {}
            Outcome::Interrupted(signal) => {
                if context.json {
                    print_unfinished(&machine, &patch)?;
                }
                return Ok(ExitCode::from(128 + signal.number()));
            }
            Outcome::TimedOut => return timed_out(&machine, &patch, context),
        }
    }
    if context.json {
        let answer = Answer {
            complete: true,
            patch: None,
            remaining: None,
        };
        json::print("wait", &answer)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints that the patch is still in transition.
fn print_unfinished(machine: &Machine, patch: &Patch) -> Result<()> {
    let answer = Answer {
        complete: false,
        patch: Some(patch.name()),
        remaining: machine.remaining(patch)?,
    };
    json::print("wait", &answer)
}

fn timed_out(machine: &Machine, patch: &Patch, context: &Context) -> Result {
    let name = patch.name();
    if context.json {
        print_unfinished(machine, patch)?;
        return Ok(ExitCode::FAILURE);
    }
    let blockers = match machine.blockers(patch) {
        // Only root may know.
        Err(error) if error.is_permission_denied() => vec![],
        blockers => blockers?,
    };
    let who = match blockers.as_slice() {
        [] => String::new(),
        [Blocker {
            tid, comm, reason, ..
        }] => format!(": task {tid} {}: {reason}", Escaped(comm)),
        [Blocker {
            tid, comm, reason, ..
        }, rest @ ..] => {
            format!(
                ": task {tid} {}: {reason}, and {} more (klp status -v)",
                Escaped(comm),
                rest.len()
            )
        }
    };
    Err(format!("{name} is still in transition{who}").into())
}
