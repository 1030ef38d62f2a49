// SPDX-License-Identifier: GPL-2.0

//! What becomes of a task that holds a transition up.

use std::fmt;

use serde::Serialize;

use crate::Reason;

/// Both cores signal user tasks and wake kernel threads this often, in seconds, counted from the
/// start of the transition.
const SIGNAL_PERIOD: u64 = 15;

/// What is known about a task that has not switched.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// Whether it is a kernel thread.
    pub kthread: bool,
    /// Why it has not switched.
    pub reason: &'a Reason,
    /// Its state, the letter that `ps` shows; [`None`] if it has ended or is an idle task.
    pub state: Option<char>,
    /// How long the transition has been going on, in seconds, if that is known.
    pub transition_seconds: Option<u64>,
}

/// What will happen to a task that has not switched, or what to do about it.
///
/// As text it is a phrase for the user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Outlook {
    /// The core will look at it.
    Tried,
    /// A user task leaves the kernel or is interrupted soon.
    LeavesKernel,
    /// The idle task of a processor switches in the idle loop.
    Idle,
    /// A kernel thread runs.
    KthreadRuns,
    /// A user task is made to leave the kernel.
    Signalled {
        /// In how many seconds, or at the latest if it is not known since when the transition goes
        /// on.
        seconds: u64,
        /// Whether it has been tried.
        again: bool,
    },
    /// A kernel thread is woken up.
    WokenUp {
        /// As above.
        seconds: u64,
        /// As above.
        again: bool,
    },
    /// A kernel thread waits for work.
    WaitsForWork,
    /// It waits for something, and nothing wakes it up before.
    Uninterruptible {
        /// Whether it is a kernel thread.
        kthread: bool,
    },
    /// It has been stopped.
    Stopped,
    /// It is being debugged.
    Traced,
    /// It ends, or has ended.
    Ends,
}

impl Outlook {
    /// Draws the conclusion.
    pub fn new(facts: Facts<'_>) -> Self {
        let age = facts.transition_seconds;
        let seconds = age.map_or(SIGNAL_PERIOD, |age| SIGNAL_PERIOD - age % SIGNAL_PERIOD);
        let again = age.is_some_and(|age| age >= SIGNAL_PERIOD);
        match (facts.state, facts.kthread) {
            (Some('Z' | 'X'), _) => return Self::Ends,
            _ if *facts.reason == Reason::NotTried => return Self::Tried,
            (None, false) => return Self::Ends,
            (None, true) => return Self::Idle,
            _ => {}
        }
        match (facts.state, facts.kthread) {
            (Some('T'), _) => Self::Stopped,
            (Some('t'), _) => Self::Traced,
            (Some('D'), kthread) => Self::Uninterruptible { kthread },
            (Some('I'), true) => Self::WaitsForWork,
            (Some('S'), true) => Self::WokenUp { seconds, again },
            (_, true) => Self::KthreadRuns,
            (Some('R'), false) => Self::LeavesKernel,
            (_, false) => Self::Signalled { seconds, again },
        }
    }
}

impl fmt::Display for Outlook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let again = |again| if again { " again" } else { "" };
        match *self {
            Self::Tried => f.write_str("will be looked at within a second"),
            Self::LeavesKernel => {
                f.write_str("switches at its next system call, or interrupt in user space")
            }
            Self::Idle => {
                f.write_str("idle task of a processor: switches at its next turn of the idle loop")
            }
            Self::KthreadRuns => f.write_str(
                "kernel thread, cannot be signalled: switches when it sleeps or yields outside of \
                 the functions concerned",
            ),
            Self::Signalled { seconds, again: a } => write!(
                f,
                "will be signalled{} in {seconds} s, to leave and restart its system call",
                again(a)
            ),
            Self::WokenUp { seconds, again: a } => write!(
                f,
                "kernel thread, cannot be signalled: will be woken up{} in {seconds} s",
                again(a)
            ),
            Self::WaitsForWork => f.write_str(
                "kernel thread, cannot be signalled: waits for work, switches when it gets some",
            ),
            Self::Uninterruptible { kthread } => write!(
                f,
                "{}uninterruptible: waits for I/O or a lock, switches when it goes on",
                if kthread { "kernel thread, " } else { "" }
            ),
            Self::Stopped => f.write_str("stopped: continue it (kill -CONT) or end it"),
            Self::Traced => f.write_str("stopped by a debugger: continue it there"),
            Self::Ends => f.write_str("is ending"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Facts, Outlook};
    use crate::Reason;

    fn sleeping() -> Reason {
        Reason::SleepingIn { func: "nap".into() }
    }

    fn outlook(kthread: bool, state: char, reason: &Reason, age: Option<u64>) -> Outlook {
        Outlook::new(Facts {
            kthread,
            reason,
            state: Some(state),
            transition_seconds: age,
        })
    }

    #[test]
    fn signals_come_every_fifteen_seconds() {
        let text = |age| outlook(false, 'S', &sleeping(), age).to_string();
        assert!(text(Some(0)).starts_with("will be signalled in 15 s"));
        assert!(text(Some(6)).starts_with("will be signalled in 9 s"));
        assert!(text(Some(14)).starts_with("will be signalled in 1 s"));
        assert!(text(Some(15)).starts_with("will be signalled again in 15 s"));
        assert!(text(Some(44)).starts_with("will be signalled again in 1 s"));
        // Not known since when: the period is the limit.
        assert!(text(None).starts_with("will be signalled in 15 s"));
    }

    #[test]
    fn kernel_threads_are_not_signalled() {
        for state in ['R', 'S', 'D', 'I'] {
            let text = outlook(true, state, &sleeping(), Some(6)).to_string();
            assert!(text.starts_with("kernel thread, "), "{state}: {text}");
            assert!(!text.contains("will be signalled"), "{state}: {text}");
        }
        assert_eq!(
            outlook(true, 'S', &sleeping(), Some(6)),
            Outlook::WokenUp {
                seconds: 9,
                again: false
            }
        );
        assert_eq!(outlook(true, 'I', &sleeping(), None), Outlook::WaitsForWork);
        assert_eq!(
            outlook(true, 'R', &Reason::Running, None),
            Outlook::KthreadRuns
        );
    }

    #[test]
    fn whom_no_signal_reaches() {
        for age in [None, Some(3), Some(300)] {
            let outlook = |state| outlook(false, state, &sleeping(), age);
            assert_eq!(outlook('D'), Outlook::Uninterruptible { kthread: false });
            assert_eq!(outlook('T'), Outlook::Stopped);
            assert_eq!(outlook('t'), Outlook::Traced);
            assert_eq!(outlook('Z'), Outlook::Ends);
            assert_eq!(outlook('X'), Outlook::Ends);
        }
    }

    #[test]
    fn running_user_tasks_switch_by_themselves() {
        assert_eq!(
            outlook(false, 'R', &Reason::UnreliableStack, Some(6)),
            Outlook::LeavesKernel
        );
        assert_eq!(
            outlook(false, 'R', &Reason::Running, Some(6)),
            Outlook::LeavesKernel
        );
    }

    #[test]
    fn not_looked_at_yet() {
        assert_eq!(
            outlook(false, 'S', &Reason::NotTried, Some(6)),
            Outlook::Tried
        );
        assert_eq!(
            outlook(true, 'D', &Reason::NotTried, Some(6)),
            Outlook::Tried
        );
    }

    #[test]
    fn tasks_that_procfs_does_not_show() {
        let outlook = |kthread| {
            Outlook::new(Facts {
                kthread,
                reason: &Reason::Running,
                state: None,
                transition_seconds: Some(1),
            })
        };
        assert_eq!(outlook(true), Outlook::Idle);
        assert_eq!(outlook(false), Outlook::Ends);
    }
}
