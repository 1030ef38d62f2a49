// SPDX-License-Identifier: GPL-2.0

//! `klp unload`: disables patches and unloads their modules.

use std::io;

use clap::Args;
use klp_live::ModuleName;
use serde::Serialize;

use super::Result;
use crate::{
    context::Context,
    explain, json,
    session::{self, Session, Step, Stop, Waits},
};

/// Disable patches, wait until nothing uses them, and unload their modules.
///
/// What another program has left half done is brought to its end. A patch whose transition stalls
/// goes on being disabled.
#[derive(Args)]
pub struct Arguments {
    /// The name of a patch or of its file.
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    module: Option<ModuleName>,

    /// Unload all patches.
    #[arg(long)]
    all: bool,

    #[command(flatten)]
    waits: Waits,
}

#[derive(Serialize)]
struct Answer {
    /// The names of the patches that are gone.
    unloaded: Vec<String>,
}

/// Unloads.
pub fn run(arguments: &Arguments, context: &Context) -> Result {
    let name = match &arguments.module {
        Some(module) => format!("klp unload {}", module.as_str()),
        None => "klp unload --all".into(),
    };
    let mut unloaded = vec![];
    let result = session::run(
        context,
        &name,
        &arguments.waits,
        |session| match &arguments.module {
            Some(module) => {
                let module = module.as_str();
                unload(session, module)?;
                note(session, module, &mut unloaded);
                Ok(())
            }
            None => all(session, &mut unloaded),
        },
    );
    json::conclude(context, "unload", &Answer { unloaded }, result)
}

/// Disables a patch and unloads its module.
pub fn unload(session: &Session, name: &str) -> Step {
    disable(session, name)?;
    if let Some(patch) = session.machine.patch(name) {
        if !session.wait_for_transition(&patch)? {
            return Err(Stop::Failed(format!("transition stalled for {name}")));
        }
    }
    remove(session, name, false)
}

/// Kernels before 5.1 disable patches only in the inverse order in which they were enabled, so that
/// it may take several rounds.
pub(super) fn all(session: &Session, unloaded: &mut Vec<String>) -> Step {
    let mut stuck = false;
    loop {
        let patches = session.machine.patches_if_any()?;
        for patch in &patches {
            let name = patch.name();
            session.stop_if_asked(&format!("{name} is not unloaded"))?;
            match disable(session, name) {
                Err(Stop::Failed(reason)) => {
                    session.warn(reason);
                    continue;
                }
                result => result?,
            }
            if !session.wait_for_transition(patch)? {
                session.warn(format_args!("transition stalled for {name}"));
                continue;
            }
            match remove(session, name, false) {
                Err(Stop::Failed(reason)) => {
                    session.warn(&reason);
                    stuck = true;
                }
                result => result?,
            }
            note(session, name, unloaded);
        }
        // Nothing more goes.
        if session.machine.patches_if_any()?.len() == patches.len() {
            break;
        }
    }
    let left = session.machine.patches_if_any()?;
    for patch in &left {
        session.warn(format_args!("failed to unload module {}", patch.name()));
    }
    if left.is_empty() && !stuck {
        Ok(())
    } else {
        Err(Stop::Failed("not all patches could be unloaded".into()))
    }
}

/// Notes a patch as unloaded if nothing is left of it.
fn note(session: &Session, name: &str, unloaded: &mut Vec<String>) {
    let machine = &session.machine;
    if machine.patch(name).is_none() && !machine.path("/sys/module").join(name).exists() {
        unloaded.push(name.into());
    }
}

/// Begins to disable a patch, unless it is disabled or being disabled.
fn disable(session: &Session, name: &str) -> Step {
    let machine = &session.machine;
    session.wait_until_initialised(name)?;
    let Some(patch) = machine.patch(name) else {
        // The module may be left of a patch that is disabled.
        return if machine.has_patch_module(name)? {
            Ok(())
        } else if machine.is_initialising(name)? {
            Err(Stop::Failed(format!(
                "somebody else is loading module {name}"
            )))
        } else if machine.path("/sys/module").join(name).exists() {
            Err(Stop::Failed(format!("module {name} is no live patch")))
        } else {
            Err(Stop::Failed(format!("patch module {name} is not loaded")))
        };
    };
    if patch.is_enabled()? {
        if explain::is_switched_off(machine) {
            session.warn(format_args!(
                "once patch {name} is disabled, it cannot be loaded again: {}",
                explain::SWITCHED_OFF
            ));
        }
        session.say(format_args!("disabling patch module: {name}"));
        let failure = format!("failed to disable module {name}");
        session.set_enabled(&patch, false, &failure)?;
    }
    Ok(())
}

/// Unloads the module of a patch that is disabled. As with kpatch, it may stay, such as after its
/// transition was forced: its functions are not in use. Somebody else may be first.
pub fn remove(session: &Session, name: &str, quietly: bool) -> Step {
    if !session.wait_for_users(name)? {
        session.warn(format_args!(
            "module {name} has no effect any more, but is in use; after a forced transition, only the \
             next boot frees it"
        ));
        return Err(Stop::Failed(format!(
            "failed to unload module {name} (refcnt)"
        )));
    }
    if !quietly {
        session.say(format_args!("unloading patch module: {name}"));
    }
    match session.kernel.unload_module(name) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => session.warn(format_args!(
            "module {name} stays loaded: {}",
            explain::unloading(&session.machine, &error)
        )),
        _ => {}
    }
    Ok(())
}
