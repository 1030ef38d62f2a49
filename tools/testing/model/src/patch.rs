// SPDX-License-Identifier: GPL-2.0

//! A patch and what else of the core the transition needs, as simple as can be.

use crate::{
    handler,
    kapi::cpu,
    machine::machine,
    prelude::*,
    pure::{
        patch_state::{PatchId, Target},
        table::{Node, Slot, StableDeref, Table, ORIGINAL},
    },
};
use stack::StackCheck;
use std::{cell::RefCell, rc::Rc};

/// The addresses at which ftrace intercepts the functions.
pub(crate) const FUNCTIONS: [usize; 2] = [0x1000, 0x2000];

// SAFETY: The vector of a table never changes.
unsafe impl StableDeref for Vec<Slot> {}

/// The interceptions of the core: the table, without ftrace.
pub(crate) struct Ops {
    table: Rc<Table<Vec<Slot>>>,
    /// Tables that were replaced.
    old: Vec<Rc<Table<Vec<Slot>>>>,
}

fn new_table(slots: usize) -> Rc<Table<Vec<Slot>>> {
    // Of this size and with this factor, one of the functions is not at its first place.
    let table = Table::new((0..slots).map(|_| Slot::new()).collect(), 0).expect("a power of two");
    for slot in table.slots() {
        slot.ip();
        slot.top();
    }
    Rc::new(table)
}

impl Ops {
    /// Nothing intercepted yet.
    pub(crate) fn new() -> Self {
        GONE.with_borrow_mut(Vec::clear);
        let table = new_table(4);
        // SAFETY: `renew` waits before a table is not used any more, and all stay.
        unsafe { handler::set_table(Some(table.view())) };
        Self {
            table,
            old: Vec::new(),
        }
    }

    /// Makes another table, as for each new patch. What is in the old one is spoilt: nobody may look
    /// at it.
    pub(crate) fn renew(&mut self) {
        let table = new_table(4);
        let used = |slot: &&Slot| !slot.top().is_null();
        for slot in self.table.slots().iter().filter(used) {
            // SAFETY: Nothing changes the old table, and nodes stay until the end.
            let fits = unsafe { table.adopt(slot) };
            assert!(fits);
        }
        // SAFETY: As in `new`.
        unsafe { handler::set_table(Some(table.view())) };
        cpu::synchronize_all();
        let mut spoilt = Node::new();
        spoilt.set_target(0xf, 0);
        let spoilt: &'static Node = Box::leak(Box::new(spoilt));
        spoilt.set_transition(false);
        for slot in self.table.slots() {
            // SAFETY: Nobody looks at the stack any more, and the node stays.
            unsafe { slot.push(spoilt) };
        }
        self.old.push(std::mem::replace(&mut self.table, table));
    }
}

/// A patch of all functions.
pub(crate) struct Patch {
    number: usize,
    id: PatchId,
    nodes: Vec<Box<Node>>,
    attached: bool,
    spare: Vec<KBox<StackCheck>>,
    pub(crate) previous: Option<state::Previous>,
    pub(crate) objects: Vec<object::Object>,
}

impl Patch {
    /// Makes the patch with this number, from 0, which is not enabled.
    pub(crate) fn new(number: usize) -> Self {
        let node = |ip: &usize| {
            let mut node = Box::new(Node::new());
            node.set_target(ip + 0x10 + number + 1, 8);
            node.set_transition(false);
            node.is_lowest();
            node
        };
        let ids = std::iter::successors(Some(PatchId::NONE), |id| Some(id.next()));
        Self {
            number,
            id: ids.take(number + 2).last().expect("there are some"),
            nodes: FUNCTIONS.iter().map(node).collect(),
            attached: false,
            spare: vec![StackCheck::new(), StackCheck::new()],
            previous: None,
            objects: Vec::new(),
        }
    }

    /// Redirects the functions.
    pub(crate) fn attach(&mut self, ops: &mut Ops) {
        for (node, ip) in self.nodes.iter().zip(FUNCTIONS) {
            let slot = ops.table.claim(ip).expect("room");
            // SAFETY: The main thread is the only writer, and nodes stay until the model ends.
            unsafe { slot.push(node) };
        }
        self.attached = true;
    }

    pub(crate) fn id(&self) -> PatchId {
        self.id
    }

    pub(crate) fn name(&self) -> &CStr {
        c"patch"
    }

    pub(crate) fn set_transition(&self, transition: bool) {
        self.nodes
            .iter()
            .for_each(|node| node.set_transition(transition));
    }

    pub(crate) fn set_enabled(&mut self, _: bool) {}

    pub(crate) fn notify_remaining(&self) {}

    pub(crate) fn replaces(&self) -> bool {
        false
    }

    pub(crate) fn discard_nops(&mut self, _: &mut Ops) {}

    /// Takes the redirections off, as `Ops::detach` does.
    pub(crate) fn unpatch(&mut self, ops: &mut Ops) {
        for (node, ip) in self.nodes.iter().zip(FUNCTIONS) {
            let slot = ops.table.find(ip).expect("it is intercepted");
            // SAFETY: The main thread is the only writer, and nodes stay until the model ends.
            let found = unsafe { slot.remove(node) };
            assert!(found);
        }
        self.attached = false;
        cpu::synchronize_all();
    }

    /// The addresses that tasks must not have on their stacks.
    pub(crate) fn stack_check(&mut self, ops: &Ops, target: Target) -> Option<KBox<StackCheck>> {
        let mut check = self.spare.pop().expect("there are two");
        let mut addresses = Vec::new();
        for (node, ip) in self.nodes.iter().zip(FUNCTIONS) {
            let code = match target {
                Target::Unpatched => node.target(),
                Target::Patched => {
                    let slot = ops.table.find(ip).expect("it is intercepted");
                    // SAFETY: Nodes stay until the model ends.
                    let below = unsafe { slot.below(node) };
                    below.map_or(ip, Node::target)
                }
            };
            assert!(code != ORIGINAL);
            addresses.extend([code, ip + 1]);
        }
        check.fill(addresses);
        Some(check)
    }

    pub(crate) fn reclaim(&mut self, check: Option<KBox<StackCheck>>) {
        if let Some(mut check) = check {
            // It may be filled anew: nobody may read it.
            check.fill(Vec::new());
            self.spare.push(check);
        }
    }

    /// The patch is gone: so are its functions.
    pub(crate) fn free(self) {
        assert!(!self.attached);
        machine().free(self.number);
        GONE.with_borrow_mut(|gone| gone.extend(self.nodes));
    }
}

thread_local! {
    /// Nodes stay until the end of an execution, so that a mistake is one of the model and not of the
    /// host.
    static GONE: RefCell<Vec<Box<Node>>> = const { RefCell::new(Vec::new()) };
}

pub(crate) mod object {
    //! The objects of a patch; there is none.

    /// An object.
    pub(crate) struct Object;

    impl Object {
        pub(crate) fn is_loaded(&self) -> bool {
            true
        }
        pub(crate) fn post_patch(&mut self) {}
        pub(crate) fn post_unpatch(&mut self) {}
    }
}

pub(crate) mod stack {
    //! What stacks are checked against.

    use crate::kapi::published::Published;
    use loom::cell::UnsafeCell;
    use std::{ffi::CString, sync::Arc};

    pub(crate) static STACK_CHECK: Published<StackCheck> = Published::new();

    /// Addresses that may not be on a stack.
    pub(crate) struct StackCheck {
        addresses: UnsafeCell<Vec<usize>>,
        name: Arc<CString>,
    }

    // SAFETY: Loom checks that nobody reads the addresses while they change.
    unsafe impl Sync for StackCheck {}

    impl StackCheck {
        pub(crate) fn new() -> Box<Self> {
            Box::new(Self {
                addresses: UnsafeCell::new(Vec::new()),
                name: Arc::new(c"function".to_owned()),
            })
        }

        pub(crate) fn fill(&mut self, addresses: Vec<usize>) {
            // SAFETY: It is borrowed exclusively.
            self.addresses.with_mut(|all| unsafe { *all = addresses });
        }

        /// The model's stacks are not searched.
        pub(crate) fn span(&self) -> core::ops::Range<usize> {
            0..0
        }

        pub(crate) fn find(&self, stack: &[usize]) -> Option<&Arc<CString>> {
            // SAFETY: Nobody changes the addresses while they are published; loom checks that.
            let found = |all: *const Vec<usize>| unsafe {
                stack.iter().any(|address| (*all).contains(address))
            };
            self.addresses.with(found).then_some(&self.name)
        }
    }
}

pub(crate) mod state {
    //! States of older patches; there is none.

    /// States.
    pub(crate) struct Previous;

    impl Previous {
        pub(crate) fn publish(_: &mut Option<Self>) {}
    }

    pub(crate) fn unpublish() -> Option<Previous> {
        None
    }
}

pub(crate) mod trace {
    //! Messages for debugging.

    use crate::task::Task;
    use std::{ffi::CStr, fmt::Debug};

    pub(crate) fn initializing(_: &CStr, _: &str) {}
    pub(crate) fn completing(_: &CStr, _: &str) {}
    pub(crate) fn canceling(_: &CStr) {}
    pub(crate) fn reversing(_: &CStr, _: &str, _: &str) {}
    pub(crate) fn running(_: &Task) {}
    pub(crate) fn unreliable(_: &Task) {}
    pub(crate) fn sleeping_on(_: &Task, _: impl Debug) {}
    pub(crate) fn unknown(_: &Task, _: i32) {}
}

pub(crate) mod tracepoint {
    //! Events.

    use crate::{pure::patch_state::Target, task::Task, time::Delta};
    use std::ffi::CStr;

    /// How a task switches.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) enum Way {
        Stack,
        Schedule,
        Interrupt,
        UserExit,
        Idle,
        Offline,
        Force,
    }

    pub(crate) fn transition_start(_: &CStr, _: Target) {}
    pub(crate) fn transition_reverse(_: &CStr, _: Target) {}
    pub(crate) fn transition_complete(_: &CStr, _: Target, _: Delta) {}
    pub(crate) fn task_switched(_: &Task, _: Way) {}
    pub(crate) fn signal(_: &Task) {}
}

pub(crate) mod irq_work {
    //! The interrupt that has another pass made.

    use super::workqueue::Work;
    use crate::{machine::machine, sync::atomic::Ordering};

    /// Counts instead.
    pub(crate) struct StaticTrigger;

    impl StaticTrigger {
        pub(crate) const unsafe fn uninit() -> Self {
            Self
        }
        pub(crate) unsafe fn init<W: Work>(&'static self) {}
        pub(crate) fn trigger(&'static self) {
            machine().triggered.store(1, Ordering::Relaxed);
        }
        pub(crate) fn synchronize(&'static self) {}
    }
}

pub(crate) mod workqueue {
    //! Work.

    /// Something to do.
    pub(crate) trait Work {
        fn run();
    }
}

pub(crate) mod warn {
    //! Warnings, which make the model fail.

    /// Has the model fail, unless it is of a task that is not on the list any more: the transition
    /// does not know of those.
    pub(crate) fn warning(what: &std::ffi::CStr) {
        let machine = crate::machine::machine();
        if what != c"a function is in transition and the task has no state"
            || machine.is_listed(machine.current().as_ptr())
        {
            machine.fail(&format!("warning: {}", what.to_string_lossy()));
        }
    }

    macro_rules! warn_once {
        ($what:literal) => {
            crate::patch::warn::warning($what)
        };
    }
    pub(crate) use warn_once;
}
