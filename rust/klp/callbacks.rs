// SPDX-License-Identifier: GPL-2.0

//! Functions that the core calls when an object is patched and unpatched.

use crate::{
    bindings::{self, klp_callbacks, klp_object},
    declaration::Patch,
    state::{PatchModule, StateList}, //
};
use kernel::{
    error::from_result,
    ffi::c_int,
    prelude::*,
    str::CStr, //
};

/// The kernel itself or a module, as a part of a patch.
///
/// # Invariants
///
/// The object is one of the patch, which is enabled, and a callback is running.
pub struct Object {
    object: *const klp_object,
    patch: &'static Patch,
}

impl Object {
    /// # Safety
    ///
    /// `object` must be what the core passed to a callback of the patch of `M`, and the value not
    /// outlive that callback.
    #[inline]
    unsafe fn from_raw<M: PatchModule>(object: *const klp_object) -> Self {
        // INVARIANT: By the safety requirements.
        Self {
            object,
            patch: M::patch(),
        }
    }

    /// The name of the module, or `None` for the kernel itself.
    #[inline]
    pub fn name(&self) -> Option<&CStr> {
        // SAFETY: The object exists, by the type's invariant, and is a part of a static
        // declaration, whose name does not change.
        let name = unsafe { (*self.object).name };
        // SAFETY: The name is a static string that ends with NUL.
        (!name.is_null()).then(|| unsafe { CStr::from_char_ptr(name) })
    }

    /// Whether the patch is disabled by force: tasks may still run the replacements, even in
    /// [`post_unpatch`](Callbacks::post_unpatch), and the module stays for ever.
    #[inline]
    pub fn is_forced(&self) -> bool {
        self.patch.is_forced()
    }
}

/// What is to be done when an object is patched and unpatched, besides its functions.
///
/// The core calls these functions one at a time, with its lock held, in a context that may sleep.
/// For the kernel itself that is when the patch is enabled and disabled; for a module also when the
/// module is loaded and unloaded meanwhile. They must neither panic nor enable or disable a patch.
///
/// Whatever happens to a patch, its objects are told one after the other in the order of `objects`,
/// without modules that are not there. A [`State`](crate::State) is made before `pre_patch` of
/// `vmlinux`, and dropped after `post_unpatch` of `vmlinux`, with its shadow variables: callbacks
/// of objects in front of it do not find it in the former, those behind it not in the latter.
///
/// If an enabling patch is turned round, only `post_unpatch` is called after `pre_patch`; if a
/// disabling one is, `post_patch` after `pre_unpatch`. A patch that is replaced by another one gets
/// none of these calls.
///
/// # Examples
///
/// ```ignore
/// //! A patch that says when it is in effect.
///
/// use kernel::prelude::*;
/// use klp::{Callbacks, Object};
///
/// klp::patch! {
///     name: "my_callbacks",
///     description: "Live patch with callbacks",
///     license: "GPL",
///     objects: {
///         vmlinux {
///             callbacks: Tell,
///         }
///     },
/// }
///
/// struct Tell;
///
/// impl Callbacks for Tell {
///     fn pre_patch(object: &Object) -> Result {
///         // Whatever the patch cannot do without; an error refuses it.
///         object.name().map_or(Ok(()), |_| Err(EINVAL))
///     }
///
///     fn post_patch(_object: &Object) {
///         pr_info!("in effect\n");
///     }
///
///     fn post_unpatch(_object: &Object) {
///         pr_info!("not in effect any more\n");
///     }
/// }
/// ```
pub trait Callbacks {
    /// Called before the first task runs the replacements.
    ///
    /// # Errors
    ///
    /// An error refuses the patch, and `insmod` fails with it; or the module if it comes later than
    /// the patch. Nothing else is called then for the object.
    #[inline]
    fn pre_patch(_object: &Object) -> Result {
        Ok(())
    }

    /// Called when all tasks run the replacements. After a transition that was forced, some may
    /// still run the originals, and nothing tells.
    #[inline]
    fn post_patch(_object: &Object) {}

    /// Called before the first task leaves the replacements.
    #[inline]
    fn pre_unpatch(_object: &Object) {}

    /// Called when no task runs the replacements any more, unless the transition was forced: see
    /// [`Object::is_forced`]. What a replacement may use must stay then.
    #[inline]
    fn post_unpatch(_object: &Object) {}
}

/// No callbacks at all.
impl Callbacks for () {}

/// The entry of a declaration for the states of the patch and the callbacks of an object.
pub const fn callbacks<M: PatchModule, S: StateList, C: Callbacks>() -> klp_callbacks {
    klp_callbacks {
        pre_patch: Some(pre_patch::<M, S, C>),
        post_patch: Some(post_patch::<M, S, C>),
        pre_unpatch: Some(pre_unpatch::<M, S, C>),
        post_unpatch: Some(post_unpatch::<M, S, C>),
        ..pin_init::zeroed::<bindings::klp_callbacks>()
    }
}

/// # Safety
///
/// Only to be called by the core.
unsafe extern "C" fn pre_patch<M: PatchModule, S: StateList, C: Callbacks>(
    object: *mut klp_object,
) -> c_int {
    // SAFETY: Called by the core.
    let object = unsafe { Object::from_raw::<M>(object) };
    from_result(|| {
        // SAFETY: Called by the core.
        unsafe { S::pre_patch() }?;
        C::pre_patch(&object).inspect_err(|_| {
            // SAFETY: The core does not call `post_unpatch` then.
            unsafe { S::post_unpatch() }
        })?;
        Ok(0)
    })
}

/// # Safety
///
/// Only to be called by the core.
unsafe extern "C" fn post_patch<M: PatchModule, S: StateList, C: Callbacks>(
    object: *mut klp_object,
) {
    // SAFETY: Called by the core.
    let object = unsafe { Object::from_raw::<M>(object) };
    // SAFETY: Called by the core.
    unsafe { S::post_patch() };
    C::post_patch(&object);
}

/// # Safety
///
/// Only to be called by the core.
unsafe extern "C" fn pre_unpatch<M: PatchModule, S: StateList, C: Callbacks>(
    object: *mut klp_object,
) {
    // SAFETY: Called by the core.
    let object = unsafe { Object::from_raw::<M>(object) };
    C::pre_unpatch(&object);
    // SAFETY: Called by the core.
    unsafe { S::pre_unpatch() };
}

/// # Safety
///
/// Only to be called by the core.
unsafe extern "C" fn post_unpatch<M: PatchModule, S: StateList, C: Callbacks>(
    object: *mut klp_object,
) {
    // SAFETY: Called by the core.
    let object = unsafe { Object::from_raw::<M>(object) };
    C::post_unpatch(&object);
    // SAFETY: Called by the core.
    unsafe { S::post_unpatch() };
}
