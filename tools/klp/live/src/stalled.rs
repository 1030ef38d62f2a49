// SPDX-License-Identifier: GPL-2.0

//! The tasks that a transition waits for, as procfs shows them on any core.

use std::{fs, io, path::Path};

use serde::Serialize;

use crate::{machine::read, Error, Machine, Patch, Result};

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
    /// The tasks that the transition of `patch` waits for; none if it is not in transition, and none
    /// for users who are not root.
    ///
    /// # Errors
    ///
    /// That of reading the files.
    pub fn stalled(&self, patch: &Patch) -> Result<Vec<Stalled>> {
        let mut tasks = vec![];
        if !patch.in_transition()? {
            return Ok(tasks);
        }
        let behind = if patch.is_enabled()? { "0" } else { "1" };
        for process in numbers(&self.path("/proc")) {
            let threads = self.path(format!("/proc/{process}/task"));
            for tid in numbers(&threads) {
                let directory = threads.join(tid.to_string());
                let file = |name: &str| permitted(read(&directory.join(name)));
                if file("patch_state")?.as_deref() == Some(behind) {
                    tasks.push(Stalled {
                        tid,
                        comm: file("comm")?.unwrap_or_default(),
                        stack: file("stack")?.unwrap_or_default(),
                    });
                }
            }
        }
        Ok(tasks)
    }
}

/// Makes nothing of a file that is for root only.
fn permitted(result: Result<Option<String>>) -> Result<Option<String>> {
    match result {
        Err(Error::File { source, .. }) if source.kind() == io::ErrorKind::PermissionDenied => {
            Ok(None)
        }
        result => result,
    }
}

/// The entries of a directory of procfs that are numbers, in their order.
fn numbers(directory: &Path) -> Vec<u32> {
    let mut numbers = fs::read_dir(directory)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect::<Vec<_>>();
    numbers.sort_unstable();
    numbers
}
