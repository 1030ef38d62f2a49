// SPDX-License-Identifier: GPL-2.0

//! Which system states a patch must know about.
//!
//! C header: [`include/linux/livepatch.h`](srctree/include/linux/livepatch.h), `struct klp_state`. The rules are those
//! of `Documentation/livepatch/system-state.rst`.

#![deny(unsafe_code)]

use crate::kapi::descriptor::PatchDescriptor;

/// Whether `new` can deal with what `installed` did to the system: it knows every state that was changed in at least
/// the same version. A patch that does not replace others may ignore states.
#[doc(alias = "klp_is_patch_compatible")]
pub(crate) fn is_compatible(new: PatchDescriptor, installed: PatchDescriptor) -> bool {
    installed.states().all(|(id, version)| {
        new.states()
            .find(|(known, _)| *known == id)
            .map_or(!new.replace(), |(_, known)| known >= version)
    })
}
