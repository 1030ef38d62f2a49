// SPDX-License-Identifier: GPL-2.0

//! The tasks that a transition waits for, as procfs shows them on any core.

use serde::Serialize;

use crate::{
    task::{permitted, task_file},
    Machine, Patch, Result,
};

/// A task that has yet to switch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Stalled {
    /// Its thread ID.
    pub tid: u32,
    /// Its name.
    pub comm: String,
    /// Its kernel stack as the kernel shows it, a line for each function. Empty if it runs.
    pub stack: String,
}

impl Machine {
    /// The tasks that the transition of `patch` waits for; none if it is not in transition. [`None`] if
    /// that cannot be told, since only root may see it.
    ///
    /// # Errors
    ///
    /// That of reading the files.
    pub fn stalled(&self, patch: &Patch) -> Result<Option<Vec<Stalled>>> {
        let file = |tid, name| -> Result<String> {
            let text = permitted(self.read(task_file(tid, name)))?;
            Ok(text.flatten().unwrap_or_default())
        };
        let Some(tids) = permitted(self.unswitched(patch))? else {
            return Ok(None);
        };
        let tasks = tids.into_iter().map(|tid| {
            Ok(Stalled {
                tid,
                comm: file(tid, "comm")?,
                stack: file(tid, "stack")?,
            })
        });
        tasks.collect::<Result<_>>().map(Some)
    }
}
