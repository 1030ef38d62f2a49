// SPDX-License-Identifier: GPL-2.0

//! The table of shadow variables.
//!
//! It is the built-in core's own: variables outlive patches and must survive a change of cores, and
//! a task may be in one core's function while another one is in the other's. So the table, its lock
//! and the layout of a variable are shared; [`init()`] makes sure that they are what we think.
//!
//! # Concurrency
//!
//! Readers need RCU only. Whoever changes the table holds its lock ([`Locked`]). Variables are
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
    ffi::{
        c_int,
        c_void, //
    },
    prelude::*,
    sync::rcu,
    types::NotThreadSafe, //
};

type Raw = bindings::livepatch_shadow;
// A list links the variables by what they start with.
kernel::static_assert!(core::mem::offset_of!(Raw, node) == 0);

/// The key of a variable: its object, which is never looked at, and its identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    /// The object that the variable is attached to.
    pub(crate) object: *mut c_void,
    /// Which of the object's variables it is.
    pub(crate) id: usize,
}

/// Binary logarithm of the number of buckets.
///
/// [`init()`] sets it before anything else here is called.
static BITS: AtomicU32 = AtomicU32::new(0);

/// Makes sure that the table is what we think it is. Sleeps.
///
/// Called while the built-in functions are in charge.
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
    // Nobody else has these: the built-in core may have patches that free all variables with an
    // identifier of theirs.
    let key = Key {
        object: (&raw const PROBE).cast_mut().cast(),
        id: (&raw const PROBE).addr(),
    };
    // SAFETY: The built-in function does not look at the object; there is no constructor.
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
    // SAFETY: The built-in function does not look at the object; there is no destructor.
    unsafe { bindings::klp_shadow_free(key.object, key.id, None) };
    match NonNull::new(data) {
        None => Err(ENOMEM),
        data if data == found => Ok(()),
        Some(_) => Err(ENXIO),
    }
}

/// Returns an atomic view of a link of the list.
///
/// # Safety
///
/// `link` must be a link of a list in the table, or of a variable that the caller owns, which
/// exists for `'a`.
unsafe fn link<'a>(link: *mut *mut hlist_node) -> &'a AtomicPtr<hlist_node> {
    // SAFETY: The link is aligned and lives for `'a`, and everybody who reads it meanwhile does so
    // atomically.
    unsafe { AtomicPtr::from_ptr(link) }
}

/// Returns the first link of the list that the object's variables are on.
fn bucket(object: *mut c_void) -> *mut *mut hlist_node {
    // SAFETY: Only computes with the address, of which it needs no memory.
    let index = unsafe { bindings::livepatch_hash(object, BITS.load(Ordering::Relaxed)) };
    head(index)
}

/// Returns the first link of a list.
fn head(index: u32) -> *mut *mut hlist_node {
    let table = (&raw mut bindings::klp_shadow_hash).cast::<bindings::hlist_head>();
    // SAFETY: The index is below the number of buckets, by `livepatch_hash` and `Locked::drain`.
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
        // ORDERING: Pairs with the release store in `Locked::insert`, and with the C functions'.
        // SAFETY: A link of a list, whose variables are not freed, by the safety requirements.
        let shadow = NonNull::new(unsafe { link(next) }.load(Ordering::Acquire).cast::<Raw>())?;
        // SAFETY: A variable on the list is not freed, by the safety requirements; its object does
        // not change.
        let found = unsafe { &(*shadow.as_ptr()).obj };
        // SAFETY: A variable on the list is not freed, by the safety requirements; its identifier
        // does not change.
        let id = unsafe { (*shadow.as_ptr()).id };
        if *found == key.object && id == key.id {
            return Some(shadow);
        }
        // SAFETY: A variable on the list is not freed, by the safety requirements; only the address
        // is taken.
        next = unsafe { &raw mut (*shadow.as_ptr()).node.next };
    }
}

/// Returns the data of a variable.
fn data(shadow: NonNull<Raw>) -> NonNull<c_void> {
    // SAFETY: The data follow the header, in the same allocation.
    unsafe { shadow.add(1).cast() }
}

/// Finds the data of a variable. Any context.
///
/// They stay as long as the caller knows that nobody frees the variable.
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
    /// Allocates a variable with `size` bytes of zeroes as data, in the context of `flags`.
    pub(crate) fn new(key: Key, size: usize, flags: gfp_t) -> Option<Self> {
        let size = size.checked_add(size_of::<Raw>())?;
        // SAFETY: Allocates; the flags are those for the caller's context.
        let shadow = unsafe { bindings::__kmalloc_noprof(size, flags | bindings::__GFP_ZERO) };
        let shadow = NonNull::new(shadow)?.cast::<Raw>();
        // SAFETY: Just allocated, large enough, and nobody else knows of it.
        unsafe { (*shadow.as_ptr()).obj = key.object };
        // SAFETY: Just allocated, large enough, and nobody else knows of it.
        unsafe { (*shadow.as_ptr()).id = key.id };
        // INVARIANT: Just allocated.
        Some(Self(shadow))
    }

    /// The data of the variable.
    pub(crate) fn data(&self) -> NonNull<c_void> {
        data(self.0)
    }
}

impl Drop for Variable {
    fn drop(&mut self) {
        // SAFETY: Allocated by `kmalloc()` and not used by anybody else, by the type's invariant.
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
    /// Returns the object that the variable was attached to.
    pub(crate) fn object(&self) -> *mut c_void {
        // SAFETY: Not freed before `Drop`, by the type's invariant.
        unsafe { (*self.0.as_ptr()).obj }
    }

    /// The data of the variable.
    pub(crate) fn data(&self) -> NonNull<c_void> {
        data(self.0)
    }
}

impl Drop for Removed {
    fn drop(&mut self) {
        // SAFETY: On no list, and nobody else frees it, by the type's invariant.
        unsafe { bindings::livepatch_shadow_free_rcu(self.0.as_ptr()) };
    }
}

/// Evidence that the table is locked.
///
/// # Invariants
///
/// Its lock is held while a value of this type exists; interrupts are disabled then but with
/// `PREEMPT_RT`.
pub(crate) struct Locked {
    flags: usize,
    _here: NotThreadSafe,
}

impl Locked {
    /// Locks the table. Any context in which a `spinlock_t` may be taken: with `PREEMPT_RT` it may
    /// sleep.
    pub(crate) fn new() -> Self {
        // INVARIANT: Just taken.
        Self {
            // SAFETY: `Drop` balances it.
            flags: unsafe { bindings::livepatch_shadow_lock() },
            _here: NotThreadSafe,
        }
    }

    /// Finds the data of a variable.
    pub(crate) fn get(&self, key: Key) -> Option<NonNull<c_void>> {
        // SAFETY: The table's lock is held, by the type's invariant.
        unsafe { find(key) }.map(data)
    }

    /// Puts a variable into the table.
    pub(crate) fn insert(&self, variable: Variable) {
        let shadow = variable.0.as_ptr();
        core::mem::forget(variable);
        // SAFETY: The variable was just given up by its owner, so nobody frees it.
        let head = bucket(unsafe { (*shadow).obj });
        // SAFETY: The variable was just given up by its owner, so nobody frees it.
        let node = unsafe { &raw mut (*shadow).node };
        // SAFETY: The first link of a list in the table, which is static.
        let first = unsafe { link(head) };
        let second = first.load(Ordering::Relaxed);
        // SAFETY: Nobody sees the node yet.
        unsafe { (*node).next = second };
        // SAFETY: Nobody sees the node yet.
        unsafe { (*node).pprev = head };
        // ORDERING: Publishes the variable; pairs with the acquire load in `find` and the C
        // functions' dependent one.
        first.store(node, Ordering::Release);
        if !second.is_null() {
            // SAFETY: A variable on the list is freed under the lock only; readers do not look at
            // `pprev`, others wait for the lock.
            unsafe { (*second).pprev = &raw mut (*node).next };
        }
    }

    /// Takes a variable that [`find`] found off its list.
    fn unlink(&self, shadow: NonNull<Raw>) -> Removed {
        // SAFETY: A variable on the list is freed under the lock only, which is held, by the type's
        // invariant.
        let node = unsafe { (*shadow.as_ptr()).node };
        // ORDERING: What follows was published when it came in. Release again for those that
        // get there by this link.
        // SAFETY: The link that leads to the node, in the table or in a variable on the list.
        unsafe { link(node.pprev) }.store(node.next, Ordering::Release);
        if !node.next.is_null() {
            // SAFETY: A variable on the list is freed under the lock only; readers do not look at
            // `pprev`.
            unsafe { (*node.next).pprev = node.pprev };
        }
        // INVARIANT: Off the list. Readers that are at it go on by its `next`.
        Removed(shadow)
    }

    /// Takes a variable out of the table.
    pub(crate) fn remove(&self, key: Key) -> Option<Removed> {
        // SAFETY: The table's lock is held, by the type's invariant.
        unsafe { find(key) }.map(|shadow| self.unlink(shadow))
    }

    /// Takes all variables with an identifier out of the table.
    pub(crate) fn drain(&self, id: usize, mut f: impl FnMut(Removed)) {
        for index in 0..1 << BITS.load(Ordering::Relaxed) {
            let mut next = head(index);
            // SAFETY: A link of a list, which the lock keeps others from changing.
            while let Some(shadow) = NonNull::new(unsafe { *next }.cast::<Raw>()) {
                // SAFETY: A variable on the list is freed under the lock only, which is held.
                if unsafe { (*shadow.as_ptr()).id } == id {
                    f(self.unlink(shadow));
                } else {
                    // SAFETY: A variable on the list is freed under the lock only, which is held.
                    next = unsafe { &raw mut (*shadow.as_ptr()).node.next };
                }
            }
        }
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        // SAFETY: Balances the lock in `new`.
        unsafe { bindings::livepatch_shadow_unlock(self.flags) };
    }
}

/// Says in the log that a variable could not be constructed.
///
/// In C, since the addresses of objects are not to be told: the `kernel` crate's way to print a
/// pointer does not hide it in all kernels.
pub(crate) fn report_unconstructed(key: Key, errno: c_int) {
    // SAFETY: Prints the numbers, and needs no memory of them.
    unsafe { bindings::livepatch_shadow_report_unconstructed(key.object, key.id, errno) };
}

/// Warns of a second variable with the same key.
pub(crate) fn warn_duplicate(key: Key) {
    // SAFETY: Prints both numbers, and needs no memory of them.
    unsafe { bindings::livepatch_shadow_warn_duplicate(key.object, key.id) };
}
