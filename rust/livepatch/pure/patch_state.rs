// SPDX-License-Identifier: GPL-2.0

//! Identifiers of patches, directions of transitions, and states of tasks.

/// Identifies a patch among all that there ever were.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PatchId(u64);

impl PatchId {
    /// The identifier of the patch that came before the first one, which never existed.
    pub(crate) const NONE: Self = Self(0);

    /// The identifier after this one.
    pub(crate) fn next(self) -> Self {
        // Nobody lives to see it wrap.
        Self(self.0.wrapping_add(1))
    }

    /// The number, to be kept in an atomic variable.
    pub(crate) const fn as_u64(self) -> u64 {
        self.0
    }
}

/// How far a task has got in the transition, `patch_state` in `struct task_struct`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub(crate) enum PatchState {
    /// There is no transition.
    Idle = -1,
    /// The task does not run the patch in transition.
    Unpatched = 0,
    /// The task runs the patch in transition.
    Patched = 1,
}

impl PatchState {
    /// The state that C stores as `raw`; values that C does not know count as [`Self::Idle`].
    #[inline(always)]
    pub(crate) fn from_raw(raw: i32) -> Self {
        match raw {
            0 => Self::Unpatched,
            1 => Self::Patched,
            _ => Self::Idle,
        }
    }

    /// The number that C stores for the state.
    #[inline(always)]
    pub(crate) const fn as_raw(self) -> i32 {
        self as i32
    }
}

/// Where a transition goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// Tasks stop using the patch.
    Unpatched,
    /// Tasks start to use the patch.
    Patched,
}

impl Target {
    /// The state of a task that has switched.
    pub(crate) fn state(self) -> PatchState {
        match self {
            Target::Unpatched => PatchState::Unpatched,
            Target::Patched => PatchState::Patched,
        }
    }

    /// The other way.
    pub(crate) fn reversed(self) -> Self {
        match self {
            Target::Unpatched => Target::Patched,
            Target::Patched => Target::Unpatched,
        }
    }

    /// The name of the transition in messages.
    pub(crate) fn verb(self) -> &'static str {
        match self {
            Target::Unpatched => "unpatching",
            Target::Patched => "patching",
        }
    }
}
