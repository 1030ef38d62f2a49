// SPDX-License-Identifier: GPL-2.0

//! The table in which the ftrace handler finds the function that a call goes to.
//!
//! It maps the address at which ftrace intercepts a function to a stack of replacements, the newest
//! on top. Independent of the kernel: `tools/testing/host` tests it on the host, with threads.
//!
//! # Contexts and concurrency
//!
//! There is one writer at a time, which holds the registry lock. Readers are the handlers of
//! patched functions, which run in any context with preemption disabled and take no lock. A reader
//! uses what it found only while preemption stays disabled, so the writer may free what it unlinked
//! after it has synchronised with every CPU.
//!
//! The writer works on a [`Table`], which is not `Sync`: no two threads can change one at the same
//! time. Readers get at the slots through the table's [`View`], which never changes.
//!
//! The atomic types are those of `core` and not those of the kernel, which call C functions out of
//! line; the handler must not do that. The acquire and release operations of `core` are at least as
//! strong as `smp_load_acquire()` and `smp_store_release()`.

use crate::pure::patch_state::PatchState;
use core::{
    cell::Cell,
    ops::Deref,
    ptr::{
        self,
        NonNull, //
    },
    sync::atomic::{
        AtomicBool,
        AtomicPtr,
        AtomicUsize,
        Ordering, //
    },
};

/// [`Node::target`] of a function that goes back to its original code.
pub(crate) const ORIGINAL: usize = 0;

/// One replacement of a function.
#[derive(Debug)]
pub(crate) struct Node {
    /// Where calls go, or [`ORIGINAL`].
    target: usize,
    /// The size of the code at `target` in bytes, which the handler does not need.
    size: usize,
    /// Whether the calling task's state decides between this node and the one below.
    transition: AtomicBool,
    /// The next older replacement, null for the original code.
    below: AtomicPtr<Node>,
}

impl Node {
    /// Makes a replacement that is on no stack yet.
    pub(crate) const fn new() -> Self {
        Self {
            target: ORIGINAL,
            size: 0,
            transition: AtomicBool::new(false),
            below: AtomicPtr::new(ptr::null_mut()),
        }
    }

    /// Sets where calls go and how many bytes of code are there.
    pub(crate) fn set_target(&mut self, target: usize, size: usize) {
        self.target = target;
        self.size = size;
    }

    /// Returns the size of the code at [`Self::target`] in bytes.
    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// Returns where calls go: an address, or [`ORIGINAL`].
    pub(crate) fn target(&self) -> usize {
        self.target
    }

    /// Sets whether the calling task's state decides between this node and the one below.
    pub(crate) fn set_transition(&self, transition: bool) {
        // ORDERING: The writes to the tasks' states come before (`transition::init`); pairs with
        // the acquire load in `Slot::select`.
        self.transition.store(transition, Ordering::Release);
    }

    /// Returns whether nothing is below the node: it is the first one that intercepts its function.
    pub(crate) fn is_lowest(&self) -> bool {
        self.below.load(Ordering::Relaxed).is_null()
    }
}

/// The error that a function is in transition and the calling task has no state.
///
/// It holds where the call goes all the same, which is where a task goes that has not switched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NoPatchState(pub(crate) usize);

/// One intercepted function.
#[derive(Debug)]
pub(crate) struct Slot {
    /// Where ftrace intercepts the function, 0 in a free slot. It is set once.
    ip: AtomicUsize,
    /// The newest replacement, null if there is none any more.
    top: AtomicPtr<Node>,
}

impl Slot {
    /// Makes a free slot.
    pub(crate) const fn new() -> Self {
        Self {
            ip: AtomicUsize::new(0),
            top: AtomicPtr::new(ptr::null_mut()),
        }
    }

    /// Returns the address at which ftrace intercepts the function, 0 for a free slot.
    pub(crate) fn ip(&self) -> usize {
        self.ip.load(Ordering::Relaxed)
    }

    /// Returns the newest replacement, null if there is none.
    pub(crate) fn top(&self) -> *mut Node {
        self.top.load(Ordering::Relaxed)
    }

    /// Puts `node` on top of the stack.
    ///
    /// # Safety
    ///
    /// * The caller is the only writer of the stack.
    /// * `node` is on no stack. It stays alive and where it is, and is only used through shared
    ///   references, until it has been removed from every stack that it is on and every CPU has
    ///   been synchronised with after that.
    pub(crate) unsafe fn push(&self, node: &Node) {
        node.below.store(self.top(), Ordering::Relaxed);
        // ORDERING: Publishes the node's target, its transition flag and what is below it; pairs
        // with the acquire load in `select`.
        self.top
            .store(ptr::from_ref(node).cast_mut(), Ordering::Release);
    }

    /// Takes `node` off the stack, wherever it is.
    ///
    /// Returns false if it is not there. A reader that has found the node goes on to what is below
    /// it, so `below` is left as it is.
    ///
    /// # Safety
    ///
    /// * The caller is the only writer of the stack.
    /// * Every node on the stack is alive.
    pub(crate) unsafe fn remove(&self, node: &Node) -> bool {
        let gone = ptr::from_ref(node).cast_mut();
        let mut link = &self.top;
        loop {
            let here = link.load(Ordering::Relaxed);
            if here == gone {
                // ORDERING: What is below was published when it was pushed. This publishes it again
                // for readers that come along this link for the first time; pairs with the acquire
                // loads in `select`.
                link.store(node.below.load(Ordering::Relaxed), Ordering::Release);
                return true;
            }
            // SAFETY: `here` is null or on the stack; nodes on the stack are alive by the safety
            // requirements.
            let Some(next) = (unsafe { here.as_ref() }) else {
                return false;
            };
            link = &next.below;
        }
    }

    /// Returns whether `node` is the only one on the stack.
    pub(crate) fn holds_only(&self, node: &Node) -> bool {
        ptr::eq(self.top(), node) && node.is_lowest()
    }

    /// Returns the node below `node`, which is on the stack.
    ///
    /// # Safety
    ///
    /// Every node on the stack is alive, and stays so while the result is used.
    pub(crate) unsafe fn below<'a>(&'a self, node: &'a Node) -> Option<&'a Node> {
        // SAFETY: The node below is on the stack, too, and so alive by the safety requirements.
        unsafe { node.below.load(Ordering::Relaxed).as_ref() }
    }

    /// Chooses what a call runs: an address, or [`ORIGINAL`].
    ///
    /// `patch_state` gives the calling task's state; it is called only if that state decides.
    ///
    /// # Errors
    ///
    /// [`NoPatchState`] if the task should have a state and has none.
    ///
    /// # Safety
    ///
    /// Preemption is disabled, and stays so while the choice is used.
    #[inline(always)]
    pub(crate) unsafe fn select(
        &self,
        patch_state: impl FnOnce() -> PatchState,
    ) -> Result<usize, NoPatchState> {
        // ORDERING: Pairs with the release stores in `push` and `remove`. When patching, it also
        // puts the read of the transition flag after that of the stack.
        let top = self.top.load(Ordering::Acquire);
        // SAFETY: A node that was reachable while preemption was disabled is alive until preemption
        // is enabled again, by the safety requirements of `push`.
        let Some(node) = (unsafe { top.as_ref() }) else {
            return Ok(ORIGINAL);
        };

        // ORDERING: Pairs with the release store in `Node::set_transition`: a task whose function
        // is in transition has its state set.
        if node.transition.load(Ordering::Acquire) {
            let state = patch_state();
            if state != PatchState::Patched {
                // ORDERING: Pairs with the release stores in `push` and `remove`.
                let below = node.below.load(Ordering::Acquire);
                // SAFETY: Preemption has been disabled since the node above was reachable, so this
                // one is alive by the safety requirements of `push`.
                let target = unsafe { below.as_ref() }.map_or(ORIGINAL, Node::target);
                return match state {
                    PatchState::Idle => Err(NoPatchState(target)),
                    PatchState::Unpatched | PatchState::Patched => Ok(target),
                };
            }
        }
        Ok(node.target())
    }
}

/// The first factor to try, that of Fibonacci hashing.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// How many factors [`best_factor`] tries.
const FACTORS: u64 = 32;

/// Returns where the search for `ip` starts, in bytes, before it is masked.
#[inline(always)]
fn start(ip: usize, factor: u64) -> usize {
    // Functions lie at multiples of 16, so the low bits say little.
    ((ip as u64).wrapping_mul(factor) >> 32) as usize
}

/// Returns the factor with which the most of `ips` are found at the first look.
///
/// Each call of one of the others costs some instructions more. The table is to have as many slots
/// as `taken` has elements, a power of two; the contents of `taken` do not matter.
pub(crate) fn best_factor(ips: &[usize], taken: &mut [bool]) -> u64 {
    let mask = taken.len().wrapping_sub(1);
    let mut best = (usize::MAX, GOLDEN);
    for factor in (0..FACTORS).map(|n| GOLDEN.wrapping_mul(2 * n + 1)) {
        taken.fill(false);
        let collides = |ip: &&usize| {
            let slot = (start(**ip, factor) / size_of::<Slot>()) & mask;
            taken
                .get_mut(slot)
                .is_some_and(|taken| core::mem::replace(taken, true))
        };
        let collisions = ips.iter().filter(collides).count();
        if collisions < best.0 {
            best = (collisions, factor);
        }
        if best.0 == 0 {
            break;
        }
    }
    best.1
}

/// The part of a [`Table`] that the handler needs.
///
/// The slots that it finds are alive as long as the table is.
///
/// # Invariants
///
/// `first` points to the first of a number of slots that is a power of two and of which some are
/// free; `mask` is the offset of the last one in bytes. The slots live as long as this.
#[derive(Debug)]
pub(crate) struct View {
    first: NonNull<Slot>,
    mask: usize,
    /// Any factor is correct; that of [`best_factor`] is fast.
    factor: u64,
}

// SAFETY: A view only gives out shared references to slots, and a `Slot` is `Sync`.
unsafe impl Send for View {}
// SAFETY: A view only gives out shared references to slots, and a `Slot` is `Sync`.
unsafe impl Sync for View {}

impl View {
    /// Makes a view of a table in which nothing is found.
    pub(crate) const fn of_nothing() -> Self {
        static FREE: Slot = Slot::new();
        let first = (&raw const FREE).cast_mut();
        // INVARIANT: One slot, which lives forever and which nobody ever claims.
        Self {
            // SAFETY: The address of a static is not null.
            first: unsafe { NonNull::new_unchecked(first) },
            mask: 0,
            factor: GOLDEN,
        }
    }

    /// Returns the slot at an offset in bytes, which is masked here.
    #[inline(always)]
    fn slot(&self, offset: usize) -> &Slot {
        // SAFETY: A masked offset is that of a slot, by the type's invariant.
        unsafe { self.first.byte_add(offset & self.mask).as_ref() }
    }

    /// Finds the slot of `ip`. No function is at 0, for which this may give a free slot: one
    /// without a replacement.
    #[inline(always)]
    pub(crate) fn find(&self, ip: usize) -> Option<&Slot> {
        let start = start(ip, self.factor);
        let slot = self.slot(start);
        // ORDERING: Pairs with the release store in `Table::claim`.
        if slot.ip.load(Ordering::Acquire) == ip {
            Some(slot)
        } else {
            self.find_further(ip, start)
        }
    }

    /// Finds the slot of `ip` if it is not the one where the search starts.
    #[cold]
    #[inline(never)]
    fn find_further(&self, ip: usize, start: usize) -> Option<&Slot> {
        let mut offset = start;
        // This ends, since some slot is free.
        loop {
            let slot = self.slot(offset);
            // ORDERING: Pairs with the release store in `Table::claim`.
            match slot.ip.load(Ordering::Acquire) {
                here if here == ip => return Some(slot),
                0 => return None,
                _ => offset = offset.wrapping_add(size_of::<Slot>()),
            }
        }
    }

    /// Finds the free slot for an `ip` that has none.
    fn find_free(&self, ip: usize) -> &Slot {
        let mut offset = start(ip, self.factor);
        // This ends, since some slot is free.
        while self.slot(offset).ip() != 0 {
            offset = offset.wrapping_add(size_of::<Slot>());
        }
        self.slot(offset)
    }
}

/// Owners of slots that stay where they are while they are owned, wherever the owner goes.
///
/// # Safety
///
/// Every call of `deref` must give the same slots at the same place.
pub(crate) unsafe trait StableDeref: Deref<Target = [Slot]> {}

/// Slots by intercepted address.
///
/// Collisions go to the next slot that is free. The table is never more than half full, and nothing
/// in it ever moves.
#[derive(Debug)]
pub(crate) struct Table<S> {
    view: View,
    slots: S,
    /// How many slots are not free. As a `Cell`, it also keeps the table from being `Sync`.
    claimed: Cell<usize>,
}

impl<S: StableDeref> Table<S> {
    /// Makes a table of free slots, `None` if their number is not a power of two.
    ///
    /// `factor` should be that of [`best_factor`].
    pub(crate) fn new(slots: S, factor: u64) -> Option<Self> {
        if !slots.len().is_power_of_two() {
            return None;
        }
        // INVARIANT: The number of slots was checked, and `claim` leaves half of them free. They
        // stay where they are while `slots` is owned, by the safety requirements of `StableDeref`.
        let view = View {
            // From the whole slice, so that the pointer is valid for all of it.
            first: NonNull::from(&*slots).cast(),
            mask: (slots.len() - 1) * size_of::<Slot>(),
            factor,
        };
        Some(Self {
            view,
            slots,
            claimed: Cell::new(0),
        })
    }

    /// Returns the part that the handler needs.
    pub(crate) fn view(&self) -> &View {
        &self.view
    }

    /// Returns how many more functions fit in.
    pub(crate) fn room(&self) -> usize {
        (self.slots.len() / 2).saturating_sub(self.claimed.get())
    }

    /// Returns all slots, free ones too.
    pub(crate) fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// Finds the slot of `ip`. For 0, see [`View::find`].
    pub(crate) fn find(&self, ip: usize) -> Option<&Slot> {
        self.view.find(ip)
    }

    /// Finds the slot of `ip`, or takes a free one if it has none yet; `None` if there is no room.
    pub(crate) fn claim(&self, ip: usize) -> Option<&Slot> {
        if ip == 0 {
            return None;
        }
        if let Some(slot) = self.find(ip) {
            return Some(slot);
        }
        if self.room() == 0 {
            return None;
        }
        let slot = self.view.find_free(ip);
        // ORDERING: There is nothing to publish yet, since the stack is empty; pairs with the
        // acquire loads in `View::find` and `View::find_further`.
        slot.ip.store(ip, Ordering::Release);
        self.claimed.set(self.claimed.get() + 1);
        Some(slot)
    }

    /// Takes over the slot `old` of another table with its whole stack.
    ///
    /// Returns false if there is no room.
    ///
    /// # Safety
    ///
    /// * The caller is the only writer of both stacks, and does not change that of `old` any more.
    /// * The nodes of `old` stay alive and where they are, and are only used through shared
    ///   references, until they have been removed from the stack here and every CPU has been
    ///   synchronised with after that.
    pub(crate) unsafe fn adopt(&self, old: &Slot) -> bool {
        match self.claim(old.ip()) {
            Some(slot) => {
                // ORDERING: Publishes the nodes again, for readers that find them here; pairs with
                // the acquire load in `Slot::select`.
                slot.top.store(old.top(), Ordering::Release);
                true
            }
            None => false,
        }
    }
}
