// SPDX-License-Identifier: GPL-2.0

//! Directories in sysfs that own typed data.
//!
//! C headers: [`include/linux/kobject.h`](srctree/include/linux/kobject.h),
//! [`include/linux/sysfs.h`](srctree/include/linux/sysfs.h)
//!
//! # Examples
//!
//! ```ignore
//! struct Limit(Atomic<u32>);
//!
//! impl Directory for Limit {
//!     kobj_type!(Limit: Attribute::read_only(c"limit", |limit, page| {
//!         Ok(page.emit(fmt!("{}\n", limit.0.load(Relaxed))))
//!     }));
//! }
//!
//! let mut directory = Kobject::new(Limit(Atomic::new(3)))?;
//! directory.add(Parent::kernel(), fmt!("example"))?;
//! // `/sys/kernel/example/limit` reads as 3 until `directory` is dropped.
//! ```

use super::in_flight::InFlight;
use crate::bindings;
use core::ptr::NonNull;
use kernel::{
    alloc::KBox,
    error::to_result,
    ffi::{
        c_char,
        c_int, //
    },
    fmt,
    prelude::*,
    str::as_char_ptr_in_const_context,
    types::Opaque, //
};

/// Data of a directory, and the files that show them.
pub(crate) trait Directory: Send + Sync + Sized + 'static {
    /// Returns the type of such directories. [`kobj_type!`] implements it.
    fn kobj_type() -> &'static KobjType<Self>;

    /// Called when the last reference on the directory is gone, before the data is dropped. Process
    /// context.
    fn released(&self) {}
}

/// The memory of a directory. C knows the address of `kobj`.
#[repr(C)]
struct Inner<T> {
    kobj: Opaque<bindings::kobject>,
    data: T,
    /// `release` is this module's code, and may be called long after everybody has dropped his
    /// reference. The last field, so the last to be dropped.
    _user: InFlight,
}

/// A reference on a directory.
///
/// Dropping it removes the directory and waits for calls of its files' functions to return; so it
/// must not be dropped inside one, nor under a lock that they take.
///
/// # Invariants
///
/// Points to an initialised `kobject` in an [`Inner<T>`] that came from a [`KBox`], and owns one
/// reference on it.
pub(crate) struct Kobject<T: Directory>(NonNull<Inner<T>>);

// SAFETY: Reference counts are atomic, and `T` is `Send` by its trait.
unsafe impl<T: Directory> Send for Kobject<T> {}
// SAFETY: Reference counts are atomic, and `T` is `Sync` by its trait.
unsafe impl<T: Directory> Sync for Kobject<T> {}

impl<T: Directory> Kobject<T> {
    /// Makes a directory that is not in sysfs yet.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(data: T) -> Result<Self> {
        let inner = KBox::new(
            Inner {
                kobj: Opaque::zeroed(),
                data,
                _user: InFlight::new(),
            },
            GFP_KERNEL,
        )?;
        let inner = NonNull::from(&mut *KBox::leak(inner));
        // SAFETY: The memory is zeroed and stays in place until `release`.
        unsafe {
            bindings::kobject_init(
                Opaque::cast_into(&raw const (*inner.as_ptr()).kobj),
                T::kobj_type().raw(),
            )
        };
        // INVARIANT: Initialised, with one reference, which this value owns.
        Ok(Self(inner))
    }

    /// Shows the directory as `name` below `parent`. May sleep. Does nothing but warn if it is
    /// shown already.
    ///
    /// # Errors
    ///
    /// `EEXIST` if the name is taken (the kernel warns about it too), `ENOMEM`, `EINVAL` for an
    /// empty name.
    pub(crate) fn add(&mut self, parent: Parent<'_>, name: fmt::Arguments<'_>) -> Result {
        if kernel::warn_on!(self.is_shown()) {
            return Err(EEXIST);
        }
        // SAFETY: Both directories are initialised, and this one is not in sysfs, nor is anybody
        // else adding it, since it takes `&mut self`; `%pA` takes a `fmt::Arguments`.
        to_result(unsafe {
            bindings::kobject_add(
                self.as_ptr(),
                parent.0,
                c"%pA".as_char_ptr(),
                core::ptr::from_ref(&name).cast::<kernel::ffi::c_void>(),
            )
        })
    }

    fn is_shown(&self) -> bool {
        // SAFETY: The memory is valid while a reference is owned, by the type's invariant. Only
        // `add` and `drop` set and clear the bit, and both have the value to themselves.
        unsafe { bindings::kobject::state_in_sysfs_raw(self.as_ptr()) != 0 }
    }

    /// Wakes whoever polls `file`, one of the directory's files. Process context; may sleep.
    ///
    /// Who is woken finds the file changed until he has read it again. Does nothing while the
    /// directory is not in sysfs.
    pub(crate) fn notify(&self, file: &CStr) {
        // SAFETY: The directory is initialised, and only the owner of this reference removes it;
        // the name is a string.
        unsafe {
            bindings::sysfs_notify(self.as_ptr(), core::ptr::null(), file.as_char_ptr());
        }
    }

    /// Returns the directory as the parent of another one.
    pub(crate) fn as_parent(&self) -> Parent<'_> {
        Parent(self.as_ptr(), core::marker::PhantomData)
    }

    /// Returns the C structure.
    pub(crate) fn as_ptr(&self) -> *mut bindings::kobject {
        // No reference in between: from the result, `data_of` and `release` get at all of it.
        // SAFETY: The memory is valid while a reference is owned, by the type's invariant; only the
        // address is taken.
        Opaque::cast_into(unsafe { &raw const (*self.0.as_ptr()).kobj })
    }
}

impl<T: Directory> Drop for Kobject<T> {
    fn drop(&mut self) {
        if self.is_shown() {
            // The name becomes free now, even if somebody else has a reference.
            // SAFETY: It is in sysfs, and only the owner of this reference removes it.
            unsafe { bindings::kobject_del(self.as_ptr()) };
        }
        // SAFETY: This value owns the reference, by the type's invariant.
        unsafe { bindings::kobject_put(self.as_ptr()) };
    }
}

/// A directory in sysfs below which another one is added.
#[derive(Clone, Copy)]
pub(crate) struct Parent<'a>(
    *mut bindings::kobject,
    core::marker::PhantomData<&'a bindings::kobject>,
);

impl Parent<'static> {
    /// The directory `/sys/kernel`.
    pub(crate) fn kernel() -> Self {
        // SAFETY: The variable was set at boot and never changes.
        Self(unsafe { bindings::kernel_kobj }, core::marker::PhantomData)
    }
}

/// Returns the data of a directory.
///
/// # Safety
///
/// `kobj` must be the `kobj` of an [`Inner<T>`] that exists for `'a`.
unsafe fn data_of<'a, T>(kobj: *mut bindings::kobject) -> &'a T {
    // SAFETY: `kobj` is the first field of a `repr(C)` structure that exists, by the safety
    // requirements.
    unsafe { &(*kobj.cast::<Inner<T>>()).data }
}

/// Called by C when the last reference is gone.
///
/// # Safety
///
/// `kobj` must be in a directory with `T`, without references.
unsafe extern "C" fn release<T: Directory>(kobj: *mut bindings::kobject) {
    // SAFETY: This is the release function of directories with `T` only.
    unsafe { data_of::<T>(kobj) }.released();
    // SAFETY: The memory came from a `KBox` in `Kobject::new`, and nobody refers to it any more.
    let inner = unsafe { KBox::from_raw(kobj.cast::<Inner<T>>()) };
    // `_user` goes last, after the memory: freeing that may wait for a lock with `PREEMPT_RT`, and
    // whoever sleeps here must be counted.
    drop(KBox::into_inner(inner));
}

/// The buffer for a file's contents.
pub(crate) struct Page(*mut c_char);

impl Page {
    /// Writes the contents and returns their length.
    pub(crate) fn emit(&self, args: fmt::Arguments<'_>) -> usize {
        // SAFETY: The buffer is the page that sysfs passed; `%pA` takes a `fmt::Arguments`.
        let length = unsafe {
            bindings::sysfs_emit(
                self.0,
                c"%pA".as_char_ptr(),
                core::ptr::from_ref(&args).cast::<kernel::ffi::c_void>(),
            )
        };
        usize::try_from(length).unwrap_or(0)
    }
}

/// Shows a file. Process context, without any lock.
type Show<T> = fn(&T, &Page) -> Result<usize>;
/// Takes what was written to a file. Process context, without any lock.
type Store<T> = fn(&T, &CStr) -> Result;

/// A file in a directory with `T`.
#[repr(C)]
pub(crate) struct Attribute<T> {
    attr: bindings::attribute,
    show: Option<Show<T>>,
    store: Option<Store<T>>,
}

// SAFETY: Nothing changes an attribute.
unsafe impl<T> Sync for Attribute<T> {}

impl<T> Attribute<T> {
    const fn new(
        name: &'static CStr,
        mode: u16,
        show: Option<Show<T>>,
        store: Option<Store<T>>,
    ) -> Self {
        // SAFETY: All zeroes is a valid value: null pointers and no bits.
        let mut attr: bindings::attribute = unsafe { core::mem::zeroed() };
        attr.name = as_char_ptr_in_const_context(name);
        attr.mode = mode;
        Self { attr, show, store }
    }

    /// A file that everybody may read.
    pub(crate) const fn read_only(name: &'static CStr, show: Show<T>) -> Self {
        Self::new(name, 0o444, Some(show), None)
    }

    /// A file that everybody may read and root may write.
    pub(crate) const fn read_write(name: &'static CStr, show: Show<T>, store: Store<T>) -> Self {
        Self::new(name, 0o644, Some(show), Some(store))
    }

    /// A file that root may write.
    pub(crate) const fn write_only(name: &'static CStr, store: Store<T>) -> Self {
        Self::new(name, 0o200, None, Some(store))
    }
}

/// Called by sysfs for a read.
///
/// # Safety
///
/// `kobj` must be in a directory with `T`, `attr` one of its [`Attribute`]s, `page` a page.
unsafe extern "C" fn show<T: Directory>(
    kobj: *mut bindings::kobject,
    attr: *mut bindings::attribute,
    page: *mut c_char,
) -> isize {
    // SAFETY: The directory is kept by sysfs during the call; this is the function of directories
    // with `T` only.
    let data = unsafe { data_of::<T>(kobj) };
    // SAFETY: The files of such directories are `Attribute<T>`, whose first field is what C passes.
    let attribute = unsafe { &*attr.cast::<Attribute<T>>() };
    let result = attribute
        .show
        .ok_or(EIO)
        .and_then(|show| show(data, &Page(page)));
    match result {
        Ok(length) => length as isize,
        Err(error) => error.to_errno() as isize,
    }
}

/// Called by sysfs for a write.
///
/// # Safety
///
/// `kobj` must be in a directory with `T`, `attr` one of its [`Attribute`]s, `buffer`
/// NUL-terminated.
unsafe extern "C" fn store<T: Directory>(
    kobj: *mut bindings::kobject,
    attr: *mut bindings::attribute,
    buffer: *const c_char,
    count: usize,
) -> isize {
    // SAFETY: The directory is kept by sysfs during the call; this is the function of directories
    // with `T` only.
    let data = unsafe { data_of::<T>(kobj) };
    // SAFETY: The files of such directories are `Attribute<T>`, whose first field is what C passes.
    let attribute = unsafe { &*attr.cast::<Attribute<T>>() };
    // SAFETY: What was written is followed by a NUL, which sysfs puts there.
    let text = unsafe { CStr::from_char_ptr(buffer) };
    let result = attribute
        .store
        .ok_or(EIO)
        .and_then(|store| store(data, text));
    match result {
        Ok(()) => count as isize,
        Err(error) => error.to_errno() as isize,
    }
}

/// Identifies an open file among all that are open at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OpenFile(usize);

/// The buffer for a part of a file's contents.
///
/// # Invariants
///
/// `start` is valid for writes of `size` bytes, which nobody else uses while the value exists.
pub(crate) struct Part {
    start: *mut u8,
    size: usize,
}

impl Part {
    /// Writes as much of `bytes` as there is room for, and returns how much that was.
    pub(crate) fn fill(&mut self, bytes: &[u8]) -> usize {
        let count = bytes.len().min(self.size);
        // SAFETY: `count` bytes are valid for writes and nobody else's, by the type's invariant,
        // and for reads in `bytes`.
        unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), self.start, count) };
        count
    }
}

/// Reads a file with a position: writes what is there from the offset on, and returns how much it
/// was, 0 at the end. Process context, without any lock but the open file's own.
type Read<T> = fn(&T, OpenFile, usize, &mut Part) -> Result<usize>;

/// A file in a directory with `T` whose contents may be of any length.
///
/// Sysfs asks for one page at most at a time, whatever the reader's buffer is.
#[repr(C)]
pub(crate) struct BinAttribute<T> {
    attr: bindings::bin_attribute,
    read: Read<T>,
}

// SAFETY: Nothing changes an attribute.
unsafe impl<T> Sync for BinAttribute<T> {}

impl<T: Directory> BinAttribute<T> {
    /// A file that root may read if it has `CAP_SYS_ADMIN` in the initial user namespace when it
    /// opens the file: not root in a container without that. Reads fail with `EACCES` otherwise.
    pub(crate) const fn admin_only(name: &'static CStr, read: Read<T>) -> Self {
        // SAFETY: All zeroes is a valid value: null pointers, no bits, an unlimited size.
        let mut attr: bindings::bin_attribute = unsafe { core::mem::zeroed() };
        attr.attr.name = as_char_ptr_in_const_context(name);
        attr.attr.mode = 0o400;
        attr.read = Some(bin_read::<T>);
        Self { attr, read }
    }

    /// The C structure, for [`kobj_type!`].
    pub(crate) const fn raw(&'static self) -> *const bindings::bin_attribute {
        // CAST: The first field of a `repr(C)` structure, of which `bin_read` uses all.
        core::ptr::from_ref(self).cast()
    }
}

/// Called by sysfs for a read of a file with a position.
///
/// # Safety
///
/// `kobj` must be in a directory with `T`, `attr` one of its [`BinAttribute`]s, `file` open, and
/// `buffer` valid for writes of `count` bytes that nobody else uses.
unsafe extern "C" fn bin_read<T: Directory>(
    file: *mut bindings::file,
    kobj: *mut bindings::kobject,
    attr: *const bindings::bin_attribute,
    buffer: *mut c_char,
    offset: bindings::loff_t,
    count: usize,
) -> isize {
    // SAFETY: The directory is kept by sysfs during the call; this is the function of directories
    // with `T` only.
    let data = unsafe { data_of::<T>(kobj) };
    // SAFETY: The files that have this function are `BinAttribute<T>`, whose first field is what C
    // passes.
    let attribute = unsafe { &*attr.cast::<BinAttribute<T>>() };
    // SAFETY: The file is open during the call; the namespace is a static.
    let may_read = unsafe {
        bindings::file_ns_capable(
            file,
            &raw mut bindings::init_user_ns,
            bindings::CAP_SYS_ADMIN as c_int,
        )
    };
    if !may_read {
        return EACCES.to_errno() as isize;
    }
    // INVARIANT: Valid and nobody else's, by the safety requirements.
    let mut part = Part {
        start: buffer.cast(),
        size: count,
    };
    let result = usize::try_from(offset)
        .map_err(|_| EINVAL)
        .and_then(|offset| (attribute.read)(data, OpenFile(file.addr()), offset, &mut part));
    match result {
        Ok(length) => length as isize,
        Err(error) => error.to_errno() as isize,
    }
}

/// The type of a directory.
#[repr(transparent)]
pub(crate) struct KobjType<T> {
    inner: bindings::kobj_type,
    _data: core::marker::PhantomData<fn(&T)>,
}

// SAFETY: Nothing changes a type.
unsafe impl<T> Sync for KobjType<T> {}

impl<T: Directory> KobjType<T> {
    const SYSFS_OPS: &'static bindings::sysfs_ops = &bindings::sysfs_ops {
        show: Some(show::<T>),
        store: Some(store::<T>),
    };

    /// A directory with the files of `groups`.
    pub(crate) const fn new<const N: usize>(groups: &'static Groups<N>) -> Self {
        // SAFETY: All zeroes is a valid value: null pointers.
        let mut inner: bindings::kobj_type = unsafe { core::mem::zeroed() };
        inner.release = Some(release::<T>);
        inner.sysfs_ops = Self::SYSFS_OPS;
        // CAST: C only reads it; the constness differs between kernel releases.
        inner.default_groups = (&raw const groups.0).cast_mut().cast();
        Self {
            inner,
            _data: core::marker::PhantomData,
        }
    }

    fn raw(&'static self) -> *const bindings::kobj_type {
        &self.inner
    }
}

/// A NULL-terminated list of attributes. For [`kobj_type!`].
pub(crate) struct Attributes<const N: usize>([*const bindings::attribute; N]);

// SAFETY: Nothing changes the list.
unsafe impl<const N: usize> Sync for Attributes<N> {}

impl<const N: usize> Attributes<N> {
    /// Makes a list, whose last entry must be null.
    pub(crate) const fn new(list: [*const bindings::attribute; N]) -> Self {
        assert!(N > 0 && list[N - 1].is_null());
        Self(list)
    }
}

/// A NULL-terminated list of attributes with a position. For [`kobj_type!`].
pub(crate) struct BinAttributes<const N: usize>([*const bindings::bin_attribute; N]);

// SAFETY: Nothing changes the list.
unsafe impl<const N: usize> Sync for BinAttributes<N> {}

impl<const N: usize> BinAttributes<N> {
    /// Makes a list, whose last entry must be null.
    pub(crate) const fn new(list: [*const bindings::bin_attribute; N]) -> Self {
        assert!(N > 0 && list[N - 1].is_null());
        Self(list)
    }
}

/// One attribute group. For [`kobj_type!`].
pub(crate) struct Group(bindings::attribute_group);

// SAFETY: Nothing changes a group.
unsafe impl Sync for Group {}

impl Group {
    /// Makes a group of `attributes` without a name.
    pub(crate) const fn new<const N: usize, const M: usize>(
        attributes: &'static Attributes<N>,
        bin_attributes: &'static BinAttributes<M>,
    ) -> Self {
        // SAFETY: All zeroes is a valid value: null pointers.
        let mut group: bindings::attribute_group = unsafe { core::mem::zeroed() };
        group.__bindgen_anon_2.attrs_const = (&raw const attributes.0).cast();
        group.bin_attrs = (&raw const bin_attributes.0).cast();
        Self(group)
    }
}

/// A NULL-terminated list of groups. For [`kobj_type!`].
pub(crate) struct Groups<const N: usize>([*const bindings::attribute_group; N]);

// SAFETY: Nothing changes the list.
unsafe impl<const N: usize> Sync for Groups<N> {}

impl Groups<2> {
    /// Makes a list of one group.
    pub(crate) const fn one(group: &'static Group) -> Self {
        Self([&group.0, core::ptr::null()])
    }
}

impl Groups<1> {
    /// A list without files.
    pub(crate) const fn none() -> Self {
        Self([core::ptr::null()])
    }
}

impl<T> Attribute<T> {
    /// The C structure, for [`kobj_type!`].
    pub(crate) const fn raw(&'static self) -> *const bindings::attribute {
        // CAST: The first field of a `repr(C)` structure, of which `show` and `store` use all.
        core::ptr::from_ref(self).cast()
    }
}

/// Implements [`Directory::kobj_type`] for directories with the given files, those with a position
/// after a semicolon.
macro_rules! kobj_type {
    ($data:ty) => {
        fn kobj_type() -> &'static $crate::kapi::kobject::KobjType<Self> {
            use $crate::kapi::kobject::*;
            static GROUPS: Groups<1> = Groups::none();
            static TYPE: KobjType<$data> = KobjType::new(&GROUPS);
            &TYPE
        }
    };
    ($data:ty: $($attribute:expr),+ $(; $($bin_attribute:expr),+)? $(,)?) => {
        fn kobj_type() -> &'static $crate::kapi::kobject::KobjType<Self> {
            use $crate::kapi::kobject::*;
            const COUNT: usize = [$(stringify!($attribute)),+].len() + 1;
            static ATTRIBUTES: Attributes<COUNT> = Attributes::new([
                $({
                    static ATTRIBUTE: Attribute<$data> = $attribute;
                    ATTRIBUTE.raw()
                },)+
                core::ptr::null(),
            ]);
            const BIN_COUNT: usize = [$($(stringify!($bin_attribute),)+)? ""].len();
            static BIN_ATTRIBUTES: BinAttributes<BIN_COUNT> = BinAttributes::new([
                $($({
                    static ATTRIBUTE: BinAttribute<$data> = $bin_attribute;
                    ATTRIBUTE.raw()
                },)+)?
                core::ptr::null(),
            ]);
            static GROUP: Group = Group::new(&ATTRIBUTES, &BIN_ATTRIBUTES);
            static GROUPS: Groups<2> = Groups::one(&GROUP);
            static TYPE: KobjType<$data> = KobjType::new(&GROUPS);
            &TYPE
        }
    };
}
pub(crate) use kobj_type;
