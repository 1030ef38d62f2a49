// SPDX-License-Identifier: GPL-2.0

//! `klp list`: which patches are loaded, which are installed, and which functions they change.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use clap::Args;
use klp_live::{guard::Guard, stalled::Stalled, store::Store, Machine, Patch, State};
use serde::Serialize;

use super::Result;
use crate::{context::Context, json, session::stalled_lines};

/// List loaded and installed patches.
#[derive(Args)]
pub struct Arguments {}

#[derive(Serialize)]
struct Answer {
    loaded: Vec<Loaded>,
    /// While a transition is going on, the tasks that hold it up, or [`None`] if only root may know.
    #[serde(skip_serializing_if = "Option::is_none")]
    stalled: Option<Option<Vec<Stalled>>>,
    installed: Vec<Installed>,
    /// On kernels that tell the order of the patches.
    #[serde(skip_serializing_if = "Option::is_none")]
    functions: Option<Vec<Function>>,
}

#[derive(Serialize)]
struct Loaded {
    name: String,
    state: State,
}

#[derive(Serialize)]
struct Installed {
    name: String,
    kernel: String,
    file: PathBuf,
    /// Whether it is skipped at boot, since the machine went down twice after loading it. [`None`]
    /// if only root may know.
    skipped_at_boot: Option<bool>,
    /// Other files of this patch, which do not count since this one comes first.
    shadowed: Vec<PathBuf>,
}

/// A function, and the patch whose version of it is in use.
#[derive(Serialize)]
struct Function {
    module: String,
    object: String,
    function: String,
    occurrence: u64,
}

/// Lists.
pub fn run(_: &Arguments, context: &Context) -> Result {
    let answer = Answer::of(&context.machine())?;
    if context.json {
        json::print("list", &answer)?;
    } else {
        io::stdout().write_all(answer.text().as_bytes())?;
    }
    Ok(ExitCode::SUCCESS)
}

impl Answer {
    fn of(machine: &Machine) -> klp_live::Result<Self> {
        // Patches may be installed for another kernel than one without live patching.
        let patches = machine.patches_if_any()?;
        let mut loaded = vec![];
        let mut stalled = None;
        for patch in &patches {
            let state = patch.state()?;
            if matches!(state, State::Enabling | State::Disabling) {
                stalled = Some(machine.stalled(patch)?);
            }
            loaded.push(Loaded {
                name: patch.name().into(),
                state,
            });
        }
        let mut installed = vec![];
        let store = Store::new(machine);
        for patch in store.all_patches()? {
            let guard = Guard::new(machine, &patch.kernel_release);
            let name = patch.module_name();
            let copies = store.copies(&patch.kernel_release, &name)?;
            let shadowed = copies.into_iter().map(|copy| copy.path);
            installed.push(Installed {
                shadowed: shadowed.filter(|path| *path != patch.path).collect(),
                skipped_at_boot: guard.suspects_patch(&name)?,
                name,
                kernel: patch.kernel_release,
                file: patch.path,
            });
        }
        Ok(Self {
            loaded,
            stalled,
            installed,
            functions: functions(&patches)?,
        })
    }

    /// As kpatch prints it.
    fn text(&self) -> String {
        let mut text = "Loaded patch modules:\n".to_string();
        for Loaded { name, state } in &self.loaded {
            let state = match state {
                State::Enabled => "enabled",
                State::Enabling => "enabling...",
                State::Disabling => "disabling...",
                State::Disabled => "disabled",
            };
            text += &format!("{name} [{state}]\n");
        }
        if let Some(tasks) = &self.stalled {
            text += &stalled_lines(tasks.as_deref().unwrap_or_default());
            text += "\n";
        }
        text += "\nInstalled patch modules:\n";
        for patch in &self.installed {
            text += &format!("{} ({})", patch.name, patch.kernel);
            if patch.skipped_at_boot == Some(true) {
                text += " [skipped at boot: the machine went down twice after loading it]";
            }
            for path in &patch.shadowed {
                text += &format!(
                    " [{} comes before {}]",
                    patch.file.display(),
                    path.display()
                );
            }
            text += "\n";
        }
        let functions = self.functions.as_deref().unwrap_or_default();
        if !functions.is_empty() {
            text += "\nCurrently livepatched functions:\n";
            text += &table(functions);
        }
        text
    }
}

/// The functions that patches replace, and whose version is in use: that of the patch enabled last.
/// [`None`] on kernels that do not tell in which order they were.
fn functions(patches: &[Patch]) -> klp_live::Result<Option<Vec<Function>>> {
    let mut newest = BTreeMap::new();
    let mut in_order = vec![];
    for patch in patches {
        match patch.stack_order()? {
            Some(order) => in_order.push((order, patch)),
            // It has gone meanwhile.
            None if !patch.exists() => {}
            None => return Ok(None),
        }
    }
    in_order.sort_by_key(|(order, _)| *order);
    for (_, patch) in in_order {
        for object in patch.objects()? {
            if object.patched == Some(false) {
                continue;
            }
            for func in object.funcs {
                newest.insert((object.name.clone(), func), patch.name());
            }
        }
    }
    let functions = newest.into_iter().map(|((object, func), patch)| Function {
        module: patch.into(),
        object,
        function: func.name,
        occurrence: func.position,
    });
    Ok(Some(functions.collect()))
}

/// The functions in columns.
fn table(functions: &[Function]) -> String {
    let width = |column: fn(&Function) -> &str, title: &str| {
        let widths = functions.iter().map(|function| column(function).len());
        widths.max().unwrap_or_default().max(title.len())
    };
    let module = width(|function| &function.module, "Module");
    let object = width(|function| &function.object, "Object");
    let mut text = format!(
        "{:module$}  {:object$}  Function/Occurrence\n",
        "Module", "Object"
    );
    for function in functions {
        text += &format!(
            "{:module$}  {:object$}  {}/{}\n",
            function.module, function.object, function.function, function.occurrence
        );
    }
    text
}
