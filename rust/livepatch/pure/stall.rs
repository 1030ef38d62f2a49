// SPDX-License-Identifier: GPL-2.0

//! When to warn of a transition that does not end.
//!
//! Independent of the kernel: `tools/testing/host` tests it on the host. Times are in milliseconds
//! since the transition started (or was reversed), unless a name says otherwise.

/// The time between two warnings of the same transition.
const DAY_MS: u64 = 24 * 60 * 60 * 1_000;

/// What has been said of one transition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stall {
    first_ms: u64,
    warnings: u64,
}

impl Stall {
    /// The first warning is due after `first_s` seconds; for 0 there is none.
    pub(crate) fn new(first_s: u32) -> Self {
        Self {
            first_ms: u64::from(first_s) * 1_000,
            warnings: 0,
        }
    }

    /// Returns whether to warn now. To be called after a pass that could not switch all tasks; one
    /// that is late makes up for all warnings that it missed at once.
    pub(crate) fn is_due(&mut self, elapsed_ms: u64) -> bool {
        let due = match elapsed_ms.checked_sub(self.first_ms) {
            Some(since) if self.first_ms > 0 => 1 + since / DAY_MS,
            _ => 0,
        };
        let more = due > self.warnings;
        self.warnings = self.warnings.max(due);
        more
    }
}
