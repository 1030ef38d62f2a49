// SPDX-License-Identifier: GPL-2.0

//! System states: which patches go together, and what a new patch takes over from older ones.
//!
//! C header: [`include/linux/livepatch.h`](srctree/include/linux/livepatch.h), `struct klp_state`. The rules are those
//! of `Documentation/livepatch/system-state.rst`.
//!
//! # Contexts
//!
//! [`previous`] is called by the callbacks of the patch in transition, which run in process context under the registry's
//! lock; so it cannot take that. Everything else runs under it.

#![deny(unsafe_code)]

use crate::{
    account::{
        self,
        Counted, //
    },
    kapi::{
        cpu::PreemptGuard,
        descriptor::{
            PatchDescriptor,
            StateDescriptor, //
        },
        published::Published,
        warn::warn_once, //
    },
    registry::PatchId,
    transition, //
};
use kernel::prelude::*;

/// Whether `new` can deal with what `installed` did to the system: it knows every state that was changed in at least
/// the same version. A patch that does not replace others may ignore states.
#[doc(alias = "klp_is_patch_compatible")]
pub(crate) fn is_compatible(new: PatchDescriptor, installed: PatchDescriptor) -> bool {
    installed.states().all(|old| {
        of(new, old.id()).map_or(!new.replace(), |known| known.version() >= old.version())
    })
}

/// The states of the patches that are older than the one in transition; nothing if there are none.
static PREVIOUS: Published<Previous> = Published::new();

/// The states that patches changed before a certain one came, oldest first.
pub(crate) struct Previous {
    states: KVec<(PatchId, StateDescriptor)>,
    _counted: Counted<account::StateLists>,
}

impl Previous {
    /// Collects the states of `patches`, oldest first.
    pub(crate) fn new(
        patches: impl Iterator<Item = (PatchId, PatchDescriptor)>,
    ) -> Result<KBox<Self>> {
        let mut states = KVec::new();
        for (id, patch) in patches {
            for state in patch.states() {
                states.push((id, state), GFP_KERNEL)?;
            }
        }
        Ok(KBox::new(
            Self {
                states,
                _counted: Counted::new(),
            },
            GFP_KERNEL,
        )?)
    }

    /// Forgets the states of a patch that goes.
    pub(crate) fn forget(&mut self, patch: PatchId) {
        self.states.retain(|(id, _)| *id != patch);
    }

    /// Shows the list to callbacks, until [`withdraw`]. Costs nothing if there are no states.
    pub(crate) fn publish(this: &mut Option<KBox<Self>>) {
        if this
            .as_ref()
            .is_some_and(|previous| !previous.states.is_empty())
        {
            let before = PREVIOUS.replace(this.take());
            kernel::warn_on!(before.is_some());
        }
    }
}

/// Takes back what [`Previous::publish`] published, if anything.
pub(crate) fn withdraw() -> Option<KBox<Previous>> {
    PREVIOUS.replace(None)
}

/// The state `id` of `patch`. Any context.
#[doc(alias = "klp_get_state")]
pub(crate) fn of(patch: PatchDescriptor, id: usize) -> Option<StateDescriptor> {
    patch.states().find(|state| state.id() == id)
}

/// The latest version of the state `id` that a patch older than the one in transition has.
#[doc(alias = "klp_get_prev_state")]
pub(crate) fn previous(id: usize) -> Option<StateDescriptor> {
    if transition::is_of(0) {
        warn_once(c"klp_get_prev_state() called outside a transition");
        return None;
    }
    let preempt = PreemptGuard::new();
    let previous = PREVIOUS.get(&preempt)?;
    let latest = previous
        .states
        .iter()
        .rev()
        .find(|(_, state)| state.id() == id);
    latest.map(|(_, state)| *state)
}
