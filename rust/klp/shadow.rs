// SPDX-License-Identifier: GPL-2.0

//! Shadow variables: data that patches attach to objects of the kernel.

use crate::bindings;
use core::{
    marker::PhantomData,
    mem::{align_of, size_of, MaybeUninit},
    ptr::NonNull, //
};
use kernel::{
    ffi::{c_int, c_ulong, c_void},
    prelude::*, //
};

/// What the caller of a function may do, and so may the allocation of memory in it.
#[derive(Clone, Copy)]
pub enum Context {
    /// It may sleep, and holds no lock that forbids that.
    Sleeping,
    /// It must not sleep.
    Atomic,
}

impl Context {
    #[inline]
    fn flags(self) -> bindings::gfp_t {
        match self {
            Self::Sleeping => bindings::GFP_KERNEL,
            Self::Atomic => bindings::GFP_ATOMIC,
        }
    }
}

/// A field of type `T` that a patch adds to objects of type `O` that exist already.
///
/// An object is whatever has an address, most often a structure of the patched code; `&O` says that
/// it stays while the variable is used, and `&mut O` that nobody else uses it or its variables. If
/// C code changes the object meanwhile, `O` must be a type for that, such as [`Opaque`].
///
/// An object that is freed by code which does not know the variable leaves it behind: that is what
/// happens when the original function frees it, in a task that has not been switched to the patch
/// yet. The next object at that address, of any type, then has a variable that is not its own. So
/// [`take`](Self::take) what there is before [`attach`](Self::attach), where objects are made.
///
/// Variables outlive the patch that attached them. What frees them is, whichever comes first:
/// [`Shadow::take`], in the replacement of the function that frees the object; the end of the
/// [`State`] that names this in [`State::SHADOWS`]; or the end of the module, be it unloaded or
/// refused, that names it in `shadows` of [`patch!`], which is not for variables that another patch
/// goes on with. The latter two free the variables of all objects with a lock of the core held and
/// interrupts disabled: `drop` of their data must not sleep then, as `vfree()` may, nor use shadow
/// variables.
///
/// # Identifiers
///
/// The kernel finds a variable by its identifier and the address of its object, and keeps neither
/// its type nor its size. So if two patches use one identifier for different types, **nobody
/// notices**: each takes the data of the other for its own, and reads, writes and drops what is not
/// there. Neither this crate nor the core can tell; only [`attach`](Self::attach) to an object that
/// has the other's variable fails, with `EEXIST`. Take an identifier that no other patch of the
/// machine uses, and another one whenever the type changes. 0x6b6c705f7273 is for [`State`].
///
/// # What the data may be
///
/// Any task may find a variable, and any task may be the one that takes it: so `T` must be [`Sync`]
/// and [`Send`], and it outlives what attaches it, so it must be `'static`.
///
/// That its `drop` does not sleep is no bound of `T`. Nothing demands it of a variable that is only
/// ever [taken](Self::take), which drops it where the caller may sleep; and no trait tells it: a
/// `KBox` sleeps if what is in it does. It is a promise of who has the variables of all objects
/// freed, in the `unsafe` of `shadows` and of `impl State`. A kernel with `DEBUG_ATOMIC_SLEEP`
/// complains if it is broken.
///
/// [`Opaque`]: kernel::types::Opaque
/// [`State`]: crate::State
/// [`State::SHADOWS`]: crate::State::SHADOWS
/// [`patch!`]: crate::patch
pub struct Shadow<O, T> {
    id: c_ulong,
    _types: PhantomData<fn(O, T) -> T>,
}

impl<O, T: Send + Sync + 'static> Shadow<O, T> {
    const FITS: () = {
        assert!(
            align_of::<T>() <= align_of::<c_ulong>(),
            "klp: the kernel aligns shadow variables like a pointer: use `KBox` for this type"
        );
        assert!(
            size_of::<O>() != 0,
            "klp: what has no size has no address of its own, so no shadow variables"
        );
    };

    /// Declares the variables with an identifier.
    ///
    /// # Safety
    ///
    /// The identifier is all that the kernel knows of a variable. So in the running kernel, and in
    /// whatever patches there are, be they in Rust or in C:
    ///
    /// * All variables with this identifier belong to objects of type `O` and have a `T` as data,
    ///   of the same meaning and layout. Rust arranges the fields of a structure anew in each
    ///   build, so that is a primitive type, a pointer like `KBox`, or a structure with
    ///   `#[repr(C)]` of such types.
    /// * The data does not point into a module that may be unloaded before they are freed, not even
    ///   with `'static`, which in a module only lasts as long as the module: it contains no
    ///   reference to a static, no function pointer, no `dyn`, no `&ThisModule`, and no lock such
    ///   as `Mutex` or `SpinLock`, which with lockdep refers to a static of the code that made it.
    /// * While code that uses variables by this value can run, nobody else frees any: a single one
    ///   only with exclusive access to its object, and those of all objects, as
    ///   `klp_shadow_free_all()` does, not at all.
    pub const unsafe fn new(id: usize) -> Self {
        let () = Self::FITS;
        Self {
            id: id as c_ulong,
            _types: PhantomData,
        }
    }

    /// Returns the variable of an object, or `None` if it has none. Any context.
    #[inline]
    pub fn get<'a>(&self, object: &'a O) -> Option<&'a T> {
        // SAFETY: The core does not look at the object.
        let data = unsafe { bindings::klp_shadow_get(key(object), self.id) };
        let data = NonNull::new(data.cast::<T>())?;
        // SAFETY: The variable has a `T`, as `new` demands, and so is nobody to free it without
        // exclusive access to the object, which is borrowed.
        Some(unsafe { data.as_ref() })
    }

    /// Attaches a variable to an object, and returns it.
    ///
    /// The value is made before, where it may sleep and fail as the caller may; the core's lock is
    /// only held while it is moved into place.
    ///
    /// # Errors
    ///
    /// `EEXIST` if the object has this variable already; `ENOMEM`. The value is dropped then.
    #[inline]
    pub fn attach<'a>(&self, object: &'a O, value: T, context: Context) -> Result<&'a T> {
        let mut value = Some(value);
        let data = self.get_or_move(object, &mut value, context)?;
        if value.is_some() {
            return Err(EEXIST);
        }
        Ok(data)
    }

    /// Returns the variable of an object, which is made and attached if there is none.
    ///
    /// `make` is called without a lock, where it may sleep and fail as the caller may. If somebody
    /// else is faster, what it made is dropped.
    ///
    /// # Errors
    ///
    /// What `make` says; `ENOMEM`.
    #[inline]
    pub fn get_or_attach<'a>(
        &self,
        object: &'a O,
        context: Context,
        make: impl FnOnce() -> Result<T>,
    ) -> Result<&'a T> {
        if let Some(data) = self.get(object) {
            return Ok(data);
        }
        self.get_or_move(object, &mut Some(make()?), context)
    }

    /// Takes the variable off an object, if it has one. Any context.
    ///
    /// The value is dropped by the caller, without a lock, so it may sleep there as the caller may.
    #[inline]
    pub fn take(&self, object: &mut O) -> Option<T> {
        // The value is moved out first, so that the core has nothing to destroy under its lock.
        let data: *const T = self.get(object)?;
        // SAFETY: The variable has a `T`. Nobody else uses or frees it, which `new` forbids without
        // access to the object, and that is exclusive here; it is gone before that ends.
        let value = unsafe { data.read() };
        // SAFETY: The core does not look at the object; there is no destructor.
        unsafe { bindings::klp_shadow_free(key(object), self.id, None) };
        Some(value)
    }

    /// Moves a value into a new variable; leaves it if there is one already, or no memory.
    #[inline]
    fn get_or_move<'a>(
        &self,
        object: &'a O,
        value: &mut Option<T>,
        context: Context,
    ) -> Result<&'a T> {
        // SAFETY: The core does not look at the object; `construct` gets what it demands.
        let data = unsafe {
            bindings::klp_shadow_get_or_alloc(
                key(object),
                self.id,
                size_of::<T>(),
                context.flags(),
                Some(construct::<T>),
                core::ptr::from_mut(value).cast(),
            )
        };
        let data = NonNull::new(data.cast::<T>()).ok_or(ENOMEM)?;
        // SAFETY: As in `get`, the variable has a `T` and stays while the object is borrowed.
        Ok(unsafe { data.as_ref() })
    }
}

/// All variables with an identifier, whatever their type.
pub trait FreeAll: Sync {
    /// Frees the variables of all objects, with a lock of the core held and interrupts disabled.
    ///
    /// # Safety
    ///
    /// Nobody uses any of the variables, nor will, in this patch or in another one. `drop` of their
    /// data neither sleeps nor uses shadow variables.
    unsafe fn free_all(&self);
}

impl<O, T: Send + Sync + 'static> FreeAll for Shadow<O, T> {
    #[inline]
    unsafe fn free_all(&self) {
        let destroy: bindings::klp_shadow_dtor_t = if core::mem::needs_drop::<T>() {
            Some(destroy::<T>)
        } else {
            None
        };
        // SAFETY: All variables with the identifier have a `T`, as `new` demands.
        unsafe { bindings::klp_shadow_free_all(self.id, destroy) };
    }
}

/// The key by which the core finds the variables of an object.
#[inline]
fn key<O>(object: &O) -> *mut c_void {
    core::ptr::from_ref(object).cast_mut().cast()
}

/// Moves the value into a new variable. The core calls it with its lock held.
///
/// # Safety
///
/// `data` must be memory for a `T`, and `value` point to an `Option<T>`, which nobody else uses and
/// which has a value.
unsafe extern "C" fn construct<T>(
    _object: *mut c_void,
    data: *mut c_void,
    value: *mut c_void,
) -> c_int {
    // SAFETY: The caller of the core passes its own `Option<T>`.
    let value = unsafe { &mut *value.cast::<Option<T>>() };
    // SAFETY: The core has just allocated the data for a `T`, suitably aligned by `FITS`.
    let data = unsafe { &mut *data.cast::<MaybeUninit<T>>() };
    match value.take() {
        Some(value) => {
            data.write(value);
            0
        }
        None => EINVAL.to_errno(),
    }
}

/// Drops the value of a variable. The core calls it with its lock held.
///
/// # Safety
///
/// `data` must be a `T` that nobody uses any more.
unsafe extern "C" fn destroy<T>(_object: *mut c_void, data: *mut c_void) {
    // SAFETY: The variable was made by `construct`, and is not used any more.
    unsafe { data.cast::<T>().drop_in_place() };
}
