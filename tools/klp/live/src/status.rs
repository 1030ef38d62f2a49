// SPDX-License-Identifier: GPL-2.0

//! All patches of a machine at one moment.

use std::fs;

use serde::Serialize;

use crate::{guard::Guard, Core, Error, History, Machine, Object, Patch, Result, State};

/// The state of the machine.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// The core in charge.
    pub core: Core,
    /// The release of the running kernel.
    pub kernel: String,
    /// The patches, in the order in which they were enabled if the kernel tells it.
    pub patches: Vec<PatchStatus>,
    /// Modules of patches that the core does not have any more.
    pub leftovers: Vec<Leftover>,
    /// Patches, or the Rust core, that are not loaded at boot, since the machine died after they
    /// were loaded. [`None`] if only root may know.
    pub skipped_at_boot: Option<Vec<String>>,
}

/// The state of a patch. [`None`] is what cannot be known.
#[derive(Clone, Debug, Serialize)]
pub struct PatchStatus {
    /// The name of its module.
    pub name: String,
    /// What it is doing.
    pub state: State,
    /// For how many seconds the core has had it.
    pub age_seconds: Option<u64>,
    /// Its place in the order in which patches were enabled, from 1 on.
    pub stack_order: Option<u64>,
    /// Whether it replaces all older patches.
    pub replace: Option<bool>,
    /// Whether calls of the functions may jump to it, without a handler.
    pub direct: Option<bool>,
    /// Whether its last transition was ended by force.
    pub forced: Option<bool>,
    /// What it patches.
    pub objects: Vec<Object>,
    /// Its transition, if one is going on.
    pub transition: Option<Transition>,
}

/// A transition.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Transition {
    /// For how many seconds it has been going on in this direction.
    pub seconds: Option<u64>,
    /// How many tasks have yet to switch.
    pub remaining: Option<u64>,
    /// How many tasks there are.
    pub tasks: Option<u64>,
}

/// A loaded module of a patch that the core does not have: it was disabled or replaced. One that
/// still has references can never be unloaded if a transition was forced.
#[derive(Clone, Debug, Serialize)]
pub struct Leftover {
    /// The name of the module.
    pub name: String,
    /// How often it is referred to.
    pub references: u64,
}

impl Transition {
    /// How many tasks have switched.
    pub fn done(&self) -> Option<u64> {
        // They are not counted at the same moment, and the Rust core counts idle tasks too.
        Some(self.tasks?.saturating_sub(self.remaining?))
    }
}

impl Status {
    /// The patch whose transition is going on.
    pub fn in_transition(&self) -> Option<&PatchStatus> {
        self.patches.iter().find(|patch| patch.transition.is_some())
    }
}

impl Machine {
    /// Looks at everything. Patches may come and go meanwhile.
    ///
    /// # Errors
    ///
    /// [`Error::NoLivepatch`], or a file is not in the kernel's format.
    pub fn status(&self) -> Result<Status> {
        let core = self.core()?;
        let log = self.log()?;
        let uptime = self.uptime()?;
        let mut patches = vec![];
        for patch in self.patches()? {
            let history = log
                .as_ref()
                .map(|log| log.history(patch.name()))
                .unwrap_or_default();
            patches.push(self.patch_status(&patch, history, uptime)?);
        }
        patches.sort_by_key(|patch| patch.stack_order);
        let kernel = self.kernel_release()?;
        Ok(Status {
            core,
            leftovers: self.leftovers(&patches)?,
            skipped_at_boot: Guard::new(self, &kernel).suspects()?,
            kernel,
            patches,
        })
    }

    fn patch_status(&self, patch: &Patch, history: History, uptime: u64) -> Result<PatchStatus> {
        let since = |moment: Option<u64>| Some(uptime.saturating_sub(moment?));
        let state = patch.state()?;
        let transition = match state {
            State::Enabled | State::Disabled => None,
            State::Enabling | State::Disabling => Some(Transition {
                seconds: since(history.transition),
                remaining: self.remaining(patch)?,
                tasks: self.task_count()?,
            }),
        };
        Ok(PatchStatus {
            name: patch.name().into(),
            state,
            age_seconds: since(history.enabled),
            stack_order: patch.stack_order()?,
            replace: patch.replaces()?,
            direct: patch.may_jump()?,
            forced: history.forced,
            objects: patch.objects()?,
            transition,
        })
    }

    fn leftovers(&self, patches: &[PatchStatus]) -> Result<Vec<Leftover>> {
        let path = self.path("/sys/module");
        let entries = match fs::read_dir(&path) {
            Err(error) if Error::is_gone(&error) => return Ok(vec![]),
            result => result.map_err(|source| Error::File { path, source })?,
        };
        let mut leftovers = vec![];
        // Beside the modules, there is a file.
        let directories = entries
            .filter_map(|entry| entry.ok())
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        for name in directories.filter_map(|entry| entry.file_name().into_string().ok()) {
            if patches.iter().any(|patch| patch.name == name) {
                continue;
            }
            if self.has_patch_module(&name)? {
                leftovers.push(Leftover {
                    references: self
                        .read(format!("/sys/module/{name}/refcnt"))?
                        .and_then(|text| text.parse().ok())
                        .unwrap_or(0),
                    name,
                });
            }
        }
        leftovers.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(leftovers)
    }
}
