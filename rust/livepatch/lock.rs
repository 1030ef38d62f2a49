// SPDX-License-Identifier: GPL-2.0

//! Evidence that the registry lock is held.

/// Evidence that the registry lock ([`static@crate::registry::REGISTRY`]) is held.
///
/// # Invariants
///
/// The only value lies in what the registry lock protects, so whoever has a reference holds the
/// lock.
pub(crate) struct LockHeld(());

impl LockHeld {
    /// Makes the only value.
    ///
    /// # Safety
    ///
    /// It must be put into what the registry lock protects, and stay there.
    pub(crate) const unsafe fn new() -> Self {
        // INVARIANT: By the safety requirements.
        Self(())
    }
}
