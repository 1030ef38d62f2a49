// SPDX-License-Identifier: GPL-2.0

//! States: what a patch changes in the system besides code, and hands over to the patch that
//! replaces it.

use crate::{
    bindings::{self, klp_state},
    declaration::{is_older, Patch},
    shadow::FreeAll, //
};
use core::{
    ptr::NonNull,
    sync::atomic::{AtomicPtr, Ordering}, //
};
use kernel::{
    ffi::{c_uint, c_ulong, c_void},
    prelude::*,
    sync::rcu::Guard, //
};

/// A change of the system that must be undone when no patch needs it any more, and what is known
/// about it.
///
/// The patch that replaces another one takes over its states: the core refuses a patch that lacks a
/// state of the replaced one or has it in a lower version. So versions are numbered upwards, and to
/// allow going back to an older patch is to keep the version.
///
/// A value is made before the first task runs the replacements, by one of
///
/// * [`create`](Self::create), if no enabled patch has the state;
/// * [`take_over`](Self::take_over), if one has it in an older version;
/// * nobody, if one has it in this version: then the value itself is handed over.
///
/// It is dropped when the patch is disabled, or has been replaced by one with a newer version,
/// after that one has [applied](Self::apply) its own. With it, when no other patch has the state,
/// go the shadow variables in [`SHADOWS`](Self::SHADOWS).
///
/// A forced transition ends while tasks may still run code of the patch that goes. So if a patch is
/// disabled by force, the shadow variables of its states stay until the next boot, and so do those
/// that later patches with these states attach.
///
/// All functions here may sleep, and run with the core's lock held: like callbacks, they must
/// neither panic nor enable or disable a patch.
///
/// # Examples
///
/// ```ignore
/// //! A patch that has the machine restart half a minute after a panic.
///
/// use kernel::{bindings, ffi::c_int, prelude::*};
/// use klp::{Never, State};
///
/// klp::patch! {
///     name: "my_state",
///     description: "Live patch with a state",
///     license: "GPL",
///     replace: true,
///     states: [PanicTimeout],
///     objects: {
///         vmlinux {}
///     },
/// }
///
/// /// What the timeout was before the first patch with the state.
/// #[repr(C)]
/// struct PanicTimeout(c_int);
///
/// // SAFETY: The data is a number. All patches with this state replace all others, and it has no
/// // shadow variables.
/// unsafe impl State for PanicTimeout {
///     const ID: usize = 0x9a71c;
///     const VERSION: u32 = 1;
///     type Older = Never;
///
///     fn create() -> Result<Self> {
///         // SAFETY: A number that whoever reads it may find changed.
///         Ok(Self(unsafe { bindings::panic_timeout }))
///     }
///
///     fn take_over(older: &Never) -> Result<Self> {
///         match *older {}
///     }
///
///     fn apply(&self) {
///         // SAFETY: As above.
///         unsafe { bindings::panic_timeout = 30 };
///     }
///
///     fn revert(&self) {
///         // SAFETY: As above.
///         unsafe { bindings::panic_timeout = self.0 };
///     }
/// }
/// ```
///
/// # Safety
///
/// In the running kernel, and in whatever patches there are, be they in Rust or in C:
///
/// * The data of a state with this identifier and version is a `Self` in a `KBox`, of the same
///   meaning and layout. Rust arranges the fields of a structure anew in each build, so it needs
///   `#[repr(C)]`, like all structures in it, if it has fields.
/// * It does not point into a module, not even with `'static`, which in a module only lasts as long
///   as the module: it contains no reference to a static, no function pointer, no `dyn`, no
///   `&ThisModule`, and no lock such as `Mutex` or `SpinLock`, which with lockdep refers to a
///   static of the code that made it. The patch that made it may be unloaded while another one goes
///   on with it.
/// * All patches with the state replace all others, which the kernel does not check for those in C.
/// * All patches that use the shadow variables in [`SHADOWS`](Self::SHADOWS) have the state, and
///   `drop` of their data neither sleeps nor uses shadow variables.
/// * Nothing of a patch uses such variables after `post_unpatch` of `vmlinux`: not the callbacks of
///   objects that stand behind it in `objects`, and not what the patch has started, such as timers.
/// * A patch that uses such variables is not replaced by force by another one with the state: the
///   kernel does not tell the latter that tasks may still run the former. If it is in C, it is not
///   disabled by force either; and no patch in C frees the variables after one in Rust has been.
pub unsafe trait State: Send + Sync + Sized + 'static {
    /// The identifier, not 0.
    const ID: usize;

    /// The version, not 0.
    const VERSION: c_uint;

    /// The version before this one, whose data this one can take over: [`Never`] if there is none.
    ///
    /// A patch may skip versions. If one with version 3 replaces one with version 1, version 2
    /// takes over from version 1, and version 3 from version 2, whose value is then dropped without
    /// ever having been [applied](Self::apply). If this does not lead back to the version in
    /// effect, `insmod` fails with `EINVAL`, and the kernel's log says from which version there is
    /// no way.
    type Older: State;

    /// The shadow variables that belong to the state.
    ///
    /// The version that is in effect when the state ends frees its own ones. So a version names
    /// those of all versions before it, too, whether it uses them or not; the others stay.
    const SHADOWS: &'static [&'static dyn FreeAll] = &[];

    /// Makes the value of a state that is new to the system.
    ///
    /// # Errors
    ///
    /// An error refuses the patch.
    fn create() -> Result<Self>;

    /// Makes the value from that of the version before, which is still in use and stays if the
    /// transition is turned round, or was itself made for this only, from a version before it.
    ///
    /// # Errors
    ///
    /// An error refuses the patch.
    fn take_over(older: &Self::Older) -> Result<Self>;

    /// Changes the system, when all tasks run the replacements. Not called if the patch that was
    /// replaced had this version, and so has done it.
    fn apply(&self) {}

    /// Undoes the change, before the first task leaves the replacements because the patch is
    /// disabled.
    fn revert(&self) {}
}

/// The version before the first one.
pub enum Never {}

// SAFETY: There is no value of this type, and no patch can declare it, with the identifier 0.
unsafe impl State for Never {
    const ID: usize = 0;
    const VERSION: c_uint = 0;
    type Older = Self;

    #[inline]
    fn create() -> Result<Self> {
        Err(EINVAL)
    }

    #[inline]
    fn take_over(older: &Self) -> Result<Self> {
        match *older {}
    }
}

/// What [`patch!`](crate::patch) knows about the patch.
///
/// # Safety
///
/// It must be the patch that the module enables.
#[doc(hidden)]
pub unsafe trait PatchModule {
    /// The patch of the module.
    fn patch() -> &'static Patch;
}

/// A state that the patch in this crate has; [`patch!`](crate::patch) implements it.
pub trait Declared: State {
    /// The module of the patch.
    #[doc(hidden)]
    type Module: PatchModule;

    /// The value, or `None` if the patch is not enabled or has been replaced. Any context.
    #[inline]
    fn current(_guard: &Guard) -> Option<&Self> {
        let value = own::<Self>()?.value::<Self>()?;
        // SAFETY: The value is dropped after a grace period only, and the guard holds RCU.
        Some(unsafe { value.as_ref() })
    }
}

/// The states of a patch, as a list of types.
#[doc(hidden)]
pub trait StateList {
    /// Makes or takes over all values.
    ///
    /// # Safety
    ///
    /// This and the others here are only called by the callbacks of these names, of `vmlinux`.
    unsafe fn pre_patch() -> Result;

    /// Changes the system.
    ///
    /// # Safety
    ///
    /// As above.
    unsafe fn post_patch();

    /// Undoes the change.
    ///
    /// # Safety
    ///
    /// As above.
    unsafe fn pre_unpatch();

    /// Drops the values.
    ///
    /// # Safety
    ///
    /// As above.
    unsafe fn post_unpatch();
}

/// No states at all.
impl StateList for () {
    #[inline]
    unsafe fn pre_patch() -> Result {
        Ok(())
    }

    #[inline]
    unsafe fn post_patch() {}

    #[inline]
    unsafe fn pre_unpatch() {}

    #[inline]
    unsafe fn post_unpatch() {}
}

impl<S: Declared, L: StateList> StateList for (S, L) {
    unsafe fn pre_patch() -> Result {
        let value = match previous::<S>() {
            None => into_raw(S::create()?)?,
            // Shared until the transition is complete.
            Some(previous) if previous.version() == S::VERSION => {
                previous.value::<S>().ok_or(EINVAL)?.as_ptr()
            }
            Some(previous) => into_raw(convert::<S>(&previous)?)?,
        };
        own::<S>().ok_or(EINVAL)?.set(value);
        // SAFETY: Called by the callback.
        unsafe { L::pre_patch() }.inspect_err(|_| release::<S>())
    }

    unsafe fn post_patch() {
        if let Some(own) = own::<S>() {
            let previous = previous::<S>();
            let applied = previous.as_ref().is_some_and(|p| p.version() == S::VERSION);
            if let (false, Some(value)) = (applied, own.value::<S>()) {
                // SAFETY: Only callbacks drop the value, and the core calls one at a time.
                unsafe { value.as_ref() }.apply();
            }
            match previous {
                Some(previous) if applied => previous.set::<S>(core::ptr::null_mut()),
                Some(previous) => destroy::<S>(&previous),
                None => {}
            }
        }
        // SAFETY: Called by the callback.
        unsafe { L::post_patch() };
    }

    unsafe fn pre_unpatch() {
        // SAFETY: Called by the callback.
        unsafe { L::pre_unpatch() };
        if let Some(value) = own::<S>().and_then(|own| own.value::<S>()) {
            // SAFETY: Only callbacks drop the value, and the core calls one at a time.
            unsafe { value.as_ref() }.revert();
        }
    }

    unsafe fn post_unpatch() {
        // SAFETY: Called by the callback.
        unsafe { L::post_unpatch() };
        release::<S>();
    }
}

/// The entry of a state in the declaration of a patch.
///
/// # Invariants
///
/// It is static, or the patch that it belongs to is enabled and a callback is running.
struct Entry(NonNull<klp_state>);

impl Entry {
    #[inline]
    fn id(&self) -> c_ulong {
        // SAFETY: The entry exists, by the type's invariant; its identifier does not change.
        unsafe { (*self.0.as_ptr()).id }
    }

    #[inline]
    fn version(&self) -> c_uint {
        // SAFETY: The entry exists, by the type's invariant; its version does not change.
        unsafe { (*self.0.as_ptr()).version }
    }

    #[inline]
    fn data(&self) -> &AtomicPtr<c_void> {
        // SAFETY: The entry exists, by the type's invariant; the address is taken only.
        let data = unsafe { &raw mut (*self.0.as_ptr()).data };
        // SAFETY: The field is aligned, and patches in Rust use it atomically.
        unsafe { AtomicPtr::from_ptr(data) }
    }

    /// The value, if it has the version of `S`, and there is one.
    #[inline]
    fn value<S: State>(&self) -> Option<NonNull<S>> {
        // ORDERING: Pairs with the release in `set`, so that the value is seen whole.
        let data = self.data().load(Ordering::Acquire);
        (self.version() == S::VERSION).then_some(NonNull::new(data.cast())?)
    }

    #[inline]
    fn set<S: State>(&self, value: *mut S) {
        // ORDERING: Publishes the value; pairs with the acquire in `value`.
        self.data().store(value.cast(), Ordering::Release);
    }
}

/// The entry in the patch of this crate.
#[inline]
fn own<S: Declared>() -> Option<Entry> {
    let patch = S::Module::patch().as_ptr();
    // SAFETY: The declaration of the patch is static.
    let state = unsafe { bindings::klp_get_state(patch, S::ID as c_ulong) };
    // INVARIANT: The entry is in the static list of this crate's patch.
    NonNull::new(state).map(Entry)
}

/// The entry in the latest patch that was enabled before this one. For callbacks only.
fn previous<S: State>() -> Option<Entry> {
    // SAFETY: The callbacks of the kernel itself, which call this, run in transitions.
    let state = unsafe { bindings::klp_get_prev_state(S::ID as c_ulong) };
    // INVARIANT: The core finds it in an enabled patch, and a callback is running.
    NonNull::new(state).map(Entry)
}

fn into_raw<S: State>(value: S) -> Result<*mut S> {
    Ok(KBox::into_raw(KBox::new(value, GFP_KERNEL)?))
}

/// Compiles if a state's older version is one; [`patch!`](crate::patch) checks the first one only.
const fn check_older<S: State>() {
    assert!(
        is_older::<S>(),
        "klp: `Older` of an older state must have the same identifier and a lower version, or be \
         `klp::Never`"
    );
}

/// Makes a value from one of an older version.
fn convert<S: State>(entry: &Entry) -> Result<S> {
    const { check_older::<S>() };
    if S::VERSION == 0 {
        pr_err!(
            "state {:#x}: no way from version {}\n",
            entry.id(),
            entry.version()
        );
        return Err(EINVAL);
    }
    if S::VERSION == entry.version() {
        pr_err!(
            "state {:#x}: version {} has no value\n",
            entry.id(),
            entry.version()
        );
        return Err(EINVAL);
    }
    match entry.value::<S::Older>() {
        // SAFETY: By `State` it is of this type; only callbacks drop it, which run one at a time.
        Some(older) => S::take_over(unsafe { older.as_ref() }),
        None => S::take_over(&convert::<S::Older>(entry)?),
    }
}

/// Drops the value of a state of this version or an older one.
fn destroy<S: State>(entry: &Entry) {
    const { check_older::<S>() };
    if S::VERSION == 0 {
        return;
    }
    match entry.value::<S>() {
        Some(value) => {
            entry.set::<S>(core::ptr::null_mut());
            // SAFETY: Callbacks may sleep.
            unsafe { bindings::synchronize_rcu() };
            // SAFETY: By `State` it is of this type and came from `into_raw`. Whoever found it in
            // the entry has been waited for.
            drop(unsafe { KBox::from_raw(value.as_ptr()) });
        }
        None => destroy::<S::Older>(entry),
    }
}

/// Gives up the value and, if no other patch has the state, what belongs to it.
fn release<S: Declared>() {
    let (own, previous) = (own::<S>(), previous::<S>());
    let shared = previous.as_ref().and_then(|previous| previous.value::<S>());
    if let Some(own) = own {
        if shared.is_some() {
            own.set::<S>(core::ptr::null_mut());
        } else {
            destroy::<S>(&own);
        }
    }
    if S::SHADOWS.is_empty() {
        return;
    }
    if S::Module::patch().is_forced() {
        keep_shadows::<S>();
    } else if previous.is_none() && !keeps_shadows::<S>() {
        for shadow in S::SHADOWS {
            // SAFETY: No patch that has the state is enabled, and no task runs code of one, since
            // nobody has forced that; by `State` no other patch uses the variables.
            unsafe { shadow.free_all() };
        }
    }
}

/// The identifier of shadow variables that outlive all patches: what has one, by its identifier as
/// the object, is a state whose own variables are never freed again.
const KEPT: c_ulong = 0x6b6c_705f_7273;

/// Has the shadow variables of a state stay, since tasks may still use them. Sleeps.
fn keep_shadows<S: State>() {
    let flags = bindings::GFP_KERNEL | (1 << bindings::___GFP_NOFAIL_BIT);
    // SAFETY: The core does not look at the object, and there is no constructor. Callbacks may
    // sleep, so the allocation may wait until it succeeds.
    unsafe {
        bindings::klp_shadow_get_or_alloc(
            core::ptr::without_provenance_mut(S::ID),
            KEPT,
            0,
            flags,
            None,
            core::ptr::null_mut(),
        )
    };
}

/// Whether the shadow variables of a state stay.
fn keeps_shadows<S: State>() -> bool {
    // SAFETY: The core does not look at the object.
    let kept = unsafe { bindings::klp_shadow_get(core::ptr::without_provenance_mut(S::ID), KEPT) };
    !kept.is_null()
}
