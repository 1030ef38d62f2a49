// SPDX-License-Identifier: GPL-2.0

//! The table of shadow variables.
//!
//! It is the built-in core's own: variables outlive patches and must survive a change of cores, and a task may be in one
//! core's function while another one is in the other's. So the table, its lock and the layout of a variable are shared;
//! [`init()`] makes sure that they are what we think.
//!
//! # Concurrency
//!
//! Readers need RCU only. Whoever changes the table holds its lock, with interrupts disabled ([`Locked`]). Variables are
//! freed after a grace period.

use crate::{
    bindings,
    kapi::kallsyms, //
};
use core::{
    ptr::NonNull,
    sync::atomic::{
        AtomicPtr,
        AtomicU32,
        Ordering, //
    },
};
use kernel::{
    bindings::{
        gfp_t,
        hlist_node, //
    },
    ffi::c_void,
    prelude::*,
    sync::rcu,
    types::NotThreadSafe, //
};

type Raw = bindings::livepatch_shadow;
// A list links the variables by what they start with.
kernel::static_assert!(core::mem::offset_of!(Raw, node) == 0);

/// What a variable is found by: its object, which is never looked at, and its identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    /// The object that it is attached to.
    pub(crate) object: *mut c_void,
    /// Which of the object's variables it is.
    pub(crate) id: usize,
}

/// Binary logarithm of the number of buckets. [`init()`] sets it before anything else here is called.
static BITS: AtomicU32 = AtomicU32::new(0);

/// Makes sure that the table is what we think it is. Called while the built-in functions are in charge; sleeps.
///
/// # Errors
///
/// `ENXIO` if it is not; `ENOMEM`.
pub(crate) fn init() -> Result {
    let table = &raw const bindings::klp_shadow_hash;
    let size = kallsyms::size_at(table as usize).ok_or(ENXIO)?;
    // Padding may follow the table, a red zone of KASAN for example; it is smaller than the table.
    let buckets = size / size_of::<bindings::hlist_head>();
    let bits = buckets.checked_ilog2().ok_or(ENXIO)?;
    // ORDERING: Whoever comes here later has been redirected, which orders enough.
    BITS.store(bits, Ordering::Relaxed);

    static PROBE: u8 = 0;
    let key = Key {
        object: (&raw const PROBE).cast_mut().cast(),
        id: 0,
    };
    // SAFETY: the built-in function does not look at the object; there is no constructor.
    let data = unsafe {
        bindings::klp_shadow_alloc(
            key.object,
            key.id,
            1,
            bindings::GFP_KERNEL,
            None,
            core::ptr::null_mut(),
        )
    };
    let found = get(key, &rcu::read_lock());
    // SAFETY: as above; there is no destructor.
    unsafe { bindings::klp_shadow_free(key.object, key.id, None) };
    match NonNull::new(data) {
        None => Err(ENOMEM),
        data if data == found => Ok(()),
        Some(_) => Err(ENXIO),
    }
}

/// An atomic view of a link of the list.
///
/// # Safety
///
/// `link` must be a link of a list in the table, or of a variable that the caller owns, which exists for `'a`.
unsafe fn link<'a>(link: *mut *mut hlist_node) -> &'a AtomicPtr<hlist_node> {
    // SAFETY: aligned, and everybody who reads it meanwhile does so atomically.
    unsafe { AtomicPtr::from_ptr(link) }
}

/// The first link of the list that the object's variables are on.
fn bucket(object: *mut c_void) -> *mut *mut hlist_node {
    // SAFETY: only computes.
    let index = unsafe { bindings::livepatch_hash(object, BITS.load(Ordering::Relaxed)) };
    head(index)
}

/// The first link of a list.
fn head(index: u32) -> *mut *mut hlist_node {
    let table = (&raw mut bindings::klp_shadow_hash).cast::<bindings::hlist_head>();
    // SAFETY: the index is below the number of buckets, by `livepatch_hash` and `Locked::drain`.
    unsafe { &raw mut (*table.add(index as usize)).first }
}

/// Looks for a variable on its list.
///
/// # Safety
///
/// RCU must be held, or the table's lock.
unsafe fn find(key: Key) -> Option<NonNull<Raw>> {
    let mut next = bucket(key.object);
    loop {
        // ORDERING: pairs with the release store in `Locked::insert`, and with the C functions'.
        // SAFETY: a link of a list; variables on it are not freed, says the caller.
        let shadow = NonNull::new(unsafe { link(next) }.load(Ordering::Acquire).cast::<Raw>())?;
        // SAFETY: on the list, so it exists; object and identifier do not change.
        let found = unsafe { &(*shadow.as_ptr()).obj };
        // SAFETY: as above.
        let id = unsafe { (*shadow.as_ptr()).id };
        if *found == key.object && id == key.id {
            return Some(shadow);
        }
        // SAFETY: as above.
        next = unsafe { &raw mut (*shadow.as_ptr()).node.next };
    }
}

/// The data of a variable.
fn data(shadow: NonNull<Raw>) -> NonNull<c_void> {
    // SAFETY: the data lie behind the header, in the same allocation.
    unsafe { shadow.add(1).cast() }
}

/// The data of a variable, which stay as long as the caller knows that nobody frees it. Any context.
pub(crate) fn get(key: Key, _rcu: &rcu::Guard) -> Option<NonNull<c_void>> {
    // SAFETY: RCU is held.
    unsafe { find(key) }.map(data)
}

/// A variable that is not in the table yet.
///
/// # Invariants
///
/// Allocated by `kmalloc()`, and nobody else knows of it.
pub(crate) struct Variable(NonNull<Raw>);

impl Variable {
    /// Allocates one with `size` bytes of zeroes as data; the context is that of `flags`.
    pub(crate) fn new(key: Key, size: usize, flags: gfp_t) -> Option<Self> {
        let size = size.checked_add(size_of::<Raw>())?;
        // SAFETY: the caller chose the flags for its context.
        let shadow = unsafe { bindings::__kmalloc_noprof(size, flags | bindings::__GFP_ZERO) };
        let shadow = NonNull::new(shadow)?.cast::<Raw>();
        // SAFETY: large enough, ours alone.
        unsafe { (*shadow.as_ptr()).obj = key.object };
        // SAFETY: as above.
        unsafe { (*shadow.as_ptr()).id = key.id };
        // INVARIANT: just allocated.
        Some(Self(shadow))
    }

    /// Its data.
    pub(crate) fn data(&self) -> NonNull<c_void> {
        data(self.0)
    }
}

impl Drop for Variable {
    fn drop(&mut self) {
        // SAFETY: by the type's invariant.
        unsafe { bindings::kfree(self.0.as_ptr().cast()) };
    }
}

/// A variable that has been taken out of the table; freed when readers are done with it.
///
/// # Invariants
///
/// Not on a list any more, and nobody else is going to free it.
pub(crate) struct Removed(NonNull<Raw>);

impl Removed {
    /// The object that it was attached to.
    pub(crate) fn object(&self) -> *mut c_void {
        // SAFETY: it exists, by the type's invariant.
        unsafe { (*self.0.as_ptr()).obj }
    }

    /// Its data.
    pub(crate) fn data(&self) -> NonNull<c_void> {
        data(self.0)
    }
}

impl Drop for Removed {
    fn drop(&mut self) {
        // SAFETY: by the type's invariant.
        unsafe { bindings::livepatch_shadow_free_rcu(self.0.as_ptr()) };
    }
}

/// Evidence that the table is locked.
///
/// # Invariants
///
/// Its lock is held, with interrupts disabled, while a value of this type exists.
pub(crate) struct Locked {
    flags: usize,
    _here: NotThreadSafe,
}

impl Locked {
    /// Locks the table. Any context but NMI.
    pub(crate) fn new() -> Self {
        // INVARIANT: just taken.
        Self {
            // SAFETY: `Drop` balances it.
            flags: unsafe { bindings::livepatch_shadow_lock() },
            _here: NotThreadSafe,
        }
    }

    /// The data of a variable.
    pub(crate) fn get(&self, key: Key) -> Option<NonNull<c_void>> {
        // SAFETY: the lock is held.
        unsafe { find(key) }.map(data)
    }

    /// Puts a variable into the table.
    pub(crate) fn insert(&self, variable: Variable) {
        let shadow = variable.0.as_ptr();
        core::mem::forget(variable);
        // SAFETY: it exists.
        let head = bucket(unsafe { (*shadow).obj });
        // SAFETY: as above.
        let node = unsafe { &raw mut (*shadow).node };
        // SAFETY: a link of a list.
        let first = unsafe { link(head) };
        let second = first.load(Ordering::Relaxed);
        // SAFETY: nobody sees the node yet.
        unsafe { (*node).next = second };
        // SAFETY: as above.
        unsafe { (*node).pprev = head };
        // ORDERING: publishes the variable; pairs with the acquire load in `find` and the C functions' dependent one.
        first.store(node, Ordering::Release);
        if !second.is_null() {
            // SAFETY: on the list, so it exists; readers do not look at `pprev`, others wait for the lock.
            unsafe { (*second).pprev = &raw mut (*node).next };
        }
    }

    /// Takes a variable that [`find`] found off its list.
    fn unlink(&self, shadow: NonNull<Raw>) -> Removed {
        // SAFETY: on the list, so it exists; the lock keeps others away.
        let node = unsafe { (*shadow.as_ptr()).node };
        // ORDERING: what comes behind was published when it came in; release again for those that get there by this link.
        // SAFETY: the link that leads to the node.
        unsafe { link(node.pprev) }.store(node.next, Ordering::Release);
        if !node.next.is_null() {
            // SAFETY: on the list, so it exists; readers do not look at `pprev`.
            unsafe { (*node.next).pprev = node.pprev };
        }
        // INVARIANT: off the list. Readers that are at it go on by its `next`.
        Removed(shadow)
    }

    /// Takes a variable out of the table.
    pub(crate) fn remove(&self, key: Key) -> Option<Removed> {
        // SAFETY: the lock is held.
        unsafe { find(key) }.map(|shadow| self.unlink(shadow))
    }

    /// Takes all variables with an identifier out of the table.
    pub(crate) fn drain(&self, id: usize, mut f: impl FnMut(Removed)) {
        for index in 0..1 << BITS.load(Ordering::Relaxed) {
            let mut next = head(index);
            // SAFETY: a link of a list, which the lock keeps others from changing.
            while let Some(shadow) = NonNull::new(unsafe { *next }.cast::<Raw>()) {
                // SAFETY: on the list, so it exists.
                if unsafe { (*shadow.as_ptr()).id } == id {
                    f(self.unlink(shadow));
                } else {
                    // SAFETY: as above.
                    next = unsafe { &raw mut (*shadow.as_ptr()).node.next };
                }
            }
        }
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        // SAFETY: balances `new`.
        unsafe { bindings::livepatch_shadow_unlock(self.flags) };
    }
}

/// Warns of a second variable with the same key.
pub(crate) fn warn_duplicate(key: Key) {
    // SAFETY: prints both.
    unsafe { bindings::livepatch_shadow_warn_duplicate(key.object, key.id) };
}
