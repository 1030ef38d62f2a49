// SPDX-License-Identifier: GPL-2.0

//! Functions that the core calls when an object is patched and unpatched.

use crate::{
    bindings::{self, klp_callbacks, klp_object},
    state::StateList, //
};
use kernel::{
    error::from_result,
    ffi::c_int,
    prelude::*,
    str::CStr,
    types::Opaque, //
};

/// The kernel itself or a module, as a part of a patch.
#[repr(transparent)]
pub struct Object(Opaque<klp_object>);

impl Object {
    /// # Safety
    ///
    /// `object` must be what the core passed to a callback, and `'a` end with that callback.
    #[inline]
    unsafe fn from_raw<'a>(object: *mut klp_object) -> &'a Self {
        // CAST: `Object` is a transparent wrapper.
        // SAFETY: The core passes an object of an enabled patch, which exists until the callback
        // returns.
        unsafe { &*object.cast() }
    }

    /// The name of the module, or `None` for the kernel itself.
    #[inline]
    pub fn name(&self) -> Option<&CStr> {
        // SAFETY: The object is a part of a static declaration, whose name does not change.
        let name = unsafe { (*self.0.get()).name };
        // SAFETY: The name is a static string that ends with NUL.
        (!name.is_null()).then(|| unsafe { CStr::from_char_ptr(name) })
    }
}

/// What is to be done when an object is patched and unpatched, besides its functions.
///
/// The core calls these functions one at a time, with its lock held, in a context that may sleep.
/// For the kernel itself that is when the patch is enabled and disabled; for a module also when the
/// module is loaded and unloaded meanwhile. They must neither panic nor enable or disable a patch.
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

    /// Called when all tasks run the replacements.
    #[inline]
    fn post_patch(_object: &Object) {}

    /// Called before the first task leaves the replacements.
    #[inline]
    fn pre_unpatch(_object: &Object) {}

    /// Called when no task runs the replacements any more.
    #[inline]
    fn post_unpatch(_object: &Object) {}
}

/// No callbacks at all.
impl Callbacks for () {}

/// The entry of a declaration for the states of the patch and the callbacks of an object.
pub const fn callbacks<S: StateList, C: Callbacks>() -> klp_callbacks {
    klp_callbacks {
        pre_patch: Some(pre_patch::<S, C>),
        post_patch: Some(post_patch::<S, C>),
        pre_unpatch: Some(pre_unpatch::<S, C>),
        post_unpatch: Some(post_unpatch::<S, C>),
        ..pin_init::zeroed::<bindings::klp_callbacks>()
    }
}

/// # Safety
///
/// Only to be called by the core.
unsafe extern "C" fn pre_patch<S: StateList, C: Callbacks>(object: *mut klp_object) -> c_int {
    // SAFETY: Called by the core.
    let object = unsafe { Object::from_raw(object) };
    from_result(|| {
        S::pre_patch()?;
        // The core does not call `post_unpatch` then.
        C::pre_patch(object).inspect_err(|_| S::post_unpatch())?;
        Ok(0)
    })
}

/// # Safety
///
/// Only to be called by the core.
unsafe extern "C" fn post_patch<S: StateList, C: Callbacks>(object: *mut klp_object) {
    // SAFETY: Called by the core.
    let object = unsafe { Object::from_raw(object) };
    S::post_patch();
    C::post_patch(object);
}

/// # Safety
///
/// Only to be called by the core.
unsafe extern "C" fn pre_unpatch<S: StateList, C: Callbacks>(object: *mut klp_object) {
    // SAFETY: Called by the core.
    let object = unsafe { Object::from_raw(object) };
    C::pre_unpatch(object);
    S::pre_unpatch();
}

/// # Safety
///
/// Only to be called by the core.
unsafe extern "C" fn post_unpatch<S: StateList, C: Callbacks>(object: *mut klp_object) {
    // SAFETY: Called by the core.
    let object = unsafe { Object::from_raw(object) };
    C::post_unpatch(object);
    S::post_unpatch();
}
