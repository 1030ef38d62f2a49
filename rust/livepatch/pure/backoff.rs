// SPDX-License-Identifier: GPL-2.0

//! When to look at the remaining tasks of a transition again, and when to signal them.
//!
//! Independent of the kernel: `tools/testing/host` tests it on the host. Times are in milliseconds
//! since the transition started (or was reversed).

/// The C core looks once a second; that is where the back-off ends.
const SLOWEST_MS: u64 = 1_000;

/// How long tasks are left alone before they are signalled, and between two signals.
const SIGNAL_MS: u64 = 15_000;

/// How many passes look at busy tasks [`MANY_LOOKS`] times more. They take a quarter of a second.
const EAGER_PASSES: u32 = 8;

/// How often an eager pass looks at a busy task again: for 5 ms.
const MANY_LOOKS: u32 = 50;

/// The next step about the tasks that remain after a pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    /// Signal the tasks now. The first time is announced.
    pub(crate) signal: Option<Signal>,
    /// Look again after so many milliseconds.
    pub(crate) retry_ms: u64,
}

/// A round of signals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    /// The first one of this transition, which is announced in the log.
    First,
    /// A later one.
    Again,
}

/// The progress of one transition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Backoff {
    passes: u32,
    signals: u64,
}

impl Backoff {
    /// How often to look, between this pass and the next, at tasks that do not stop running, after
    /// a first look.
    ///
    /// A task that is in one of the functions at each of so many looks is hardly ever outside. From
    /// then on, one look for each pass shall do.
    pub(crate) fn looks(&self) -> u32 {
        if self.passes < EAGER_PASSES {
            MANY_LOOKS
        } else {
            0
        }
    }

    /// To be called after a pass that could not switch all tasks.
    pub(crate) fn step(&mut self, elapsed_ms: u64) -> Step {
        let due = elapsed_ms / SIGNAL_MS;
        let signal = if due > self.signals {
            Some(if self.signals == 0 {
                Signal::First
            } else {
                Signal::Again
            })
        } else {
            None
        };
        self.signals = self.signals.max(due);
        if signal.is_some() {
            // Tasks will move right away.
            self.passes = 0;
        }

        // 1, 2, 4 ... ms: what keeps a task is mostly that it runs at this moment.
        let backoff = 1u64.checked_shl(self.passes).unwrap_or(SLOWEST_MS);
        self.passes = self.passes.saturating_add(1).min(16);
        let until_signal = (self.signals + 1) * SIGNAL_MS - elapsed_ms;
        Step {
            signal,
            retry_ms: backoff.min(SLOWEST_MS).min(until_signal),
        }
    }
}
