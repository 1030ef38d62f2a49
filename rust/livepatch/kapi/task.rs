// SPDX-License-Identifier: GPL-2.0

//! Tasks: the list of all, and looking at one that does not run.
//!
//! C headers: [`include/linux/sched.h`](srctree/include/linux/sched.h),
//! [`include/linux/sched/task.h`](srctree/include/linux/sched/task.h)

use super::cpu::PossibleCpu;
use crate::{
    bindings,
    pure::walk::{
        Cost,
        Progress,
        Walk, //
    },
};
use core::{
    ops::Deref,
    ptr::NonNull, //
};
use kernel::{
    ffi::{
        c_int,
        c_void, //
    },
    prelude::*,
    sync::aref::ARef,
    task::Task,
    types::NotThreadSafe, //
};

/// The part of a task that the `kernel` crate lacks.
pub(crate) trait TaskExt {
    /// Returns whether the task is a kernel thread.
    fn is_kthread(&self) -> bool;
    /// Makes a user task leave the kernel as if a signal were pending, without one.
    fn notify(&self);
    /// Wakes the task if it sleeps interruptibly.
    fn wake_interruptible(&self);
    /// Returns whether the task runs or waits for a CPU. A snapshot.
    fn is_runnable(&self) -> bool;
    /// Returns the task's command name.
    fn comm(&self) -> Comm;
}

impl TaskExt for Task {
    fn is_kthread(&self) -> bool {
        // SAFETY: A `Task` that is borrowed lives; only the address of the field is taken.
        let flags = unsafe { &raw const (*self.as_ptr()).flags };
        // SAFETY: Valid for reads; volatile, since the task may be changing other bits.
        unsafe { flags.read_volatile() & bindings::PF_KTHREAD != 0 }
    }

    fn notify(&self) {
        // SAFETY: A `Task` that is borrowed lives.
        unsafe { bindings::livepatch_notify_task(self.as_ptr()) };
    }

    fn wake_interruptible(&self) {
        // SAFETY: A `Task` that is borrowed lives.
        unsafe { bindings::wake_up_state(self.as_ptr(), bindings::TASK_INTERRUPTIBLE) };
    }

    fn is_runnable(&self) -> bool {
        // SAFETY: A `Task` that is borrowed lives; only the address of the field is taken.
        let state = unsafe { &raw const (*self.as_ptr()).__state };
        // SAFETY: Valid for reads; volatile, since the task may be changing it.
        unsafe { state.read_volatile() == bindings::TASK_RUNNING }
    }

    fn comm(&self) -> Comm {
        // SAFETY: A `Task` that is borrowed lives; a name that is changing gives a mixture, but
        // always ends within the array.
        Comm(unsafe { (&raw const (*self.as_ptr()).comm).read_volatile() })
    }
}

/// A copy of a task's command name.
pub(crate) struct Comm([u8; bindings::TASK_COMM_LEN as usize]);

impl Comm {
    /// The name as a string.
    pub(crate) fn as_cstr(&self) -> &CStr {
        CStr::from_bytes_until_nul(&self.0).unwrap_or(c"?")
    }
}

/// Wraps a task that C passed.
///
/// # Safety
///
/// `task` must point to a task that exists for `'a`.
pub(crate) unsafe fn from_raw<'a>(task: *mut bindings::task_struct) -> &'a Task {
    // SAFETY: `Task` is a transparent wrapper, and the task lives for `'a` by the safety
    // requirements.
    unsafe { &*task.cast() }
}

/// Returns the idle task of a CPU.
pub(crate) fn idle(cpu: PossibleCpu) -> &'static Task {
    // SAFETY: A possible CPU has an idle task.
    let task = unsafe { bindings::idle_task(cpu.number() as c_int) };
    // SAFETY: Idle tasks never go away.
    unsafe { from_raw(task) }
}

/// Calls `f` for the current task.
pub(crate) fn with_current<R>(f: impl FnOnce(&Task) -> R) -> R {
    f(kernel::current!())
}

/// Returns whether the current task is being killed, so that what it does is for nobody.
pub(crate) fn is_being_killed() -> bool {
    // SAFETY: Looks at the current task, in process context or any other.
    unsafe { bindings::livepatch_fatal_signal_pending() }
}

/// A task whose stack does not change: it does not run, or it is the current one.
///
/// # Invariants
///
/// It stays so while the value exists.
pub(crate) struct Quiescent<'a>(&'a Task);

impl Quiescent<'_> {
    /// Calls `f` for the current task.
    pub(crate) fn current<R>(f: impl FnOnce(&Quiescent<'_>) -> R) -> R {
        // INVARIANT: The current task stays the current one during the call.
        with_current(|task| f(&Quiescent(task)))
    }
}

impl Deref for Quiescent<'_> {
    type Target = Task;

    fn deref(&self) -> &Task {
        self.0
    }
}

/// A task that does not run: its registers are on its stack.
///
/// # Invariants
///
/// It is not the current task, and does not start to run while the value exists.
pub(crate) struct Inactive<'a>(Quiescent<'a>);

impl<'a> Deref for Inactive<'a> {
    type Target = Quiescent<'a>;

    fn deref(&self) -> &Quiescent<'a> {
        &self.0
    }
}

/// Calls `f` while `task`, which is not the current one, neither starts nor stops running; with
/// `None` if it runs.
///
/// `f` runs with interrupts disabled under the scheduler's locks, with `PREEMPT_RT` too.
///
/// # Errors
///
/// The errno of the scheduler if it has not called `f`. It always does, in the kernels that this
/// was written for.
pub(crate) fn call_on<R>(
    task: &Task,
    f: impl FnOnce(Option<&Inactive<'_>>) -> R,
) -> Result<R, c_int> {
    /// The function and, afterwards, what it returned.
    struct Call<F, R> {
        f: Option<F>,
        result: Option<R>,
    }

    /// Calls the function.
    ///
    /// # Safety
    ///
    /// `data` must point to a `Call` that nobody else uses; `task` must live, and neither start nor
    /// stop running during the call.
    unsafe extern "C" fn trampoline<F, R>(
        task: *mut bindings::task_struct,
        data: *mut c_void,
    ) -> c_int
    where
        F: FnOnce(Option<&Inactive<'_>>) -> R,
    {
        // SAFETY: It points to a `Call` that nobody else uses, by the safety requirements.
        let call = unsafe { &mut *data.cast::<Call<F, R>>() };
        // SAFETY: The task lives, by the safety requirements.
        let runs = unsafe { bindings::task_curr(task) } != 0;
        // SAFETY: The task lives, by the safety requirements.
        let task = unsafe { from_raw(task) };
        if let Some(f) = call.f.take() {
            call.result = Some(if runs {
                f(None)
            } else {
                // INVARIANT: It does not run, so it is not the current one, and does not start to,
                // by the safety requirements.
                f(Some(&Inactive(Quiescent(task))))
            });
        }
        0
    }

    fn trampoline_of<F, R>(_: &Call<F, R>) -> bindings::task_call_f
    where
        F: FnOnce(Option<&Inactive<'_>>) -> R,
    {
        Some(trampoline::<F, R>)
    }

    let mut call = Call {
        f: Some(f),
        result: None,
    };
    let function = trampoline_of(&call);
    // SAFETY: The task lives while it is borrowed, and the trampoline fits `call`, which nobody
    // else uses.
    let errno =
        unsafe { bindings::task_call_func(task.as_ptr(), function, (&raw mut call).cast()) };
    call.result.ok_or(errno)
}

/// Evidence that no task appears on or vanishes from the list of tasks.
///
/// # Invariants
///
/// `tasklist_lock` is held for reading while a value of this type exists.
struct TasklistGuard(NotThreadSafe);

impl TasklistGuard {
    /// Takes `tasklist_lock`, which does not disable preemption with `PREEMPT_RT` and may sleep
    /// there. Process context, without a spinlock.
    fn new() -> Self {
        // SAFETY: The current context does not hold the lock; `Drop` unlocks.
        unsafe { bindings::livepatch_tasklist_read_lock() };
        // INVARIANT: Just taken.
        Self(NotThreadSafe)
    }

    /// Returns the task after `task` on the list, the first one for `None`. Idle tasks are not on
    /// it.
    fn next<'a>(&'a self, task: Option<&'a Task>) -> Option<&'a Task> {
        let task = task.map_or(core::ptr::null_mut(), Task::as_ptr);
        // SAFETY: The lock is held, by the type's invariant, and the task is on the list: it came
        // from here.
        let next = unsafe { bindings::livepatch_next_task(task) };
        // SAFETY: The lock keeps the task on the list, where it lives.
        (!next.is_null()).then(|| unsafe { from_raw(next) })
    }

    /// Returns `task` if it is on the list.
    fn find<'a>(&'a self, task: &'a Task) -> Option<&'a Task> {
        // SAFETY: The lock is held, by the type's invariant; a `Task` that is borrowed lives.
        unsafe { bindings::livepatch_task_listed(task.as_ptr()) }.then_some(task)
    }
}

impl Drop for TasklistGuard {
    fn drop(&mut self) {
        // SAFETY: The lock is held, by the type's invariant, and the guard that stands for it goes.
        unsafe { bindings::livepatch_tasklist_read_unlock() };
    }
}

/// Calls `f` for every thread of every process, and returns what it has found, at first nothing.
/// Sleeps, `f` must not.
///
/// Works in pieces between which `tasklist_lock` is not held; [`crate::pure::walk`] says what this
/// means for tasks that come and go. If it has to start over, what was found is forgotten. Idle
/// tasks are not among them.
pub(crate) fn for_each<F: Default>(mut f: impl FnMut(&Task, &mut F) -> Cost) -> F {
    let mut walk: Walk<ARef<Task>, F> = Walk::new();
    loop {
        let list = TasklistGuard::new();
        let progress = walk.piece(
            |cursor| {
                // SAFETY: Only used while `list` is held; the walk keeps its reference until it has
                // another cursor.
                list.find(unsafe { from_raw(cursor.as_ptr()) })
            },
            |task| list.next(task),
            ARef::from,
            &mut f,
        );
        drop(list);
        match progress {
            Progress::End => return walk.into_found(),
            Progress::More(cursor) => drop(cursor),
        }
        // SAFETY: The caller may sleep, and no lock is held.
        unsafe { bindings::livepatch_cond_resched() };
    }
}

/// Iterates over the threads of all processes, in the order of their PIDs in the initial namespace.
///
/// Takes no lock but RCU's, and that not between two items: any thread that exists all the time and
/// keeps its PID is among them, once; others may be. A thread that calls `exec()` gets the PID of
/// its process, so it may be missed, or come twice. Idle tasks are not among them. Every step may
/// sleep.
pub(crate) fn by_pid() -> impl Iterator<Item = ARef<Task>> {
    let mut next = 0;
    core::iter::from_fn(move || {
        // SAFETY: The caller may sleep, and no lock is held.
        unsafe { bindings::livepatch_cond_resched() };
        // SAFETY: `next` is valid for reads and writes.
        let task = unsafe { bindings::livepatch_task_from_pid(&mut next) };
        next += 1;
        // SAFETY: The function gave a reference on a task; `Task` is a transparent wrapper of what
        // it points to.
        NonNull::new(task).map(|task| unsafe { ARef::from_raw(task.cast()) })
    })
}
