// SPDX-License-Identifier: GPL-2.0

//! Moving every task, one by one, from the old code to the new.
//!
//! The protocol is the one of `Documentation/livepatch/livepatch.rst`: each task has a state,
//! unpatched or patched, that decides for all functions in transition at once, and it switches only
//! where it runs none of them.
//!
//! ```text
//!        init              start                try_complete: Complete      complete
//! none ────────► prepared ───────► in transition ────────────────────► done ────────► none
//!                    │                 │   ▲                                            ▲
//!                    │                 └───┘ reverse                                    │
//!                    └──────────────────────────── cancel ──────────────────────────────┘
//! ```
//!
//! A [`Transition`] does not know the registry: its methods get the patch and the interceptions
//! that they change, and [`Transition::try_complete`] returns what has to be done next.
//!
//! # Ways a task switches
//!
//! * It leaves the kernel, or an idle task goes through its loop: [`update_patch_state`].
//! * It does not run, and its stack shows none of the functions: [`Transition::try_complete`]. Most
//!   of these stacks need not be unwound ([`mod@crate::stack`]).
//! * It is about to sleep in `__schedule()`, and its stack shows none: [`sched_try_switch`]. This
//!   is how kernel threads that hardly ever sleep get there.
//! * It runs in the kernel, is interrupted for this, and its stack shows none: [`look`].
//! * It is the idle task of a CPU that is offline: at once.
//! * It is forked: it inherits its parent's state, [`copy_process`].
//!
//! # Contexts and concurrency
//!
//! The methods of [`Transition`] run in process context under the registry lock, which protects the
//! patches that they get. [`update_patch_state`], [`sched_try_switch`], [`look`] and
//! [`copy_process`] run without it at any time, for the current task, and so does the ftrace
//! handler. What keeps them apart:
//!
//! * A task's state is written by itself, or while it does not run (`task_call_func()`), or while
//!   no function is in transition. The exception is [`Transition::force`].
//! * A task switches only while `TIF_PATCH_PENDING` is set on it. That is set after the target in
//!   [`static@MIRROR`] has its value, and cleared on all tasks, followed by a wait for all CPUs,
//!   before the target is reversed.
//! * `copy_process` runs with `tasklist_lock` held for writing, so a new task is on the list with
//!   its parent's state, or not there yet, whenever we walk the list. A parent that switches before
//!   it copies makes a child in the new state.
//! * The list of tasks is walked in pieces, so tasks come and go after the walk has passed. A new
//!   task has its maker's state and pending flag, and is ahead of the walk if its maker has not
//!   been met; so a walk leaves nobody behind ([`mod@crate::pure::walk`]). If a pass could not
//!   switch a task, or has met its like, the transition goes on. Nothing but a pass ever completes
//!   it, and the target does not change during one, since both hold the registry lock.
//!
//! With `PREEMPT_RT`, holding `tasklist_lock` keeps the list as it is and `copy_process` out, but
//! does not disable preemption. Nothing here relies on that: what needs it has a
//! [`PreemptGuard`] of its own, such as the buffer for a stack, or the time between a look at a
//! pending flag and the switch, or between the copies of flag and state in [`copy_process`], where
//! a look must not come. Under the guard and under the scheduler's locks, only raw locks are
//! taken.
//!
//! # Tasks that do not stop running
//!
//! A pass cannot look at the stack of a task that runs. One that computes in user space on a
//! processor without a tick does not come into the kernel by itself; a kernel thread that does not
//! sleep may run at each pass, or be preempted in one of the functions, where most of its time
//! goes. So the processors of the tasks that were runnable and could not be switched are
//! interrupted at the end of the pass ([`Looks::start`]), and no others:
//!
//! * [`look`] examines the stack of the task that was interrupted. If none of the functions is on
//!   it, the task has switched. In user space, that is so unless one is part of the interrupt, and
//!   then the task switches on its way back ([`update_patch_state`]): its pending flag is set. No
//!   signal is sent and no system call ends.
//! * If one of the functions is on the stack, a timer of that processor has it looked at again,
//!   every 100 µs for 5 ms. A function that a kernel thread calls in a loop is hardly ever on the
//!   stack at all of them.
//!
//! The number of interrupts has a bound: one for each pass and processor, and in the first passes
//! those of the timer ([`Backoff::looks`]). The timers end by themselves when the transition does,
//! and are cancelled before the module goes, when [`Looks`] is dropped.
//!
//! A look is allowed in user space, and where the interrupted task could have been preempted: its
//! preemption counter is 0, and it is not in an interrupt or a softirq. Then its stack is what it
//! would be if it had been preempted at that instruction: the frames of the interrupt on top, below
//! them its registers, and its own frames. The reliable unwinder goes through both in the same way,
//! and a pass would let that task switch. So nothing is looked at in a handler, which has
//! preemption disabled, in `__schedule()`, in [`update_patch_state`] or in [`copy_process`]; and a
//! task on the way from a handler to a function is held back as in a pass ([`mod@crate::stack`]). A
//! kernel that does not count (without `PREEMPT_COUNT`) has no looks, only the interrupt of user
//! space. If the interrupt itself runs one of the functions, its frames are on the stack, and the
//! task waits.
//!
//! The task that is interrupted is the current one, so a look is the task itself writing its state,
//! like [`sched_try_switch`], and the barriers are the same. It takes no lock, and runs with
//! interrupts disabled, so that [`Transition::reverse`], which clears the pending flags and waits
//! for all processors, waits for looks too.
//!
//! # Who is left
//!
//! What users are told of a transition takes part in nothing above. [`remaining`] and [`is_left`]
//! read atomic variables, in any context and without the registry lock; [`mod@crate::blockers`]
//! looks at tasks as a pass does and changes nothing. Those who poll are woken by a pass and by the
//! registry, under its lock but no other. The events of [`mod@crate::klp::tracepoint`] are the only
//! thing of this kind in the ways by which tasks switch themselves; they come after the task has
//! its new state and while whoever completes the transition still waits for it.
//!
//! When a transition is not complete after an hour, and each day after that, the pass that finds
//! this warns of it ([`mod@crate::pure::stall`]). The module parameter `stall_warning`, in seconds,
//! is for those who want to know earlier; it is set when this module is loaded and not shown in
//! sysfs. A reversal starts the time anew, so there is no warning of a transition that is turned
//! round more often than that.
//!
//! # Tasks that exit
//!
//! A task on its way through `do_exit()` leaves the list before it stops running. It may have left
//! without having switched, and go on in the kernel for a moment in the old state, as with the C
//! core. The modules of patches that are disabled or replaced are released only when every task has
//! scheduled voluntarily or gone ([`crate::registry::release_modules`]); that covers such a task
//! unless it sleeps in a patched function after it has left the list, or waits for a spinlock there
//! with `PREEMPT_RT`. Nothing else waits for it: no handler uses the patches any more, and their
//! directories go at once.
//!
//! # Barriers
//!
//! * Tasks' states, written in [`Transition::init`], before transition flags: release in
//!   `Node::set_transition`. The handler reads the transition flag (acquire), then its task's
//!   state.
//! * The target, written in [`Transition::init`] and [`Transition::reverse`], transition flags, and
//!   what stacks are checked against, before pending flags: (A) write barrier when tasks are asked.
//!   [`update_patch_state`] reads the pending flag (test and clear, a full barrier), then the
//!   target; the handler, after it on the same CPU, reads the transition flag.
//!   [`sched_try_switch`] and [`look`] read the pending flag, then (B) read barrier, then the
//!   target and what the stack is checked against.
//! * Transition flags, written in [`Transition::init`], before replacements: release in
//!   `Slot::push`. The handler reads the top of the stack (acquire), then the transition flag.
//!
//! The C core has more of them, which these imply. `tools/testing/model` runs this file under a
//! model checker, and has a test that fails for each of these that is missing.

use crate::{
    kapi::{
        cpu::{
            self,
            CpusReadGuard,
            PreemptGuard, //
        },
        irq_work::StaticTrigger,
        looks::Looks,
        task::{
            self,
            Comm,
            TaskExt, //
        },
        warn::warn_once,
        workqueue::Work,
    },
    klp::{
        patch_state::{
            set_switch_in_schedule,
            PatchStateExt, //
        },
        tracepoint::{
            self,
            Way, //
        }, //
    },
    object::Object,
    obstacle::{
        self,
        Obstacle, //
    },
    ops::Ops,
    patch::Patch,
    pure::{
        backoff::{
            Backoff,
            Signal,
            Step, //
        },
        patch_state::{
            PatchId,
            PatchState,
            Target, //
        },
        stall::Stall,
        walk::Cost, //
    },
    stack::STACK_CHECK,
    state::{
        self,
        Previous, //
    },
    trace, //
};
use core::borrow::Borrow;
use kernel::{
    prelude::*,
    str::CString,
    sync::{
        atomic::{
            Acquire,
            Atomic,
            Full,
            Relaxed,
            Release, //
        },
        Arc, //
    },
    task::{
        Pid,
        Task, //
    },
    time::{
        Instant,
        Monotonic, //
    },
};

/// The part of the transition that code without the registry lock sees.
struct Mirror {
    /// The patch in transition.
    patch: Atomic<u64>,
    /// The state that tasks switch to; [`PatchState::Idle`] while there is no transition.
    target: Atomic<i32>,
}

static MIRROR: Mirror = Mirror {
    patch: Atomic::new(PatchId::NONE.as_u64()),
    target: Atomic::new(PatchState::Idle.as_raw()),
};

impl Mirror {
    /// Sets both. No task has a pending flag, so none looks at the target.
    fn set(&self, patch: PatchId, target: PatchState) {
        // ORDERING: Has no effect before the pending flags are set, see (A).
        self.target.store(target.as_raw(), Relaxed);
        // ORDERING: Who sees the patch sees what `remaining` counts from; pairs with the load in
        // `is_of`. Nobody decides by it without the registry lock.
        self.patch.store(patch.as_u64(), Release);
    }

    /// The state that tasks switch to.
    fn target(&self) -> PatchState {
        // ORDERING: The caller holds the registry lock, or has read the pending flag and passed the
        // barrier that belongs to it, or wants a snapshot.
        PatchState::from_raw(self.target.load(Relaxed))
    }
}

/// Whether the patch is in transition. Any context; a snapshot.
pub(crate) fn is_of(id: PatchId) -> bool {
    // ORDERING: Pairs with the store in `Mirror::set`.
    MIRROR.patch.load(Acquire) == id.as_u64()
}

/// Whether a patch is in transition. Any context; a snapshot.
pub(crate) fn is_running() -> bool {
    !is_of(PatchId::NONE)
}

/// Whether `task` still has to switch in the transition of this patch. Any context; a snapshot.
pub(crate) fn is_left(id: PatchId, task: &Task) -> bool {
    let state = task.patch_state();
    // `Idle` if the transition has ended since.
    let target = MIRROR.target();
    is_of(id) && target != PatchState::Idle && state != PatchState::Idle && state != target
}

/// How many tasks still have to switch in the transition of this patch; 0 if it is not in
/// transition. Any context; a snapshot.
///
/// These are the tasks that the last pass left (before the first one, those that have to switch)
/// without those that have switched themselves since. Tasks that were forked or have exited since
/// are accounted for by the next pass, at most a second later. While the transition is being turned
/// round, the number may be that of the other direction. While there is a transition, it is at
/// least 1: nothing but a pass knows that none is left.
pub(crate) fn remaining(id: PatchId) -> usize {
    if !is_of(id) {
        return 0;
    }
    // ORDERING: Any answer is as good as another without the registry lock.
    let left = NONE_LEFT_AT
        .load(Relaxed)
        .wrapping_sub(SELF_SWITCHED.load(Relaxed));
    (left as isize).max(1) as usize
}

/// How many tasks have switched themselves, ever.
static SELF_SWITCHED: Atomic<usize> = Atomic::new(0);

/// The value of [`SELF_SWITCHED`] at which [`remaining`] comes to 0. Unlike [`WAKE_AT`], which must
/// not be too large, it must not be too small: it does not take a task for two that switches itself
/// during a pass before that gets to it.
static NONE_LEFT_AT: Atomic<usize> = Atomic::new(0);

/// Sets what [`remaining`] counts from: `left` tasks when [`SELF_SWITCHED`] was `switched`.
fn set_remaining(switched: usize, left: usize) {
    // ORDERING: Any answer is as good as another for those who read it.
    NONE_LEFT_AT.store(switched.wrapping_add(left), Relaxed);
}

/// The value of [`SELF_SWITCHED`] at which the tasks that the last pass could not switch have all
/// switched themselves, as far as is known: tasks may be forked or exit meanwhile. So it only tells
/// when another pass is worth it. Until the first pass of a direction, one that cannot be reached.
static WAKE_AT: Atomic<usize> = Atomic::new(0);

/// The static of this module that needs unsafe code.
#[allow(unsafe_code)]
mod last_switch {
    use super::*;

    /// Has another pass made: the last task that a pass could not switch has switched itself.
    // SAFETY: `init_last_switch` initialises it before anything uses it.
    pub(super) static LAST_SWITCH: StaticTrigger = unsafe { StaticTrigger::uninit() };

    /// Sets what happens, in an interrupt, when the last task has switched itself.
    ///
    /// # Safety
    ///
    /// Must be called once, before anything else in [`crate::transition`].
    pub(crate) unsafe fn init_last_switch<W: Work>() {
        // SAFETY: Called once and first, by the safety requirements.
        unsafe { LAST_SWITCH.init::<W>() };
    }
}
pub(crate) use last_switch::init_last_switch;
use last_switch::LAST_SWITCH;

/// Waits until what [`init_last_switch`] set does not run. Sleeps. No task may be switching any
/// more.
pub(crate) fn synchronize_last_switch() {
    LAST_SWITCH.synchronize();
}

/// When the tasks that a pass could not switch will all have switched themselves.
#[must_use]
pub(crate) struct WakeAt(usize);

impl WakeAt {
    /// From here on the last task has another pass made. Returns whether it has switched already.
    pub(crate) fn arm(self) -> bool {
        // ORDERING: Full, as in `note_switched`: either that sees this value, or we see what it has
        // counted.
        WAKE_AT.xchg(self.0, Full);
        self.0.wrapping_sub(SELF_SWITCHED.load(Relaxed)) as isize <= 0
    }
}

/// Result of a pass over the tasks.
pub(crate) enum Progress {
    /// All tasks have switched: [`Transition::complete`] is next.
    Complete,
    /// Some have not. They may have to be signalled, and are to be looked at again.
    Remaining(Step, WakeAt),
}

/// A transition that goes on.
pub(crate) struct Transition {
    target: Target,
    backoff: Backoff,
    stall: Stall,
    /// When it started or was reversed.
    start: Instant<Monotonic>,
    /// How many tasks the last pass left or, before the first one, were asked to switch. Those who
    /// poll know this number, unless they have read again since.
    left: usize,
}

/// The tasks that a pass could not switch.
struct Left {
    /// How many there are, 1 at least.
    count: usize,
    /// The first one, for a message.
    comm: Comm,
    pid: Pid,
    /// Whether one of them was runnable.
    busy: bool,
}

impl Left {
    /// Adds `task` to what has been found.
    fn add<'a>(found: &'a mut Option<Self>, task: &Task) -> &'a mut Self {
        let left = found.get_or_insert_with(|| Self {
            count: 0,
            comm: task.comm(),
            pid: task.pid(),
            busy: false,
        });
        left.count += 1;
        left
    }
}

/// Returns a watch over a transition that starts now.
fn new_stall() -> Stall {
    // A reference to the value or the value itself, depending on the kernel's release.
    let first_s = crate::module_parameters::stall_warning.value();
    Stall::new(*Borrow::<u32>::borrow(&first_s))
}

/// Calls `f` for every task there is, idle tasks too. Sleeps, `f` must not.
fn for_each_task(mut f: impl FnMut(&Task)) {
    task::for_each(|task, (): &mut ()| {
        f(task);
        Cost::Light
    });
    cpu::possible_cpus().for_each(|cpu| f(task::idle(cpu)));
}

/// Calls `f` for every task there is, idle tasks too, and returns for how many it was true. Sleeps,
/// `f` must not.
fn count_tasks(mut f: impl FnMut(&Task) -> bool) -> usize {
    let count: usize = task::for_each(|task, count| {
        *count += usize::from(f(task));
        Cost::Light
    });
    let idle = cpu::possible_cpus().filter(|cpu| f(task::idle(*cpu)));
    count + idle.count()
}

impl Transition {
    /// Prepares a transition of `patch`: all tasks get the state that they are in, and functions of
    /// the patch ask for it.
    ///
    /// When patching, the functions become visible to the handler only afterwards; when unpatching,
    /// they are already.
    #[doc(alias = "klp_init_transition")]
    pub(crate) fn init(patch: &mut Patch, target: Target) -> Self {
        Previous::publish(&mut patch.previous);
        trace::initializing(patch.name(), target.verb());

        let initial = target.reversed().state();
        let left = count_tasks(|task| {
            // A child of a task that has been here before has its state already.
            let state = task.patch_state();
            if state != PatchState::Idle && state != initial {
                warn_once!(c"a task has a state outside a transition");
            }
            task.set_patch_state(initial);
            true
        });
        // ORDERING: Nobody switches yet.
        set_remaining(SELF_SWITCHED.load(Relaxed), left);
        MIRROR.set(patch.id(), target.state());

        // ORDERING: The flags come after tasks' states, by the release in `Node::set_transition`:
        // the handler must not find a function in transition and a task without a state.
        patch.set_transition(true);
        Self {
            target,
            backoff: Backoff::default(),
            stall: new_stall(),
            start: Instant::now(),
            left,
        }
    }

    /// Lets tasks switch.
    #[doc(alias = "klp_start_transition")]
    pub(crate) fn start(&mut self, patch: &mut Patch, ops: &Ops) {
        tracepoint::transition_start(patch.name(), self.target);
        self.ask_tasks(patch, ops);
    }

    /// Asks all tasks that are not where the transition goes to switch.
    fn ask_tasks(&mut self, patch: &mut Patch, ops: &Ops) {
        self.backoff = Backoff::default();
        self.stall = new_stall();
        self.start = Instant::now();
        pr_notice!(
            "'{}': starting {} transition\n",
            patch.name(),
            self.target.verb()
        );
        // ORDERING: Nobody switches, and whoever does later has seen his flag; pairs with the load
        // in `note_switched`, by barrier (A).
        WAKE_AT.store(SELF_SWITCHED.load(Relaxed).wrapping_sub(1), Relaxed);
        self.update_stack_check(patch, ops);

        // ORDERING: Barrier (A): the target, transition flags, and what stacks are checked against,
        // before pending flags: a task that has switched in `update_patch_state` and then calls a
        // function must see that it is in transition. Pairs with the full barrier there and with
        // (B).
        cpu::write_barrier();

        // ORDERING: Before any task is asked, so that all that switch themselves are subtracted.
        let switched = SELF_SWITCHED.load(Relaxed);
        self.left = count_tasks(|task| {
            let has_to_switch = task.patch_state() != self.target.state();
            if has_to_switch {
                task.set_pending();
            }
            has_to_switch
        });
        set_remaining(switched, self.left);
        set_switch_in_schedule(true);
    }

    /// Makes the list that stacks are checked against anew: a module has come or gone.
    pub(crate) fn update_stack_check(&self, patch: &mut Patch, ops: &Ops) {
        let check = patch.stack_check(ops, self.target);
        patch.reclaim(STACK_CHECK.replace(check));
    }

    /// Tries to switch all remaining tasks, and returns what to do next.
    #[doc(alias = "klp_try_complete_transition")]
    pub(crate) fn try_complete(&mut self, patch: &Patch, looks: &Looks) -> Progress {
        // ORDERING: Before any task is looked at, so that one that switches itself meanwhile
        // counts, and one that is counted is seen to have switched; pairs with `note_switched`.
        let switched = SELF_SWITCHED.load(Acquire);
        let mut found = task::for_each(|task, found| {
            let attempt = try_switch(task, Way::Stack);
            match attempt {
                // A task that was asked through its maker, and switched itself just before it was
                // asked again. The next transition must not find it asked.
                Attempt::Before if task.is_pending() => task.clear_pending(),
                Attempt::Before | Attempt::Now => (),
                Attempt::Failed => {
                    let left = Left::add(found, task);
                    if task.is_runnable() {
                        looks.want(task);
                        left.busy = true;
                    }
                }
            }
            match attempt {
                Attempt::Before => Cost::Light,
                Attempt::Now | Attempt::Failed => Cost::Heavy,
            }
        });

        let cpus = CpusReadGuard::new();
        for cpu in cpu::possible_cpus() {
            let task = task::idle(cpu);
            if !cpus.is_online(cpu) {
                // It does not run, and cannot start to.
                if task.patch_state() != self.target.state() {
                    task.clear_pending();
                    task.set_patch_state(self.target.state());
                    tracepoint::task_switched(task, Way::Offline);
                }
            } else if try_switch(task, Way::Stack) == Attempt::Failed {
                Left::add(&mut found, task);
                cpus.wake_if_idle(cpu);
            }
        }
        drop(cpus);

        let shown = remaining(patch.id());
        let count = found.as_ref().map_or(0, |left| left.count);
        // ORDERING: After the last task was looked at: those that were left and have switched
        // themselves meanwhile stay in the number until the next pass.
        set_remaining(SELF_SWITCHED.load(Relaxed), count);
        let Some(left) = found else {
            set_switch_in_schedule(false);
            return Progress::Complete;
        };
        if left.count != self.left || left.count != shown {
            self.left = left.count;
            patch.notify_remaining();
        }
        let elapsed = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(0);
        if self.stall.is_due(elapsed) {
            pr_warn!(
                "'{}': {} transition not complete for more than {} seconds; tasks left: {}, first: \
                 {}:{}\n",
                patch.name(),
                self.target.verb(),
                elapsed / 1_000,
                left.count,
                left.comm.as_cstr(),
                left.pid
            );
        }
        if left.busy {
            looks.start(&CpusReadGuard::new(), self.backoff.looks());
        }
        Progress::Remaining(
            self.backoff.step(elapsed),
            WakeAt(switched.wrapping_add(left.count)),
        )
    }

    /// Cleans up when all tasks have switched, and calls the patch back. `older` are the patches
    /// below.
    #[doc(alias = "klp_complete_transition")]
    pub(crate) fn complete(self, older: &mut [KBox<Patch>], patch: &mut Patch, ops: &mut Ops) {
        let (target, start) = (self.target, self.start);
        self.clean_up(older, patch, ops);
        tracepoint::transition_complete(patch.name(), target, start.elapsed());
    }

    /// Does what [`Self::complete`] and [`Self::cancel`] have in common.
    fn clean_up(self, older: &mut [KBox<Patch>], patch: &mut Patch, ops: &mut Ops) {
        trace::completing(patch.name(), self.target.verb());

        match self.target {
            Target::Patched if patch.replaces() => {
                for old in older {
                    old.set_enabled(false);
                    old.unpatch(ops);
                }
                // Everybody runs the original code, or nops that hid the replaced patches.
                patch.discard_nops(ops);
            }
            Target::Patched => (),
            // Returns when no handler can see the functions any more. Otherwise one might choose a
            // function that is gone, once the transition flag is off.
            Target::Unpatched => patch.unpatch(ops),
        }
        patch.set_transition(false);

        // Waits for handlers that have seen the transition flag: they must not find a task without
        // a state. Also for tasks that are switching themselves right now.
        match STACK_CHECK.replace(None) {
            Some(check) => patch.reclaim(Some(check)),
            // Cancelled before it started: nobody asked the tasks, but handlers ran.
            None => cpu::synchronize_all(),
        }

        for_each_task(|task| {
            if task.is_pending() {
                warn_once!(c"a task is still to switch after the transition");
            }
            task.set_patch_state(PatchState::Idle);
        });

        let loaded = patch.objects.iter_mut().filter(|object| object.is_loaded());
        match self.target {
            Target::Patched => loaded.for_each(Object::post_patch),
            Target::Unpatched => loaded.for_each(Object::post_unpatch),
        }

        if let Some(previous) = state::unpublish() {
            patch.previous = Some(previous);
        }

        pr_notice!("'{}': {} complete\n", patch.name(), self.target.verb());
        MIRROR.set(PatchId::NONE, PatchState::Idle);
    }

    /// Gives up between [`Self::init`] and [`Self::start`], when no task has been asked to switch:
    /// all run old code.
    #[doc(alias = "klp_cancel_transition")]
    pub(crate) fn cancel(mut self, patch: &mut Patch, ops: &mut Ops) {
        trace::canceling(patch.name());
        self.target = Target::Unpatched;
        // ORDERING: Nobody switches.
        set_remaining(SELF_SWITCHED.load(Relaxed), 0);
        MIRROR.set(patch.id(), self.target.state());
        self.clean_up(&mut [], patch, ops);
    }

    /// Turns the transition round.
    #[doc(alias = "klp_reverse_transition")]
    pub(crate) fn reverse(&mut self, patch: &mut Patch, ops: &Ops) {
        let target = self.target.reversed();
        trace::reversing(patch.name(), self.target.verb(), target.verb());

        // Nobody may switch while the target changes. Those that have seen their flag are waited
        // for.
        for_each_task(|task| task.clear_pending());
        cpu::synchronize_all();

        self.target = target;
        patch.set_enabled(target == Target::Patched);
        // ORDERING: Before the pending flags, by barrier (A).
        MIRROR.set(patch.id(), target.state());

        tracepoint::transition_reverse(patch.name(), target);
        self.ask_tasks(patch, ops);
    }

    /// Switches all remaining tasks, wherever they are. The administrator's risk.
    ///
    /// Returns the target, which tells whose code may still be running.
    #[doc(alias = "klp_force_transition")]
    pub(crate) fn force(&self) -> Target {
        pr_warn!("forcing remaining tasks to the patched state\n");
        for_each_task(|task| switch_pending(task, Way::Force));
        self.target
    }
}

/// Result of an attempt to switch a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Attempt {
    /// It had switched before.
    Before,
    /// It has switched now.
    Now,
    /// It has not switched.
    Failed,
}

/// Tries to switch a task by its stack, and says in a debug message why it could not.
#[doc(alias = "klp_try_switch_task")]
fn try_switch(task: &Task, way: Way) -> Attempt {
    let preempt = PreemptGuard::new();
    match attempt(task, way, &preempt) {
        Ok(attempt) => return attempt,
        Err(Obstacle::Running) => trace::running(task),
        Err(Obstacle::Unreliable) => trace::unreliable(task),
        Err(Obstacle::Function(name)) => trace::sleeping_on(task, name),
        Err(Obstacle::NotTried) => (),
        Err(Obstacle::Unknown(errno)) => trace::unknown(task, errno),
    }
    Attempt::Failed
}

/// Tries to switch a task by its stack.
fn attempt<'a>(
    task: &Task,
    way: Way,
    preempt: &'a PreemptGuard,
) -> Result<Attempt, Obstacle<&'a Arc<CString>>> {
    let target = MIRROR.target();
    if task.patch_state() == target {
        return Ok(Attempt::Before);
    }
    obstacle::examine(task, preempt, |task| {
        task.clear_pending();
        task.set_patch_state(target);
    })?;
    tracepoint::task_switched(task, way);
    Ok(Attempt::Now)
}

/// Gets tasks to move: user tasks leave the kernel as if they had a signal, kernel threads wake up.
///
/// A task may switch itself between the look at its flag and the nudge, which then is for nothing
/// and does no harm.
#[doc(alias = "klp_send_signals")]
pub(crate) fn send_signals(signal: Signal) {
    if signal == Signal::First {
        pr_notice!("signaling remaining tasks\n");
    }
    task::for_each(|task, (): &mut ()| {
        let pending = task.is_pending();
        if pending {
            tracepoint::signal(task);
            if task.is_kthread() {
                task.wake_interruptible();
            } else {
                task.notify();
            }
        }
        if pending {
            Cost::Heavy
        } else {
            Cost::Light
        }
    });
}

/// Switches `task`, the current one, which leaves the kernel or goes through its idle loop, if it
/// still has to. Any context.
#[doc(alias = "klp_update_patch_state")]
pub(crate) fn update_patch_state(task: &Task) {
    // Idle tasks are the only ones without a PID.
    let way = if task.pid() == 0 {
        Way::Idle
    } else {
        Way::UserExit
    };
    switch_pending(task, way);
}

/// Switches `task` if it still has to. Any context; `task` is the current one, but in
/// [`Transition::force`].
fn switch_pending(task: &Task, way: Way) {
    // Whoever changes the target waits for us by this.
    let _preempt = PreemptGuard::new();

    // ORDERING: A full barrier if the flag was set: the target is read after the flag, and so is a
    // transition flag, by a handler that runs later on this CPU; pairs with (A).
    if task.test_and_clear_pending() {
        task.set_patch_state(MIRROR.target());
        // While the guard is held, so that it comes before the event of the completion.
        tracepoint::task_switched(task, way);
        note_switched();
    }
}

/// Counts a task that has switched itself, and has another pass made when it may have been the last
/// one. Any context.
fn note_switched() {
    // ORDERING: Full, so that either this sees what `WakeAt::arm` waits for, or that sees this
    // task.
    let switched = SELF_SWITCHED.fetch_add(1, Full).wrapping_add(1);
    if switched == WAKE_AT.load(Relaxed) {
        LAST_SWITCH.trigger();
    }
}

/// Switches the current task, which is about to be scheduled out in `__schedule()`, if its stack
/// allows.
///
/// Preemption is disabled, and no lock can be taken. Others cannot switch the task meanwhile, since
/// it runs.
#[doc(alias = "__klp_sched_try_switch")]
pub(crate) fn sched_try_switch() {
    task::with_current(|task| {
        if task.is_pending() {
            // ORDERING: Barrier (B): the target, and what the stack is checked against, are read
            // after the flag; pairs with (A).
            cpu::read_barrier();
            if try_switch(task, Way::Schedule) == Attempt::Now {
                note_switched();
            }
        }
    });
}

/// Result of a look at what runs on a CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// There is no transition.
    Over,
    /// The task has switched now.
    Switched,
    /// The task could not switch, or did not have to: another one may.
    Again,
}

/// Switches the current task, which has been interrupted in user space or where it could have been
/// preempted, if its stack allows.
///
/// In a hard interrupt.
pub(crate) fn look() -> Look {
    if !is_running() {
        return Look::Over;
    }
    task::with_current(|task| {
        if !task.is_pending() {
            return Look::Again;
        }
        // ORDERING: Barrier (B): the target, and what the stack is checked against, are read after
        // the flag; pairs with (A).
        cpu::read_barrier();
        let preempt = PreemptGuard::new();
        if matches!(attempt(task, Way::Interrupt, &preempt), Ok(Attempt::Now)) {
            note_switched();
            Look::Switched
        } else {
            Look::Again
        }
    })
}

/// Gives `child`, which is being forked by the current task, its parent's state.
///
/// `tasklist_lock` is held for writing, so nothing but the parent itself changes the parent's
/// state; and it does so on its way out of the kernel or to sleep, so not here, even if it is
/// preempted, which happens with `PREEMPT_RT`. Nor does an interrupt, since preemption is disabled.
#[doc(alias = "klp_copy_process")]
pub(crate) fn copy_process(child: &Task) {
    let _preempt = PreemptGuard::new();
    task::with_current(|parent| {
        // The flag was copied earlier; the parent may have switched since.
        if parent.is_pending() {
            child.set_pending();
        } else {
            child.clear_pending();
        }
        child.set_patch_state(parent.patch_state());
    });
}
