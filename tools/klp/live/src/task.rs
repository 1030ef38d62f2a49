// SPDX-License-Identifier: GPL-2.0

//! Tasks, as procfs shows them.

use std::{fmt, fs};

use procfs_core::{process::Stat, process::StatFlags, FromRead};
use serde::{Serialize, Serializer};

use crate::{Error, Machine, Result};

/// A function on a kernel stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Its name, without the offset.
    pub func: String,
    /// The module that it is in; [`None`] for the kernel's own.
    pub module: Option<String>,
    text: String,
}

impl Frame {
    /// Parses a line of `/proc/TID/stack`: `[<0>] func+0x12/0x34 [module]`.
    fn parse(line: &str) -> Option<Self> {
        let text = match line.strip_prefix('[') {
            Some(rest) => rest.split_once("] ")?.1,
            None => line,
        };
        let (place, module) = match text.strip_suffix(']') {
            Some(rest) => {
                let (place, module) = rest.split_once(" [")?;
                // The build ID may follow the module's name.
                (place, module.split(' ').next())
            }
            None => (text, None),
        };
        Some(Self {
            func: place.split('+').next()?.into(),
            module: module.map(Into::into),
            text: text.into(),
        })
    }
}

impl fmt::Display for Frame {
    /// As the kernel shows it: `func+0x12/0x34 [module]`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for Frame {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

/// A task, a thread or a kernel thread, at the moment when it was looked at.
#[derive(Clone, Debug)]
pub struct Task {
    /// Its thread ID.
    pub tid: u32,
    /// Its name.
    pub comm: String,
    /// Whether it is a kernel thread.
    pub kthread: bool,
    /// Its state, the letter that `ps` shows, such as `R` or `D`.
    pub state: char,
    /// Its kernel stack, innermost function first. Empty if it runs, [`None`] without permission.
    pub stack: Option<Vec<Frame>>,
}

impl Machine {
    /// What a task does now, or [`None`] if it has ended.
    ///
    /// # Errors
    ///
    /// Its `stat` cannot be read, or is not in the kernel's format.
    pub fn task(&self, tid: u32) -> Result<Option<Task>> {
        let Some(text) = self.read(task_file(tid, "stat"))? else {
            return Ok(None);
        };
        let stat = Stat::from_read(text.as_bytes()).map_err(|_| Error::Unexpected {
            path: self.path(task_file(tid, "stat")),
            expected: "the fields of a task",
            found: text.clone(),
        })?;
        let stack = permitted(self.read(task_file(tid, "stack")))?.map(|text| {
            text.unwrap_or_default()
                .lines()
                .filter_map(Frame::parse)
                .collect()
        });
        Ok(Some(Task {
            tid,
            comm: stat.comm,
            kthread: StatFlags::from_bits_truncate(stat.flags).contains(StatFlags::PF_KTHREAD),
            state: stat.state,
            stack,
        }))
    }

    /// The thread IDs of all tasks. Tasks come and go meanwhile.
    ///
    /// # Errors
    ///
    /// That of reading directories: `EPERM` if procfs hides (`hidepid`) what others' tasks do. Those
    /// that can be seen are no answer, since who counts them would count too few.
    pub fn tids(&self) -> Result<Vec<u32>> {
        let numbers = |path| -> Result<Vec<u32>> {
            let path = self.path(path);
            match fs::read_dir(&path) {
                Ok(entries) => Ok(entries
                    .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
                    .collect()),
                Err(error) if Error::is_gone(&error) => Ok(vec![]),
                Err(source) => Err(Error::File { path, source }),
            }
        };
        let mut tids = vec![];
        for pid in numbers("/proc".into())? {
            tids.extend(numbers(format!("/proc/{pid}/task"))?);
        }
        tids.sort_unstable();
        // procfs has threads below their own ID, too, though it does not list them there.
        tids.dedup();
        Ok(tids)
    }

    /// How many tasks there are, or [`None`] if the kernel does not say.
    pub fn task_count(&self) -> Result<Option<u64>> {
        // The fourth word is RUNNING/ALL.
        Ok(self.read("/proc/loadavg")?.and_then(|text| {
            let (_, all) = text.split(' ').nth(3)?.split_once('/')?;
            all.parse().ok()
        }))
    }

    /// Which patch state a task has during a transition: 0 is unpatched, 1 is patched. [`None`] if
    /// it has none, or has ended.
    pub(crate) fn patch_state(&self, tid: u32) -> Result<Option<bool>> {
        Ok(match self.read(task_file(tid, "patch_state"))?.as_deref() {
            Some("0") => Some(false),
            Some("1") => Some(true),
            _ => None,
        })
    }
}

/// Where procfs has a file of a task, which need not be the first of its process.
pub(crate) fn task_file(tid: u32, file: &str) -> String {
    format!("/proc/{tid}/task/{tid}/{file}")
}

/// Makes [`None`] of the error that a file is for root only.
pub(crate) fn permitted<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Err(Error::File { source, .. })
            if source.kind() == std::io::ErrorKind::PermissionDenied =>
        {
            Ok(None)
        }
        result => result.map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::Frame;

    fn parse(line: &str) -> (String, Option<String>, String) {
        let frame = Frame::parse(line).unwrap();
        (frame.func.clone(), frame.module.clone(), frame.to_string())
    }

    #[test]
    fn frames_of_the_kernel_and_of_modules() {
        assert_eq!(
            parse("[<0>] seq_read_iter+0x10c/0x440"),
            (
                "seq_read_iter".into(),
                None,
                "seq_read_iter+0x10c/0x440".into()
            )
        );
        assert_eq!(
            parse("[<0>] nap+0x5/0x10 [sleeper]"),
            (
                "nap".into(),
                Some("sleeper".into()),
                "nap+0x5/0x10 [sleeper]".into()
            )
        );
        assert_eq!(
            parse("[<0>] nap+0x5/0x10 [sleeper 0123456789abcdef]")
                .1
                .as_deref(),
            Some("sleeper")
        );
    }

    #[test]
    fn no_frame_of_a_broken_line() {
        assert_eq!(Frame::parse("[<0>"), None);
        assert_eq!(Frame::parse("nap sleeper]"), None);
    }
}
