// SPDX-License-Identifier: GPL-2.0

//! `klp force`: ends a transition whatever tasks are doing.

use std::io::{self, IsTerminal, Write};

use clap::Args;
use klp_live::{ModuleName, Patch};
use serde::Serialize;

use super::{done, patch_in_transition, print, Result};
use crate::{context::Context, json};

/// End the transition that is going on, whatever tasks are doing.
///
/// It costs: a task that is in a patched function now may go on in the old code, with data that the
/// new code has changed, or the other way round. The kernel does not check anything; it is for
/// patches whose author says that it is safe. The modules of patches that go can never be unloaded
/// any more, until the next boot. klp status -v shows who holds the transition up; klp reverse
/// takes it back at no cost.
#[derive(Args)]
pub struct Arguments {
    /// Only if it is the transition of this patch, by its name or that of its file.
    name: Option<ModuleName>,

    /// Do not ask.
    #[arg(long)]
    yes: bool,
}

#[derive(Serialize)]
struct Answer<'a> {
    patch: &'a str,
}

/// Asks on the terminal.
fn is_sure(name: &str, enabled: bool) -> io::Result<bool> {
    let doing = if enabled { "enabled" } else { "disabled" };
    write!(
        io::stderr(),
        "Forcing the transition of {name}, which is being {doing}:\n\
         - tasks in patched functions may run old code with data of the new code, or the reverse;\n\
         - modules of patches that go can never be unloaded any more.\n\
         Force it? [y/N] "
    )?;
    io::stderr().flush()?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// Checks that the transition is still the one that the user was asked about.
fn check_unchanged(patch: &Patch, enabled: bool) -> Result<()> {
    if patch.in_transition()? && patch.is_enabled()? == enabled {
        return Ok(());
    }
    Err(format!(
        "the transition of {} has ended or was reversed meanwhile: nothing is forced",
        patch.name()
    )
    .into())
}

/// Forces.
pub fn run(arguments: &Arguments, context: &Context) -> Result {
    let machine = context.machine();
    let patch = patch_in_transition(&machine, arguments.name.as_ref())?;
    let name = patch.name();
    if !arguments.yes {
        if !io::stdin().is_terminal() {
            return Err("there is no terminal to ask on: use --yes if it is what you want".into());
        }
        let enabled = patch.is_enabled()?;
        if !is_sure(name, enabled)? {
            return Err(format!("the transition of {name} is left as it is").into());
        }
        check_unchanged(&patch, enabled)?;
    }
    patch.force()?;
    let printed = if context.json {
        json::print("force", &Answer { patch: name })
    } else {
        print(&format!("forced the transition of patch module: {name}\n"))
    };
    Ok(done(printed))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use klp_live::Machine;

    use super::check_unchanged;

    #[test]
    fn only_what_was_asked_about() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("sys/kernel/livepatch/fix");
        fs::create_dir_all(&directory).unwrap();
        let patch = Machine::with_root(root.path()).patch("fix").unwrap();
        for (enabled, transition, same) in [
            ("1", "1", true),
            ("0", "1", false),
            ("1", "0", false),
            ("0", "0", false),
        ] {
            fs::write(directory.join("enabled"), enabled).unwrap();
            fs::write(directory.join("transition"), transition).unwrap();
            assert_eq!(check_unchanged(&patch, true).is_ok(), same);
        }
        fs::remove_dir_all(directory).unwrap();
        assert!(check_unchanged(&patch, false).is_err());
    }
}
