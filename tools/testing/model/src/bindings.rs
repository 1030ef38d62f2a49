// SPDX-License-Identifier: GPL-2.0

//! The kernel below the core, as far as the order of memory accesses depends on it.
//!
//! # What C11 does not have
//!
//! * `smp_wmb()` is a release fence and `smp_rmb()` an acquire fence. The fences are stronger: each
//!   of them also orders earlier loads before later stores, while `smp_wmb()` is about stores alone
//!   and `smp_rmb()` about loads alone. No rule of the protocol is about a load and a later store:
//!   what is stored after a barrier is either stored by the one writer, which has loaded nothing
//!   that matters, or depends on what was loaded, and then the kernel's memory model keeps the order
//!   too.
//! * A change of a bit that returns the old value, such as `test_and_clear_bit()`, is a full barrier
//!   on both sides: a sequentially consistent fence, an acquiring and releasing exchange, another
//!   fence. The core only relies on that if the bit was set. One that returns nothing is a relaxed
//!   exchange: atomic, and no barrier.
//! * `livepatch_synchronize_cpus()` takes and gives back a lock of each CPU, which that CPU holds
//!   while preemption is disabled. So a section with preemption disabled either comes before, and all
//!   that it did is seen after the wait, or it starts later and sees all that was done before the
//!   wait. That is what the kernel guarantees: its interrupt counts only where the preemption counter
//!   is 0, and is ordered with who waits for it; a worker runs there only when the CPU schedules, and
//!   a context switch is a full barrier. Nothing else takes that lock, so it orders nothing else. Sections are not ordered with each other, and preemption inside the kernel is where
//!   preemption is enabled.
//! * `task_call_func()` takes a lock that the task takes, too, when it goes to sleep and when it
//!   runs again, as the scheduler's.
//!
//! # What loom does not have
//!
//! Loom does not let a load be passed by a later store of the same thread. Where the protocol has
//! such a pair without a barrier, the store depends on the load. Nor does it have interrupts: a
//! handler in an interrupt is one that runs at that place of the task, on the same CPU, and so sees
//! what the task does. Looks from an interrupt are left out: they do what a task does on its way
//! through `__schedule()`, with the same barriers.
#![allow(non_camel_case_types, clippy::missing_safety_doc, clippy::unused_unit)]

use crate::{
    machine::{machine, Lock},
    sync::atomic::{AtomicBool, AtomicI32, Ordering},
    task::Task,
};
use loom::sync::atomic::fence;
use std::{
    cell::{Cell, RefCell},
    ffi::{c_int, c_void},
};

pub(crate) const TASK_COMM_LEN: u32 = 16;
pub(crate) const PF_KTHREAD: u32 = 1;
pub(crate) const TASK_RUNNING: u32 = 0;
pub(crate) const TASK_INTERRUPTIBLE: u32 = 1;
pub(crate) const LIVEPATCH_MAX_STACK_ENTRIES: u32 = 16;

/// A task.
pub struct task_struct {
    /// As in the kernel.
    pub patch_state: AtomicI32,
    /// As in the kernel.
    pub flags: u32,
    /// As in the kernel.
    pub __state: u32,
    /// As in the kernel.
    pub comm: [u8; TASK_COMM_LEN as usize],
    /// As in the kernel.
    pub pid: i32,
    /// `TIF_PATCH_PENDING`.
    pub(crate) pending: AtomicBool,
    /// The lock of the scheduler.
    pub(crate) rq: Lock,
    /// Whether it runs on a CPU; changed under `rq`.
    pub(crate) runs: Cell<bool>,
    /// Its stack, the innermost first; changed while it runs, read while it does not.
    pub(crate) stack: RefCell<Vec<usize>>,
}

pub(crate) struct ftrace_ops;
pub(crate) struct work_struct;

/// The registers of a call that ftrace has intercepted.
pub struct ftrace_regs {
    /// Where it goes on; 0 as long as nobody has changed it.
    pub(crate) ip: usize,
}

unsafe extern "C" {
    fn livepatch_select(ip: usize) -> usize;
}

/// As in `helpers.c`.
pub(crate) unsafe extern "C" fn livepatch_ftrace_thunk(
    ip: usize,
    _parent_ip: usize,
    _ops: *mut ftrace_ops,
    fregs: *mut ftrace_regs,
) {
    // SAFETY: It is balanced below.
    unsafe { livepatch_preempt_disable() };
    // SAFETY: Preemption is disabled.
    let target = unsafe { livepatch_select(ip) };
    if target != 0 {
        // SAFETY: The caller has the registers.
        unsafe { (*fregs).ip = target };
    }
    // SAFETY: It balances the call above.
    unsafe { livepatch_preempt_enable() };
}

pub(crate) unsafe fn livepatch_current_patch_state() -> c_int {
    let task = machine().current().inner();
    task.patch_state.load(Ordering::Relaxed)
}

// Barriers.

pub(crate) unsafe fn smp_wmb() {
    fence(Ordering::Release);
}

pub(crate) unsafe fn smp_rmb() {
    fence(Ordering::Acquire);
}

pub(crate) unsafe fn livepatch_synchronize_cpus() {
    machine().synchronize();
}

pub(crate) unsafe fn msleep(_: u32) {
    unreachable!("there is always memory");
}

pub(crate) unsafe fn synchronize_rcu_tasks() {
    unreachable!("the registry does that");
}

// CPUs.

pub(crate) unsafe fn livepatch_preempt_disable() {
    machine().preempt_disable();
}

pub(crate) unsafe fn livepatch_preempt_enable() {
    machine().preempt_enable();
}

pub(crate) unsafe fn livepatch_cpu_possible(_: u32) -> bool {
    true
}

pub(crate) unsafe fn livepatch_cpu_online(cpu: u32) -> bool {
    machine().is_online(cpu)
}

pub(crate) unsafe fn cpus_read_lock() {}

pub(crate) unsafe fn cpus_read_unlock() {}

pub(crate) unsafe fn wake_up_if_idle(_: c_int) {}

pub(crate) unsafe fn idle_task(cpu: c_int) -> *mut task_struct {
    machine().idle(cpu as u32)
}

pub(crate) unsafe fn livepatch_cond_resched() {}

// Tasks.

fn of(task: *mut task_struct) -> &'static task_struct {
    // SAFETY: Tasks live until the end of the model.
    unsafe { &*task }
}

pub(crate) unsafe fn livepatch_task_pending(task: *mut task_struct) -> bool {
    of(task).pending.load(Ordering::Relaxed)
}

pub(crate) unsafe fn livepatch_set_task_pending(task: *mut task_struct) {
    of(task).pending.swap(true, Ordering::Relaxed);
}

pub(crate) unsafe fn livepatch_clear_task_pending(task: *mut task_struct) {
    of(task).pending.swap(false, Ordering::Relaxed);
}

pub(crate) unsafe fn livepatch_test_and_clear_task_pending(task: *mut task_struct) -> bool {
    fence(Ordering::SeqCst);
    let was_set = of(task).pending.swap(false, Ordering::AcqRel);
    fence(Ordering::SeqCst);
    was_set
}

pub(crate) unsafe fn livepatch_tasklist_read_lock() {
    machine().tasklist.lock();
}

pub(crate) unsafe fn livepatch_tasklist_read_unlock() {
    machine().tasklist.unlock();
}

pub(crate) unsafe fn livepatch_next_task(task: *mut task_struct) -> *mut task_struct {
    machine().next_task(task)
}

pub(crate) unsafe fn livepatch_task_listed(task: *mut task_struct) -> bool {
    machine().is_listed(task)
}

pub(crate) type task_call_f =
    Option<unsafe extern "C" fn(task: *mut task_struct, data: *mut c_void) -> c_int>;

pub(crate) unsafe fn task_call_func(
    task: *mut task_struct,
    function: task_call_f,
    data: *mut c_void,
) -> c_int {
    of(task).rq.lock();
    let function = function.expect("a function");
    // SAFETY: The task lives and neither starts nor stops running; the data is the caller's.
    let result = unsafe { function(task, data) };
    of(task).rq.unlock();
    result
}

pub(crate) unsafe fn task_curr(task: *mut task_struct) -> c_int {
    of(task).runs.get().into()
}

/// Writes addresses to the buffer of stack entries.
fn save(addresses: impl Iterator<Item = usize>, count: *mut u32) -> *mut usize {
    let entries = machine().stack_entries();
    let mut written = 0;
    for address in addresses {
        assert!(written < LIVEPATCH_MAX_STACK_ENTRIES);
        // SAFETY: There is room for as many entries.
        let entry = unsafe { entries.add(written as usize) };
        // SAFETY: It is one of the entries, which nobody else uses.
        unsafe { entry.write(address) };
        written += 1;
    }
    // SAFETY: The caller has it.
    unsafe { count.write(written) };
    entries
}

pub(crate) unsafe fn livepatch_save_stack(task: *mut task_struct, count: *mut u32) -> *mut usize {
    save(of(task).stack.borrow().iter().rev().copied(), count)
}

/// Cannot tell if there is anything on the stack.
pub(crate) unsafe fn livepatch_save_text_words(
    task: *mut task_struct,
    _start: usize,
    _size: usize,
    count: *mut u32,
) -> *mut usize {
    if of(task).stack.borrow().is_empty() {
        save(core::iter::empty(), count)
    } else {
        core::ptr::null_mut()
    }
}

pub(crate) unsafe fn livepatch_stacks_init() {}

pub(crate) unsafe fn livepatch_release_stack() {}

// Looks.

pub(crate) unsafe fn livepatch_looks_init() {}

pub(crate) unsafe fn livepatch_looks_want(_: *mut task_struct) {}

pub(crate) unsafe fn livepatch_looks_start(_: u32, _: u32) {}

pub(crate) unsafe fn livepatch_looks_cancel() {}

pub(crate) unsafe fn livepatch_sched_switch_enable() {}

pub(crate) unsafe fn livepatch_sched_switch_disable() {}

pub(crate) unsafe fn livepatch_notify_task(_: *mut task_struct) {}

pub(crate) unsafe fn wake_up_state(_: *mut task_struct, _: u32) {}

pub(crate) unsafe fn livepatch_fatal_signal_pending() -> bool {
    false
}

pub(crate) unsafe fn livepatch_task_from_pid(_: *mut i32) -> *mut Task {
    unreachable!("the model does not look for tasks by number");
}
