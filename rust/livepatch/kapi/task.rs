// SPDX-License-Identifier: GPL-2.0

//! Tasks: the list of all, the state they have in a transition, their stacks.
//!
//! C headers: [`include/linux/sched.h`](srctree/include/linux/sched.h),
//! [`include/linux/sched/task.h`](srctree/include/linux/sched/task.h),
//! [`include/linux/stacktrace.h`](srctree/include/linux/stacktrace.h)

use super::cpu::PreemptGuard;
use crate::{
    bindings,
    walk::{
        Effort,
        Progress,
        Walk, //
    },
};
use core::sync::atomic::{
    AtomicI32,
    Ordering, //
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

/// What the core needs of a task beyond the `kernel` crate.
pub(crate) trait TaskExt {
    /// The state the task has in the current transition.
    fn patch_state(&self) -> i32;
    /// Sets the state. The task must not run, or be the current one, or no function be in transition.
    fn set_patch_state(&self, state: i32);
    /// Whether the task still has to switch (`TIF_PATCH_PENDING`).
    fn is_pending(&self) -> bool;
    /// Makes the task switch when it leaves the kernel.
    fn set_pending(&self);
    /// Takes that back, or notes that it has.
    fn clear_pending(&self);
    /// [`Self::is_pending`] and [`Self::clear_pending`] in one. A full memory barrier if it was set.
    fn test_and_clear_pending(&self) -> bool;
    /// Whether it is a kernel thread.
    fn is_kthread(&self) -> bool;
    /// Whether it runs on a CPU now.
    fn is_running(&self) -> bool;
    /// Makes a user task leave the kernel as if a signal were pending, without one.
    fn notify(&self);
    /// Wakes it if it sleeps interruptibly.
    fn wake_interruptible(&self);
    /// The command name.
    fn comm(&self) -> Comm;
}

impl TaskExt for Task {
    fn patch_state(&self) -> i32 {
        state_of(self).load(Ordering::Relaxed)
    }

    fn set_patch_state(&self, state: i32) {
        state_of(self).store(state, Ordering::Relaxed);
    }

    fn is_pending(&self) -> bool {
        // SAFETY: the task exists.
        unsafe { bindings::livepatch_task_pending(self.as_ptr()) }
    }

    fn set_pending(&self) {
        // SAFETY: the task exists.
        unsafe { bindings::livepatch_set_task_pending(self.as_ptr()) };
    }

    fn clear_pending(&self) {
        // SAFETY: the task exists.
        unsafe { bindings::livepatch_clear_task_pending(self.as_ptr()) };
    }

    fn test_and_clear_pending(&self) -> bool {
        // SAFETY: the task exists.
        unsafe { bindings::livepatch_test_and_clear_task_pending(self.as_ptr()) }
    }

    fn is_kthread(&self) -> bool {
        // SAFETY: the task exists.
        let flags = unsafe { &raw const (*self.as_ptr()).flags };
        // SAFETY: valid for reads; the task may be changing other bits.
        unsafe { flags.read_volatile() & bindings::PF_KTHREAD != 0 }
    }

    fn is_running(&self) -> bool {
        // SAFETY: the task exists.
        unsafe { bindings::task_curr(self.as_ptr()) != 0 }
    }

    fn notify(&self) {
        // SAFETY: the task exists.
        unsafe { bindings::livepatch_notify_task(self.as_ptr()) };
    }

    fn wake_interruptible(&self) {
        // SAFETY: the task exists.
        unsafe { bindings::wake_up_state(self.as_ptr(), bindings::TASK_INTERRUPTIBLE) };
    }

    fn comm(&self) -> Comm {
        // SAFETY: the task exists; a name that is changing gives a mixture, but always ends within the array.
        Comm(unsafe { (&raw const (*self.as_ptr()).comm).read_volatile() })
    }
}

/// A copy of a task's command name.
pub(crate) struct Comm([u8; bindings::TASK_COMM_LEN as usize]);

impl Comm {
    /// The name.
    pub(crate) fn as_cstr(&self) -> &CStr {
        CStr::from_bytes_until_nul(&self.0).unwrap_or(c"?")
    }
}

fn state_of(task: &Task) -> &AtomicI32 {
    // SAFETY: the task exists.
    let state = unsafe { &raw mut (*task.as_ptr()).patch_state };
    // SAFETY: aligned, alive as long as the task, and everybody accesses it atomically or as an aligned int.
    unsafe { AtomicI32::from_ptr(state) }
}

/// A task that C passed.
///
/// # Safety
///
/// `task` must point to a task that exists for `'a`.
pub(crate) unsafe fn from_raw<'a>(task: *mut bindings::task_struct) -> &'a Task {
    // SAFETY: `Task` is a transparent wrapper; the caller promises the rest.
    unsafe { &*task.cast() }
}

/// The idle task of a possible CPU.
pub(crate) fn idle(cpu: u32) -> &'static Task {
    // SAFETY: `cpu` is possible, says the caller; a wrong one would read another per-CPU area.
    let task = unsafe { bindings::idle_task(cpu as c_int) };
    // SAFETY: idle tasks never go away.
    unsafe { from_raw(task) }
}

/// Calls `f` for the current task.
pub(crate) fn with_current<R>(f: impl FnOnce(&Task) -> R) -> R {
    f(kernel::current!())
}

/// Evidence that no task appears on or vanishes from the list of tasks.
///
/// # Invariants
///
/// `tasklist_lock` is held for reading while a value of this type exists; so preemption is disabled.
struct TasklistGuard(NotThreadSafe);

impl TasklistGuard {
    /// Takes the lock. Any context but one that holds it for writing.
    fn new() -> Self {
        // SAFETY: no requirement; `Drop` balances it.
        unsafe { bindings::livepatch_tasklist_read_lock() };
        // INVARIANT: just taken.
        Self(NotThreadSafe)
    }

    /// The task behind `task` on the list, the first one for `None`. Idle tasks are not on it.
    fn next<'a>(&'a self, task: Option<&'a Task>) -> Option<&'a Task> {
        let task = task.map_or(core::ptr::null_mut(), Task::as_ptr);
        // SAFETY: the lock is held, by the type's invariant, and the task is on the list: it came from here.
        let next = unsafe { bindings::livepatch_next_task(task) };
        // SAFETY: the lock keeps the task on the list, so it exists.
        (!next.is_null()).then(|| unsafe { from_raw(next) })
    }

    /// `task`, if it is on the list.
    fn find<'a>(&'a self, task: &'a Task) -> Option<&'a Task> {
        // SAFETY: the lock is held, by the type's invariant.
        unsafe { bindings::livepatch_task_listed(task.as_ptr()) }.then_some(task)
    }
}

impl Drop for TasklistGuard {
    fn drop(&mut self) {
        // SAFETY: balances `new`.
        unsafe { bindings::livepatch_tasklist_read_unlock() };
    }
}

/// Calls `f` for every thread of every process, in pieces between which `tasklist_lock` is not held; what this means for
/// tasks that come and go is said in [`crate::walk`]. Idle tasks are not among them. Sleeps, `f` must not.
pub(crate) fn for_each(mut f: impl FnMut(&Task) -> Effort) {
    let mut walk: Walk<ARef<Task>> = Walk::new();
    loop {
        let list = TasklistGuard::new();
        let progress = walk.piece(
            |cursor| {
                // SAFETY: only used while `list` is held; the walk keeps its reference until it has another cursor.
                list.find(unsafe { from_raw(cursor.as_ptr()) })
            },
            |task| list.next(task),
            ARef::from,
            &mut f,
        );
        drop(list);
        match progress {
            Progress::End => return,
            Progress::More(cursor) => drop(cursor),
        }
        // SAFETY: we may sleep.
        unsafe { bindings::livepatch_cond_resched() };
    }
}

/// Calls `f` while `task` neither starts nor stops running, if possible. `f` runs with interrupts disabled under the
/// scheduler's locks.
///
/// Returns what `f` returns, an errno.
pub(crate) fn call_on<F: FnMut(&Task) -> c_int>(task: &Task, mut f: F) -> c_int {
    /// # Safety
    ///
    /// `data` must point to the closure, which nobody else may use; `task` must exist.
    unsafe extern "C" fn trampoline<F: FnMut(&Task) -> c_int>(
        task: *mut bindings::task_struct,
        data: *mut c_void,
    ) -> c_int {
        // SAFETY: `data` is the `f` above, which nobody else uses during the call.
        let f = unsafe { &mut *data.cast::<F>() };
        // SAFETY: the scheduler passes the task that it was asked about.
        f(unsafe { from_raw(task) })
    }
    let data = core::ptr::from_mut(&mut f).cast();
    // SAFETY: the task exists, and the trampoline fits `data`.
    unsafe { bindings::task_call_func(task.as_ptr(), Some(trampoline::<F>), data) }
}

/// Passes the return addresses on the stack of `task`, innermost first, to `f`; `None` if the stack cannot be relied on
/// or is too deep.
///
/// The task must be the current one or must not run. Preemption is disabled, as `_preempt` shows: the buffer belongs to
/// the CPU.
pub(crate) fn with_stack<R>(
    task: &Task,
    _preempt: &PreemptGuard,
    f: impl FnOnce(&[usize]) -> R,
) -> Option<R> {
    // SAFETY: preemption is disabled.
    let entries = unsafe { bindings::livepatch_stack_entries() };
    // SAFETY: the buffer has that many entries, and is ours while preemption is disabled.
    let count = unsafe {
        bindings::stack_trace_save_tsk_reliable(
            task.as_ptr(),
            entries,
            bindings::LIVEPATCH_MAX_STACK_ENTRIES,
        )
    };
    let count = usize::try_from(count).ok()?;
    // SAFETY: `count` entries were written just now.
    Some(f(unsafe { core::slice::from_raw_parts(entries, count) }))
}

/// Whether this architecture can tell a stack that can be relied on from one that cannot.
pub(crate) fn have_reliable_stacks() -> bool {
    // SAFETY: no requirement.
    unsafe { bindings::livepatch_have_reliable_stack() }
}

/// Whether `__schedule()` tries to switch tasks on its way.
pub(crate) fn set_switch_in_schedule(on: bool) {
    if on {
        // SAFETY: we may sleep.
        unsafe { bindings::livepatch_sched_switch_enable() };
    } else {
        // SAFETY: as above.
        unsafe { bindings::livepatch_sched_switch_disable() };
    }
}
