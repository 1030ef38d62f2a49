// SPDX-License-Identifier: GPL-2.0

//! The table in which the ftrace handler finds the function that a call goes to.
//!
//! Maps the address at which ftrace intercepts a function to a stack of replacements, newest on top. Free of the
//! kernel: `tools/testing/host` tests it on the host, with threads.
//!
//! # Contexts and concurrency
//!
//! There is one writer at a time (it holds the registry's lock). Readers are the handlers of patched functions: any
//! context, preemption disabled, no lock. A reader uses what it found only while preemption stays disabled, so the
//! writer may free what it unlinked after it has synchronised with every CPU.
//!
//! `core::sync::atomic` instead of the kernel's atomics: those call C functions out of line, which the handler must
//! not do. Acquire and release as C11 has them are what `smp_load_acquire()` and `smp_store_release()` give at least.

use core::{
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

/// `patch_state` of a task while there is no transition.
pub(crate) const IDLE: i32 = -1;
/// `patch_state` of a task that does not run the patch in transition.
pub(crate) const UNPATCHED: i32 = 0;
/// `patch_state` of a task that runs the patch in transition.
pub(crate) const PATCHED: i32 = 1;

/// One replacement of a function.
#[derive(Debug)]
pub(crate) struct Node {
    /// Where the call goes, [`ORIGINAL`] for nowhere else. Set before the node is pushed.
    target: AtomicUsize,
    /// Size of the code there, in bytes. Not for the handler.
    size: AtomicUsize,
    /// Whether the calling task's state decides between this node and the one below.
    transition: AtomicBool,
    /// The next older replacement, null for the original.
    below: AtomicPtr<Node>,
}

impl Node {
    /// A replacement that is not on any stack yet.
    pub(crate) const fn new() -> Self {
        Self {
            target: AtomicUsize::new(ORIGINAL),
            size: AtomicUsize::new(0),
            transition: AtomicBool::new(false),
            below: AtomicPtr::new(ptr::null_mut()),
        }
    }

    /// Sets where calls go and how much code is there. Only for nodes that are on no stack.
    pub(crate) fn aim(&self, target: usize, size: usize) {
        // ORDERING: `Slot::push` publishes both.
        self.target.store(target, Ordering::Relaxed);
        self.size.store(size, Ordering::Relaxed);
    }

    /// Size of the code at [`Self::target`], in bytes.
    pub(crate) fn size(&self) -> usize {
        self.size.load(Ordering::Relaxed)
    }

    /// Where calls go, [`ORIGINAL`] for nowhere else.
    pub(crate) fn target(&self) -> usize {
        self.target.load(Ordering::Relaxed)
    }

    /// Lets the task's state decide, or not.
    pub(crate) fn set_transition(&self, transition: bool) {
        // ORDERING: the writes to the tasks' states come before (`transition::init`); pairs with the acquire load in
        // `Slot::select`.
        self.transition.store(transition, Ordering::Release);
    }
}

/// The function is in transition and the task has no state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stateless;

/// One intercepted function.
#[derive(Debug)]
pub(crate) struct Slot {
    /// Where ftrace intercepts it; 0 in a free slot. Set once.
    ip: AtomicUsize,
    /// The newest replacement, null if there is none any more.
    top: AtomicPtr<Node>,
}

impl Slot {
    /// A free one.
    pub(crate) const fn new() -> Self {
        Self {
            ip: AtomicUsize::new(0),
            top: AtomicPtr::new(ptr::null_mut()),
        }
    }

    /// The intercepted address.
    pub(crate) fn ip(&self) -> usize {
        self.ip.load(Ordering::Relaxed)
    }

    /// The newest replacement, null if there is none. For the writer.
    pub(crate) fn top(&self) -> *mut Node {
        self.top.load(Ordering::Relaxed)
    }

    /// Puts `node` on top. The node must stay until it has been removed and every CPU been synchronised with.
    pub(crate) fn push(&self, node: &Node) {
        node.below.store(self.top(), Ordering::Relaxed);
        // ORDERING: publishes the node's target, its transition flag and what is below it; pairs with the acquire
        // load in `select`.
        self.top
            .store(ptr::from_ref(node).cast_mut(), Ordering::Release);
    }

    /// Takes `node` off the stack, wherever it is. Returns false if it is not there.
    ///
    /// A reader that has found the node goes on to what is below it, so `below` is left as it is.
    ///
    /// # Safety
    ///
    /// Every node on the stack must be alive.
    pub(crate) unsafe fn remove(&self, node: &Node) -> bool {
        let gone = ptr::from_ref(node).cast_mut();
        let mut link = &self.top;
        loop {
            let here = link.load(Ordering::Relaxed);
            if here == gone {
                // ORDERING: what is below was published when it was pushed; release again, for readers that come
                // along this link for the first time.
                link.store(node.below.load(Ordering::Relaxed), Ordering::Release);
                return true;
            }
            // SAFETY: it is on the stack, so the caller says that it is alive.
            let Some(next) = (unsafe { here.as_ref() }) else {
                return false;
            };
            link = &next.below;
        }
    }

    /// Whether `node` is the only one on the stack.
    pub(crate) fn holds_only(&self, node: &Node) -> bool {
        ptr::eq(self.top(), node) && node.below.load(Ordering::Relaxed).is_null()
    }

    /// The node below `node`.
    ///
    /// # Safety
    ///
    /// Every node on the stack must be alive.
    pub(crate) unsafe fn below<'a>(&'a self, node: &'a Node) -> Option<&'a Node> {
        // SAFETY: it is on the stack, so the caller says that it is alive.
        unsafe { node.below.load(Ordering::Relaxed).as_ref() }
    }

    /// Chooses what a call runs: an address, or [`ORIGINAL`].
    ///
    /// `patch_state` gives the calling task's state; it is asked only if that decides.
    ///
    /// # Safety
    ///
    /// Preemption must be disabled, and stay so while the choice is used.
    #[inline(always)]
    pub(crate) unsafe fn select(
        &self,
        patch_state: impl FnOnce() -> i32,
    ) -> Result<usize, Stateless> {
        // ORDERING: pairs with the release stores in `push` and `remove`. When patching, it also puts the read of the
        // transition flag behind that of the stack.
        let top = self.top.load(Ordering::Acquire);
        // SAFETY: a node that was reachable with preemption disabled is alive until it is enabled again.
        let Some(mut node) = (unsafe { top.as_ref() }) else {
            return Ok(ORIGINAL);
        };

        // ORDERING: pairs with the release store in `Node::set_transition`: a task whose function is in transition has
        // its state set.
        if node.transition.load(Ordering::Acquire) {
            let state = patch_state();
            if state == UNPATCHED {
                // ORDERING: pairs with the release store in `push`.
                let below = node.below.load(Ordering::Acquire);
                // SAFETY: as for `top`.
                match unsafe { below.as_ref() } {
                    Some(below) => node = below,
                    None => return Ok(ORIGINAL),
                }
            } else if state == IDLE {
                return Err(Stateless);
            }
        }
        Ok(node.target())
    }
}

/// The first factor to try: Fibonacci hashing.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// How many factors [`best_factor`] tries.
const FACTORS: u64 = 32;

/// Where the search for `ip` starts, in bytes, before it is masked.
#[inline(always)]
fn start(ip: usize, factor: u64) -> usize {
    // Functions lie at multiples of 16, so the low bits say little.
    ((ip as u64).wrapping_mul(factor) >> 32) as usize
}

/// The factor for a table with as many slots as `taken` in which the most of `ips` are found at the first look; the
/// others cost each of their calls some instructions more.
///
/// What is in `taken` does not matter; the number of slots must be a power of two.
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

/// What the handler needs of a [`Table`]. What it finds is alive as long as the table is.
///
/// # Invariants
///
/// `first` points to the first of a number of slots that is a power of two and of which some are free; `mask` is the offset
/// of the last one in bytes. They exist as long as this.
#[derive(Debug)]
pub(crate) struct View {
    first: NonNull<Slot>,
    mask: usize,
    /// What [`best_factor`] has chosen, or any other.
    factor: u64,
}

// SAFETY: slots are made for concurrent use.
unsafe impl Send for View {}
// SAFETY: as above.
unsafe impl Sync for View {}

impl View {
    /// A table in which nothing is found.
    pub(crate) const fn of_nothing() -> Self {
        static FREE: Slot = Slot::new();
        let first = (&raw const FREE).cast_mut();
        // INVARIANT: one free slot, which always exists.
        Self {
            // SAFETY: a static has an address.
            first: unsafe { NonNull::new_unchecked(first) },
            mask: 0,
            factor: GOLDEN,
        }
    }

    /// The slot at an offset in bytes, before it is masked.
    #[inline(always)]
    fn slot(&self, offset: usize) -> &Slot {
        // SAFETY: masked, it is the offset of a slot, by the type's invariant.
        unsafe { self.first.byte_add(offset & self.mask).as_ref() }
    }

    /// The slot of `ip`, if it has one. `ip` must not be 0.
    #[inline(always)]
    pub(crate) fn find(&self, ip: usize) -> Option<&Slot> {
        let start = start(ip, self.factor);
        let slot = self.slot(start);
        // ORDERING: pairs with the release store in `claim`.
        if slot.ip.load(Ordering::Acquire) == ip {
            Some(slot)
        } else {
            self.find_behind(ip, start)
        }
    }

    /// The slot of `ip`, if it is not the one where the search starts.
    #[cold]
    #[inline(never)]
    fn find_behind(&self, ip: usize, start: usize) -> Option<&Slot> {
        let mut offset = start;
        // Ends, since some slot is free.
        loop {
            let slot = self.slot(offset);
            // ORDERING: pairs with the release store in `claim`.
            match slot.ip.load(Ordering::Acquire) {
                here if here == ip => return Some(slot),
                0 => return None,
                _ => offset = offset.wrapping_add(size_of::<Slot>()),
            }
        }
    }

    /// The free slot for an `ip` that has none.
    fn find_free(&self, ip: usize) -> &Slot {
        let mut offset = start(ip, self.factor);
        // Ends, since some slot is free.
        while self.slot(offset).ip() != 0 {
            offset = offset.wrapping_add(size_of::<Slot>());
        }
        self.slot(offset)
    }
}

/// Owns slots that stay where they are while they are owned, wherever the owner goes.
///
/// # Safety
///
/// Every call of `deref` must give the same slots at the same place.
pub(crate) unsafe trait StableDeref: Deref<Target = [Slot]> {}

/// Slots by intercepted address: open addressing, never more than half full, nothing is ever moved.
#[derive(Debug)]
pub(crate) struct Table<S> {
    view: View,
    slots: S,
    claimed: usize,
}

impl<S: StableDeref> Table<S> {
    /// Makes a table of free slots, `None` if their number is not a power of two; `factor` is [`best_factor`]'s.
    pub(crate) fn new(slots: S, factor: u64) -> Option<Self> {
        if !slots.len().is_power_of_two() {
            return None;
        }
        // INVARIANT: checked here; `claim` leaves half of the slots free. They stay where they are by the trait's
        // promise.
        let view = View {
            first: NonNull::from(slots.first()?),
            mask: (slots.len() - 1) * size_of::<Slot>(),
            factor,
        };
        Some(Self {
            view,
            slots,
            claimed: 0,
        })
    }

    /// What the handler needs.
    pub(crate) fn view(&self) -> &View {
        &self.view
    }

    /// How many more functions fit in.
    pub(crate) fn room(&self) -> usize {
        (self.slots.len() / 2).saturating_sub(self.claimed)
    }

    /// All slots, free ones too. For the writer.
    pub(crate) fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// The slot of `ip`, if it has one. `ip` must not be 0.
    pub(crate) fn find(&self, ip: usize) -> Option<&Slot> {
        self.view.find(ip)
    }

    /// The slot of `ip`, a free one if it has none yet; `None` if there is no room.
    pub(crate) fn claim(&mut self, ip: usize) -> Option<&Slot> {
        if ip == 0 {
            return None;
        }
        if self.find(ip).is_none() {
            if self.room() == 0 {
                return None;
            }
            // ORDERING: nothing to publish yet, the stack is empty; release for symmetry with `find`.
            self.view.find_free(ip).ip.store(ip, Ordering::Release);
            self.claimed += 1;
        }
        self.find(ip)
    }

    /// Takes over the slot `old` of another table, with its whole stack. Returns false if there is no room.
    pub(crate) fn adopt(&mut self, old: &Slot) -> bool {
        let top = old.top();
        match self.claim(old.ip()) {
            Some(slot) => {
                // ORDERING: the nodes were published when they were pushed; the table is published after this.
                slot.top.store(top, Ordering::Release);
                true
            }
            None => false,
        }
    }
}
