// SPDX-License-Identifier: GPL-2.0

//! Tasks that hold a transition up.

use std::{collections::HashSet, fmt};

use serde::Serialize;

use crate::{escape::unescape, task::permitted, Error, Machine, Object, Patch, Result, Task};

/// Why a task has not switched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Reason {
    /// It was running.
    Running,
    /// The kernel could not tell for sure which functions are on its stack.
    UnreliableStack,
    /// A function concerned is on its stack.
    SleepingIn {
        /// The function's name.
        func: String,
    },
    /// The core has not looked at it yet.
    NotTried,
    /// Anything else, or the core does not tell and it cannot be seen from outside.
    Unknown {
        /// What the Rust core said.
        #[serde(skip_serializing_if = "Option::is_none")]
        detail: Option<String>,
    },
}

impl Reason {
    /// Understands a reason as the Rust core writes it.
    fn parse(text: &str) -> Self {
        match text {
            "running" => Self::Running,
            "unreliable stack" => Self::UnreliableStack,
            "not tried" => Self::NotTried,
            _ => match text.strip_prefix("sleeping in ") {
                Some(func) => Self::SleepingIn { func: func.into() },
                None => Self::Unknown {
                    detail: Some(text.strip_prefix("unknown ").unwrap_or(text).into()),
                },
            },
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Running => f.write_str("running"),
            Self::UnreliableStack => f.write_str("unreliable stack"),
            Self::SleepingIn { func } => write!(f, "sleeping in {func}"),
            Self::NotTried => f.write_str("not tried yet"),
            Self::Unknown { detail: None } => f.write_str("unknown reason"),
            Self::Unknown {
                detail: Some(detail),
            } => write!(f, "unknown reason ({detail})"),
        }
    }
}

/// A task that has not switched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocker {
    /// Its thread ID; 0 for the idle task of a processor.
    pub tid: u32,
    /// Its name.
    pub comm: String,
    /// Whether it is a kernel thread.
    pub kthread: bool,
    /// Why it has not switched, when the core looked at it last.
    pub reason: Reason,
}

impl Blocker {
    /// Parses a line of the Rust core's `blockers`.
    fn parse(line: &str) -> Option<Self> {
        // The name comes last, since it can contain anything.
        let mut fields = line.splitn(4, '\t');
        Some(Self {
            tid: fields.next()?.parse().ok()?,
            kthread: match fields.next()? {
                "kthread" => true,
                "user" => false,
                _ => return None,
            },
            reason: Reason::parse(fields.next()?),
            comm: unescape(fields.next()?),
        })
    }
}

impl Machine {
    /// The tasks that have yet to switch to a patch in transition, or from it. On the built-in core
    /// these are seen from procfs, without the idle tasks.
    ///
    /// # Errors
    ///
    /// Files cannot be read, which only root may, or are not in the kernel's format.
    pub fn blockers(&self, patch: &Patch) -> Result<Vec<Blocker>> {
        match patch.blockers_text()? {
            Some(text) => text
                .lines()
                .map(|line| {
                    Blocker::parse(line).ok_or_else(|| Error::Unexpected {
                        path: patch.file("blockers"),
                        expected: "TID, kind, reason and name of tasks",
                        found: line.into(),
                    })
                })
                .collect(),
            None => self.blockers_from_proc(patch),
        }
    }

    /// How many tasks have yet to switch to a patch in transition, or from it. [`None`] without
    /// permission, which the built-in core needs.
    pub fn remaining(&self, patch: &Patch) -> Result<Option<u64>> {
        match patch.remaining()? {
            Some(remaining) => Ok(Some(remaining)),
            None => Ok(permitted(self.unswitched(patch))?.map(|tids| tids.len() as u64)),
        }
    }

    /// The tasks whose state is not the one that they are to have.
    pub(crate) fn unswitched(&self, patch: &Patch) -> Result<Vec<u32>> {
        if !patch.in_transition()? {
            return Ok(vec![]);
        }
        let unswitched = Some(!patch.is_enabled()?);
        let mut tids = vec![];
        for tid in self.tids()? {
            if self.patch_state(tid)? == unswitched {
                tids.push(tid);
            }
        }
        Ok(tids)
    }

    fn blockers_from_proc(&self, patch: &Patch) -> Result<Vec<Blocker>> {
        let tids = self.unswitched(patch)?;
        let functions = Functions {
            patch: patch.name(),
            objects: &patch.objects()?,
            modules: &self.patches()?.iter().map(|p| p.name().into()).collect(),
            enabled: patch.is_enabled()?,
        };
        let mut blockers = vec![];
        for tid in tids {
            // Who has ended meanwhile does not block.
            if let Some(task) = self.task(tid)? {
                blockers.push(Blocker {
                    tid,
                    reason: functions.reason(&task),
                    comm: task.comm,
                    kthread: task.kthread,
                });
            }
        }
        Ok(blockers)
    }
}

/// What the functions concerned by a transition are known by.
struct Functions<'a> {
    patch: &'a str,
    objects: &'a [Object],
    /// The modules of all patches.
    modules: &'a HashSet<String>,
    enabled: bool,
}

impl Functions<'_> {
    /// Why a task has not switched, as far as its state and its stack show.
    fn reason(&self, task: &Task) -> Reason {
        if task.state == 'R' {
            return Reason::Running;
        }
        let stack = task.stack.as_deref().unwrap_or_default();
        match stack
            .iter()
            .find(|frame| self.concerns(frame.module.as_deref(), &frame.func))
        {
            Some(frame) => Reason::SleepingIn {
                func: frame.func.clone(),
            },
            None => Reason::Unknown { detail: None },
        }
    }

    /// Whether a task that runs this function may not switch.
    fn concerns(&self, module: Option<&str>, func: &str) -> bool {
        if !self.enabled {
            // The names of the new functions are not known, but they are in the patch's module.
            return module == Some(self.patch);
        }
        // An older patch may have replaced the function already, under any name.
        module.is_some_and(|module| module != self.patch && self.modules.contains(module))
            || self.objects.iter().any(|object| {
                object.name == module.unwrap_or("vmlinux")
                    && object.funcs.iter().any(|known| known.name == func)
            })
    }
}

#[cfg(test)]
mod tests {
    use super::{Blocker, Reason};

    #[test]
    fn lines_of_the_rust_core() {
        assert_eq!(
            Blocker::parse("12\tuser\tsleeping in do_nap\ta \tb"),
            Some(Blocker {
                tid: 12,
                comm: "a \tb".into(),
                kthread: false,
                reason: Reason::SleepingIn {
                    func: "do_nap".into()
                },
            })
        );
        let reason = |text: &str| {
            Blocker::parse(&format!("1\tkthread\t{text}\tx"))
                .unwrap()
                .reason
        };
        assert_eq!(reason("running"), Reason::Running);
        assert_eq!(reason("unreliable stack"), Reason::UnreliableStack);
        assert_eq!(reason("not tried"), Reason::NotTried);
        let unknown = |detail: &str| Reason::Unknown {
            detail: Some(detail.into()),
        };
        assert_eq!(reason("unknown -5"), unknown("-5"));
        // One that a newer core knows.
        assert_eq!(reason("asleep"), unknown("asleep"));
    }

    #[test]
    fn broken_lines() {
        for line in [
            "",
            "x\tuser\trunning\ta",
            "1\tnobody\trunning\ta",
            "1\tuser\trunning",
        ] {
            assert_eq!(Blocker::parse(line), None, "{line}");
        }
    }
}
