// SPDX-License-Identifier: GPL-2.0

//! Moving every task, one by one, from the old code to the new.
//!
//! The protocol is the one of `Documentation/livepatch/livepatch.rst`: each task has a state, unpatched or patched, that
//! decides for all functions in transition at once, and it switches only where it runs none of them.
//!
//! ```text
//!         init            start                         try_complete / the tasks themselves
//! idle ──────────► ready ───────► in transition ────────────────────────────────► idle
//!                    │                 │   ▲                                        ▲
//!                    │                 └───┘ reverse                                │
//!                    └─────────────────── cancel ───────────────────────────────────┘
//! ```
//!
//! # Ways a task switches
//!
//! * It leaves the kernel, or an idle task goes through its loop: [`update_patch_state`].
//! * It sleeps, and its stack shows none of the functions: [`try_complete`].
//! * It is about to sleep in `__schedule()`, and its stack shows none: [`sched_try_switch`]. This is how kernel threads
//!   that hardly ever sleep get there.
//! * It is the idle task of a CPU that is offline: at once.
//! * It is forked: it inherits its parent's state, [`copy_process`].
//!
//! # Contexts and concurrency
//!
//! `init`, `start`, `try_complete`, `cancel`, `reverse`, `force` and `refresh` run in process context under the
//! registry's lock, which the `&mut Guard` shows. [`update_patch_state`], [`sched_try_switch`] and [`copy_process`] run
//! without it at any time, for the current task, and so does the ftrace handler. What keeps them apart:
//!
//! * A task's state is written by itself, or while it does not run (`task_call_func()`), or while no function is in
//!   transition. The exception is [`force`].
//! * A task switches only while `TIF_PATCH_PENDING` is set on it. That is set after [`TARGET`] has its value, and
//!   cleared on all tasks, followed by a wait for all CPUs, before [`TARGET`] is reversed.
//! * `copy_process` runs with `tasklist_lock` held for writing, so a new task is on the list with its parent's state, or
//!   not there yet, whenever we walk the list. A parent that switches before it copies makes a child in the new state.
//! * The list of tasks is walked in pieces, so tasks come and go behind the walk. A new task has its maker's state and
//!   pending flag, and is ahead of the walk if its maker has not been met; so a walk leaves nobody behind
//!   ([`crate::walk`]). If a pass could not switch a task, or has met its like, the transition goes on. Nothing but a pass
//!   ever completes it, and the target does not change during one, since both hold the registry's lock.
//!
//! # Tasks that exit
//!
//! A task on its way through `do_exit()` leaves the list before it stops running. It may have left without having
//! switched, and go on in the kernel for a moment in the old state, as with the C core. What it could run is not freed
//! under it: patches that are disabled or replaced are released only when every task has scheduled voluntarily or gone
//! ([`crate::registry::bury`]).
//!
//! | write | barrier | read |
//! | --- | --- | --- |
//! | tasks' states, in `init` | (A) write barrier in `init`, then release in `Node::set_transition` | the handler: transition flag (acquire), then its task's state |
//! | [`TARGET`], in `init` and `reverse` | (A), (B) write barrier in `reverse` | `update_patch_state`: pending flag (test and clear, full barrier), then [`TARGET`]; `sched_try_switch`: pending flag, (C) read barrier, then [`TARGET`] |
//! | transition flags, in `init` | (D) write barrier in `start`, before the pending flags | the handler after `update_patch_state` on the same CPU: the test and clear orders its read of the transition flag |
//! | transition flags, in `init` | release in `Slot::push` | the handler: top of the stack (acquire), then transition flag |

#![deny(unsafe_code)]

use crate::{
    kapi::{
        cpu::{
            self,
            CpusReadGuard,
            PreemptGuard, //
        },
        task::{
            self,
            TaskExt, //
        },
        warn::warn_once,
    },
    object::Object,
    pace::{
        Pace,
        Signal, //
    },
    registry::{
        Guard,
        PatchId,
        Registry, //
    },
    stack::FORBIDDEN,
    state::{
        self,
        Previous, //
    },
    table::{
        IDLE,
        PATCHED,
        UNPATCHED, //
    },
    trace,
    walk::Effort, //
};
use kernel::{
    ffi::c_int,
    prelude::*,
    sync::atomic::{
        Atomic,
        Full,
        Relaxed, //
    },
    task::Task,
    time::{
        msecs_to_jiffies,
        Instant,
        Monotonic, //
    },
};

/// Where a transition goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// Tasks stop using the patch.
    Unpatched,
    /// Tasks start to use the patch.
    Patched,
}

impl Target {
    /// The state of a task that has arrived.
    fn state(self) -> i32 {
        match self {
            Target::Unpatched => UNPATCHED,
            Target::Patched => PATCHED,
        }
    }

    fn reversed(self) -> Self {
        match self {
            Target::Unpatched => Target::Patched,
            Target::Patched => Target::Unpatched,
        }
    }

    /// For messages.
    fn verb(self) -> &'static str {
        match self {
            Target::Unpatched => "unpatching",
            Target::Patched => "patching",
        }
    }
}

/// The state that tasks switch to; [`IDLE`] while there is no transition.
static TARGET: Atomic<i32> = Atomic::new(IDLE);

/// The patch in transition, 0 if there is none.
static PATCH: Atomic<u64> = Atomic::new(0);

/// How many tasks have switched themselves, ever.
static ARRIVALS: Atomic<usize> = Atomic::new(0);

/// The value of [`ARRIVALS`] at which the tasks that the last pass left behind have all switched themselves, as far as is
/// known: tasks may be forked or exit meanwhile. So it only says when another pass is worth it.
static AWAITED: Atomic<usize> = Atomic::new(0);

/// The transition that goes on.
pub(crate) struct Transition {
    target: Target,
    pace: Pace,
    start: Instant<Monotonic>,
}

/// Whether the patch is in transition. Any context; a snapshot, unless the registry's lock is held.
pub(crate) fn is_of(id: PatchId) -> bool {
    // ORDERING: none needed: under the lock nobody writes, without it any answer is as good.
    PATCH.load(Relaxed) == id
}

/// Calls `f` for every task there is, idle tasks too. Sleeps, `f` must not.
fn for_each_task(mut f: impl FnMut(&Task)) {
    task::for_each(|task| {
        f(task);
        Effort::Light
    });
    cpu::possible_cpus().for_each(|cpu| f(task::idle(cpu)));
}

/// Prepares a transition: all tasks get the state that they are in, and functions of the patch ask for it.
///
/// When patching, the functions become visible to the handler only afterwards; when unpatching, they are already.
#[doc(alias = "klp_init_transition")]
pub(crate) fn init(registry: &mut Guard, id: PatchId, target: Target) {
    kernel::warn_on!(registry.transition.is_some());
    registry.transition = Some(Transition {
        target,
        pace: Pace::default(),
        start: Instant::now(),
    });
    if let Some(patch) = registry.patch_mut(id) {
        Previous::publish(&mut patch.previous);
    }
    // ORDERING: no effect before the pending flags are set, see (A).
    PATCH.store(id, Relaxed);
    // ORDERING: as above.
    TARGET.store(target.state(), Relaxed);
    trace::initializing(registry.name_of(id), target.verb());

    let initial = target.reversed().state();
    for_each_task(|task| {
        // Forked by one that has been here before, perhaps.
        let state = task.patch_state();
        if state != IDLE && state != initial {
            warn_once(c"a task has a state outside a transition");
        }
        task.set_patch_state(initial);
    });

    // ORDERING: (A) tasks' states before transition flags: the handler must not find a function in transition and a
    // task without a state. And the target before pending flags. Pairs with the acquire load of the transition flag in
    // `Slot::select`, with the full barrier in `update_patch_state` and with (C).
    cpu::write_barrier();

    if let Some(patch) = registry.patch(id) {
        patch.set_transition(true);
    }
}

/// Lets tasks switch.
#[doc(alias = "klp_start_transition")]
pub(crate) fn start(registry: &mut Guard) {
    let id = PATCH.load(Relaxed);
    let Some(transition) = &mut registry.transition else {
        kernel::warn_on!(true);
        return;
    };
    transition.pace = Pace::default();
    transition.start = Instant::now();
    let target = transition.target;
    pr_notice!(
        "'{}': starting {} transition\n",
        registry.name_of(id),
        target.verb()
    );
    publish_forbidden(registry);

    // ORDERING: (D) transition flags, and what stacks are checked against, before pending flags: a task that has switched
    // in `update_patch_state` and then calls a function must see that it is in transition. Pairs with the full barrier
    // there and with (C).
    cpu::write_barrier();

    for_each_task(|task| {
        if task.patch_state() != target.state() {
            task.set_pending();
        }
    });
    task::set_switch_in_schedule(true);
}

/// Makes the list that stacks are checked against anew: a module has come or gone.
pub(crate) fn refresh(registry: &mut Guard) {
    if registry.transition.is_some() {
        publish_forbidden(registry);
    }
}

fn publish_forbidden(registry: &mut Guard) {
    let id = PATCH.load(Relaxed);
    let Registry {
        patches,
        transition,
        engine,
        ..
    } = &mut **registry;
    let patch = patches.iter_mut().find(|patch| patch.id() == id);
    if let (Some(patch), Some(transition), Some(engine)) = (patch, transition, engine) {
        let list = patch.forbidden(&engine.ops, transition.target);
        patch.reclaim(FORBIDDEN.replace(list));
    }
}

/// What came of an attempt to switch a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Attempt {
    /// It had switched before.
    Before,
    /// It has switched now.
    Now,
    /// It has not switched.
    Failed,
}

/// Why a task does not switch.
enum Obstacle<'a> {
    Running,
    Unreliable,
    Function(&'a CStr),
}

/// Tries to switch a task by its stack.
#[doc(alias = "klp_try_switch_task")]
fn try_switch(task: &Task) -> Attempt {
    // ORDERING: the caller holds the registry's lock, or has read the pending flag and passed (C).
    let target = TARGET.load(Relaxed);
    if task.patch_state() == target {
        return Attempt::Before;
    }
    // Without reliable stacks, tasks switch only on their way out of the kernel.
    if !task::have_reliable_stacks() {
        return Attempt::Failed;
    }

    let preempt = PreemptGuard::new();
    let Some(forbidden) = FORBIDDEN.get(&preempt) else {
        return Attempt::Failed;
    };
    let is_current = task::with_current(|current| current == task);
    let mut obstacle = None;
    let attempt = |task: &Task| -> c_int {
        let found = if task.is_running() && !is_current {
            Some(Obstacle::Running)
        } else {
            match task::with_stack(task, &preempt, |stack| forbidden.find(stack)) {
                None => Some(Obstacle::Unreliable),
                Some(Some(name)) => Some(Obstacle::Function(name)),
                Some(None) => None,
            }
        };
        if found.is_some() {
            obstacle = found;
            return EAGAIN.to_errno();
        }
        task.clear_pending();
        task.set_patch_state(target);
        0
    };
    let errno = if is_current {
        let mut attempt = attempt;
        attempt(task)
    } else {
        task::call_on(task, attempt)
    };

    if errno == 0 {
        return Attempt::Now;
    }
    match obstacle {
        Some(Obstacle::Running) => trace::running(task),
        Some(Obstacle::Unreliable) => trace::unreliable(task),
        Some(Obstacle::Function(name)) => trace::sleeping_on(task, name),
        None => trace::unknown(task, errno),
    }
    Attempt::Failed
}

/// Tries to switch all remaining tasks. Completes the transition if none is left, else arranges for another pass.
#[doc(alias = "klp_try_complete_transition")]
pub(crate) fn try_complete(registry: &mut Guard) {
    let Some(target) = registry
        .transition
        .as_ref()
        .map(|transition| transition.target)
    else {
        return;
    };

    // ORDERING: before any task is looked at, so that one that switches itself meanwhile counts; see `arrive`.
    let arrivals = ARRIVALS.load(Relaxed);
    let mut left = 0;
    task::for_each(|task| match try_switch(task) {
        Attempt::Before => Effort::Light,
        Attempt::Now => Effort::Heavy,
        Attempt::Failed => {
            left += 1;
            Effort::Heavy
        }
    });

    let cpus = CpusReadGuard::new();
    for cpu in cpu::possible_cpus() {
        let task = task::idle(cpu);
        if !cpus.is_online(cpu) {
            // It does not run, and cannot start to.
            if task.patch_state() != target.state() {
                task.clear_pending();
                task.set_patch_state(target.state());
            }
        } else if try_switch(task) == Attempt::Failed {
            left += 1;
            cpus.wake_if_idle(cpu);
        }
    }
    drop(cpus);

    if left > 0 {
        retry(registry);
        let awaited = arrivals.wrapping_add(left);
        // ORDERING: full, as in `arrive`: either that sees this value, or we see what it has counted.
        AWAITED.xchg(awaited, Full);
        if awaited.wrapping_sub(ARRIVALS.load(Relaxed)) as isize <= 0 {
            crate::PASS.run_now();
        }
        return;
    }

    task::set_switch_in_schedule(false);
    let id = PATCH.load(Relaxed);
    self::complete(registry);
    registry.retire_after(id);
}

/// Signals the remaining tasks if it is time to, and arranges for another pass.
fn retry(registry: &mut Guard) {
    let Registry {
        transition, engine, ..
    } = &mut **registry;
    let (Some(transition), Some(engine)) = (transition, engine) else {
        return;
    };
    let elapsed = u64::try_from(transition.start.elapsed().as_millis()).unwrap_or(0);
    let step = transition.pace.step(elapsed);
    if let Some(signal) = step.signal {
        send_signals(signal);
    }
    let delay = u32::try_from(step.retry_ms).unwrap_or(u32::MAX);
    crate::PASS.run_after(&engine.queue, msecs_to_jiffies(delay));
}

/// Gets tasks to move: user tasks leave the kernel as if they had a signal, kernel threads wake up.
///
/// A task may switch itself between the look at its flag and the nudge, which then is for nothing and does no harm.
#[doc(alias = "klp_send_signals")]
fn send_signals(signal: Signal) {
    if signal == Signal::First {
        pr_notice!("signaling remaining tasks\n");
    }
    task::for_each(|task| {
        if !task.is_pending() {
            return Effort::Light;
        }
        if task.is_kthread() {
            task.wake_interruptible();
        } else {
            task.notify();
        }
        Effort::Heavy
    });
}

/// All tasks have arrived: cleans up.
#[doc(alias = "klp_complete_transition")]
fn complete(registry: &mut Guard) {
    let id = PATCH.load(Relaxed);
    let Some(target) = registry
        .transition
        .as_ref()
        .map(|transition| transition.target)
    else {
        return;
    };
    trace::completing(registry.name_of(id), target.verb());

    let Some(index) = registry.position(id) else {
        kernel::warn_on!(true);
        return;
    };
    let Registry {
        patches, engine, ..
    } = &mut **registry;
    let Some(engine) = engine else {
        return;
    };
    let replaces = patches.get(index).is_some_and(|patch| patch.replaces());
    if replaces && target == Target::Patched {
        for old in patches.iter_mut().take(index) {
            old.set_enabled(false);
            old.unpatch(&mut engine.ops);
        }
    }
    let Some(patch) = patches.get_mut(index) else {
        return;
    };
    match target {
        // Everybody runs the original code or nops that hid the replaced patches.
        Target::Patched if replaces => patch.discard_nops(&mut engine.ops),
        Target::Patched => (),
        // Returns when no handler can see the functions any more. Otherwise one might choose a function that is gone,
        // once the transition flag is off.
        Target::Unpatched => patch.unpatch(&mut engine.ops),
    }
    patch.set_transition(false);

    // Waits for handlers that have seen the transition flag: they must not find a task without a state. Also for tasks
    // that are switching themselves right now.
    match FORBIDDEN.replace(None) {
        Some(list) => patch.reclaim(Some(list)),
        // Cancelled before it started: nobody asked the tasks, but handlers ran.
        None => cpu::synchronize_all(),
    }

    for_each_task(|task| {
        if task.is_pending() {
            warn_once(c"a task is still to switch after the transition");
        }
        task.set_patch_state(IDLE);
    });

    let loaded = patch.objects.iter().filter(|object| object.is_loaded());
    match target {
        Target::Patched => loaded.for_each(Object::post_patch),
        Target::Unpatched => loaded.for_each(Object::post_unpatch),
    }

    if let Some(previous) = state::withdraw() {
        patch.previous = Some(previous);
    }

    pr_notice!("'{}': {} complete\n", patch.name(), target.verb());

    // ORDERING: no task has a pending flag, so nobody looks at either.
    TARGET.store(IDLE, Relaxed);
    // ORDERING: as above.
    PATCH.store(0, Relaxed);
    registry.transition = None;
}

/// Gives up a transition between [`init()`] and [`start`], when no task has been asked to switch: all run old code.
#[doc(alias = "klp_cancel_transition")]
pub(crate) fn cancel(registry: &mut Guard) {
    let id = PATCH.load(Relaxed);
    trace::canceling(registry.name_of(id));
    if let Some(transition) = &mut registry.transition {
        transition.target = Target::Unpatched;
        // ORDERING: no task has a pending flag, so nobody looks at it.
        TARGET.store(Target::Unpatched.state(), Relaxed);
    }
    complete(registry);
}

/// Turns a transition round.
#[doc(alias = "klp_reverse_transition")]
pub(crate) fn reverse(registry: &mut Guard) {
    let id = PATCH.load(Relaxed);
    let Some(target) = registry
        .transition
        .as_ref()
        .map(|transition| transition.target)
    else {
        return;
    };
    trace::reversing(
        registry.name_of(id),
        target.verb(),
        target.reversed().verb(),
    );

    // Nobody may switch while the target changes. Those that have seen their flag are waited for.
    for_each_task(|task| task.clear_pending());
    cpu::synchronize_all();

    let target = target.reversed();
    if let Some(transition) = &mut registry.transition {
        transition.target = target;
    }
    if let Some(patch) = registry.patch(id) {
        patch.set_enabled(target == Target::Patched);
    }
    // ORDERING: no task has a pending flag, so nobody looks at it until (B).
    TARGET.store(target.state(), Relaxed);

    // ORDERING: (B) the target before pending flags; pairs with the full barrier in `update_patch_state` and with (C).
    cpu::write_barrier();
    start(registry);

    // Tasks that had not switched are there already; what remains may be few.
    if let Some(engine) = &registry.engine {
        crate::PASS.run_after(&engine.queue, 1);
    }
}

/// Switches all remaining tasks, wherever they are. The administrator's risk; the modules concerned stay for ever.
#[doc(alias = "klp_force_transition")]
pub(crate) fn force(registry: &mut Guard) {
    pr_warn!("forcing remaining tasks to the patched state\n");
    for_each_task(update_patch_state);

    let id = PATCH.load(Relaxed);
    let Registry {
        patches,
        transition,
        engine,
        ..
    } = &mut **registry;
    let Some(target) = transition.as_ref().map(|transition| transition.target) else {
        return;
    };
    let replaces = patches
        .iter()
        .any(|patch| patch.id() == id && patch.replaces());
    for patch in patches.iter_mut() {
        // Those whose code goes away.
        if match target {
            Target::Unpatched => patch.id() == id,
            Target::Patched => replaces && patch.id() != id,
        } {
            patch.set_forced();
        }
    }
    if let Some(engine) = engine {
        crate::PASS.run_after(&engine.queue, 0);
    }
}

/// Switches `task`, which leaves the kernel or goes through its idle loop, if it still has to.
///
/// Any context; `task` is the current one, but in [`force`].
#[doc(alias = "klp_update_patch_state")]
pub(crate) fn update_patch_state(task: &Task) {
    // Whoever changes the target waits for us by this.
    let _preempt = PreemptGuard::new();

    // ORDERING: a full barrier if the flag was set: the target is read after the flag, pairs with (A) and (B); and so is
    // a transition flag, by a handler that runs later on this CPU, pairs with (D).
    if task.test_and_clear_pending() {
        task.set_patch_state(TARGET.load(Relaxed));
        arrive();
    }
}

/// Counts a task that has switched itself, and has another pass made when it may have been the last one. Any context.
fn arrive() {
    // ORDERING: full, so that either this sees what `try_complete` waits for, or that sees this arrival.
    let arrivals = ARRIVALS.fetch_add(1, Full).wrapping_add(1);
    if arrivals == AWAITED.load(Relaxed) {
        crate::LAST_ARRIVAL.trigger();
    }
}

/// Switches the current task, which is about to be scheduled out in `__schedule()`, if its stack allows.
///
/// Preemption is disabled, and no lock can be taken. Others cannot switch the task meanwhile, since it runs.
#[doc(alias = "__klp_sched_try_switch")]
pub(crate) fn sched_try_switch() {
    task::with_current(|task| {
        if task.is_pending() {
            // ORDERING: (C) the target, and what the stack is checked against, are read after the flag; pairs with (A),
            // (B) and (D).
            cpu::read_barrier();
            if try_switch(task) == Attempt::Now {
                arrive();
            }
        }
    });
}

/// Gives `child`, which is being forked by the current task, its parent's state.
///
/// `tasklist_lock` is held for writing, so nothing but the parent itself changes the parent's state.
#[doc(alias = "klp_copy_process")]
pub(crate) fn copy_process(child: &Task) {
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
