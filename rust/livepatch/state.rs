// SPDX-License-Identifier: GPL-2.0

//! System states: which patches go together, and what a new patch takes over from older ones.
//!
//! C header: [`include/linux/livepatch.h`](srctree/include/linux/livepatch.h), `struct klp_state`.
//! The rules are those of `Documentation/livepatch/system-state.rst`.
//!
//! # Contexts
//!
//! [`previous`] is called by the callbacks of the patch in transition, which run in process context
//! under the registry lock; so it cannot take that. Everything else runs under it, but for
//! [`find`], which any context may call.

use crate::{
    bindings,
    kapi::{
        cpu::PreemptGuard,
        module::ModulesLocked,
        published::Published, //
    },
    klp::descriptor::{
        CheckedPatch,
        PatchDescriptor,
        SavedState,
        StateDescriptor, //
    },
    leak_check::{
        self,
        Counted, //
    },
    pure::patch_state::PatchId,
};
use kernel::prelude::*;

/// Whether `new` can deal with what `installed` did to the system: it knows every state that was
/// changed in at least the same version. A patch that does not replace others may ignore states.
#[doc(alias = "klp_is_patch_compatible")]
pub(crate) fn is_compatible(new: &CheckedPatch, installed: &PatchDescriptor) -> bool {
    installed.states().iter().all(|old| {
        find(new.states().iter().copied(), old.id())
            .map_or(!new.replace(), |known| known.version() >= old.version())
    })
}

/// The state `id` among `states`.
#[doc(alias = "klp_get_state")]
pub(crate) fn find(
    mut states: impl Iterator<Item = StateDescriptor>,
    id: usize,
) -> Option<StateDescriptor> {
    states.find(|state| state.id() == id)
}

/// The states of the patches that are older than the one in transition; nothing if there are none.
static PREVIOUS: Published<Previous> = Published::new();

/// A state that a patch changed.
struct Changed {
    patch: PatchId,
    state: SavedState,
}

/// The states that patches changed before a certain one came, oldest first.
pub(crate) struct Previous {
    states: KVec<Changed>,
    _counted: Counted<leak_check::StateLists>,
}

impl Previous {
    /// Collects the states of `patches`, oldest first.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new<'a>(
        patches: impl Iterator<Item = (PatchId, &'a PatchDescriptor)>,
    ) -> Result<KBox<Self>> {
        let mut states = KVec::new();
        for (id, patch) in patches {
            for state in patch.saved_states() {
                let changed = Changed { patch: id, state };
                states.push(changed, GFP_KERNEL)?;
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

    /// Removes the states of a patch that goes.
    pub(crate) fn remove(&mut self, patch: PatchId) {
        self.states.retain(|changed| changed.patch != patch);
    }

    /// Lets callbacks see the list, until [`unpublish`]. Costs nothing if there are no states.
    pub(crate) fn publish(this: &mut Option<KBox<Self>>) {
        let Some(mut previous) = this.take_if(|previous| !previous.states.is_empty()) else {
            return;
        };
        let locked = ModulesLocked::new();
        for changed in previous.states.iter_mut() {
            changed.state.save(&locked);
        }
        drop(locked);
        let before = PREVIOUS.replace(Some(previous));
        kernel::warn_on!(before.is_some());
    }
}

/// Takes back what [`Previous::publish`] published, if anything.
pub(crate) fn unpublish() -> Option<KBox<Previous>> {
    PREVIOUS.replace(None)
}

/// The latest version of the state `id` that a patch older than the one in transition has, null if
/// there is none.
///
/// Callbacks of one transition get the same answer. A patch whose module goes may have freed its
/// states, so then it is a copy of when the transition began, until [`unpublish`]; or null if the
/// module was going already. What older patches have is never an answer instead: the latest patch
/// may have freed what they point to.
#[doc(alias = "klp_get_prev_state")]
pub(crate) fn previous(id: usize) -> *mut bindings::klp_state {
    let preempt = PreemptGuard::new();
    let latest = PREVIOUS.get(&preempt).and_then(|previous| {
        let mut newest_first = previous.states.iter().rev();
        newest_first.find(|old| old.state.id() == id)
    });
    latest.map_or(core::ptr::null_mut(), |old| old.state.as_ptr())
}
