// SPDX-License-Identifier: GPL-2.0

//! The machine of a model: CPUs and tasks, and what checks that tasks run consistent code.
//!
//! The main thread is CPU 0, which does transitions. Each other CPU is a thread that runs one task.

use crate::{
    bindings::{self, ftrace_regs, task_struct, LIVEPATCH_MAX_STACK_ENTRIES},
    klp::patch_state::PatchStateExt,
    patch::FUNCTIONS,
    pure::patch_state::PatchState,
    sync::atomic::{self, AtomicBool, AtomicI32, Ordering},
    task::Task,
    transition,
};
use loom::{
    cell::UnsafeCell as LoomCell,
    sync::{Mutex, MutexGuard},
    thread::{self, JoinHandle, ThreadId},
};
use std::{
    cell::{Cell, RefCell, UnsafeCell},
    collections::HashMap,
    mem::{transmute, ManuallyDrop},
    ptr,
    rc::Rc,
};

/// A lock that is taken and given back by two calls.
pub(crate) struct Lock {
    mutex: Mutex<()>,
    guard: RefCell<Option<ManuallyDrop<MutexGuard<'static, ()>>>>,
}

impl Lock {
    fn new() -> Self {
        Self {
            mutex: Mutex::new(()),
            guard: RefCell::new(None),
        }
    }

    pub(crate) fn lock(&self) {
        let guard = self.mutex.lock().expect("no thread dies");
        // SAFETY: `unlock` gives the guard back, and the lock stays until the end of the model.
        let guard: MutexGuard<'static, ()> = unsafe { transmute(guard) };
        self.guard.replace(Some(ManuallyDrop::new(guard)));
    }

    pub(crate) fn unlock(&self) {
        let guard = self.guard.take().expect("it is locked");
        drop(ManuallyDrop::into_inner(guard));
    }
}

/// A CPU. CPU 0 is the only one that waits for others, so nothing waits for it.
struct Cpu {
    current: Cell<*const Task>,
    /// Held while preemption is disabled.
    preempt: Lock,
    depth: Cell<u32>,
    entries: UnsafeCell<[usize; LIVEPATCH_MAX_STACK_ENTRIES as usize]>,
    idle: Cell<*const Task>,
}

/// All there is in one execution of a model.
pub(crate) struct Machine {
    cpus: Vec<Cpu>,
    threads: RefCell<HashMap<ThreadId, usize>>,
    /// Tasks that exist, or did.
    tasks: RefCell<Vec<Box<Task>>>,
    /// `tasklist_lock`.
    pub(crate) tasklist: Lock,
    listed: RefCell<Vec<*mut task_struct>>,
    /// How many CPUs have an idle task that takes part, from CPU 1.
    idle_cpus: u32,
    online: Cell<bool>,
    /// The memory of the replacements, by patch: read when one runs, written when it is freed.
    memory: Vec<LoomCell<()>>,
    /// What went wrong where nothing may panic.
    failure: RefCell<Option<String>>,
    /// How often the last task to switch had another pass made.
    pub(crate) triggered: atomic::AtomicUsize,
    /// Whether all tasks have been asked to switch.
    asked: AtomicBool,
}

thread_local! {
    static MACHINE: RefCell<Option<Rc<Machine>>> = const { RefCell::new(None) };
}

/// Returns the machine of this execution.
pub(crate) fn machine() -> Rc<Machine> {
    let machine = MACHINE.with_borrow(Option::clone);
    machine.expect("the model has begun")
}

/// What a model has.
#[derive(Clone, Copy, Default)]
pub(crate) struct Setup {
    /// Whether the counters of the core take part.
    pub(crate) with_counters: bool,
    /// How many CPUs have an idle task that takes part.
    pub(crate) idle_cpus: u32,
}

/// How many patches a model can have.
const PATCHES: usize = 2;

/// How many CPUs there are, with the one that does transitions.
const CPUS: usize = 4;

impl Machine {
    /// Makes the machine of an execution.
    pub(crate) fn begin(setup: Setup) -> Rc<Self> {
        atomic::begin(setup.with_counters);
        let cpu = |_| Cpu {
            current: Cell::new(ptr::null()),
            preempt: Lock::new(),
            depth: Cell::new(0),
            entries: UnsafeCell::new([0; LIVEPATCH_MAX_STACK_ENTRIES as usize]),
            idle: Cell::new(ptr::null()),
        };
        let machine = Rc::new(Self {
            cpus: (0..CPUS).map(cpu).collect(),
            threads: RefCell::default(),
            tasks: RefCell::default(),
            tasklist: Lock::new(),
            listed: RefCell::default(),
            idle_cpus: setup.idle_cpus,
            online: Cell::new(true),
            memory: (0..PATCHES).map(|_| LoomCell::new(())).collect(),
            failure: RefCell::default(),
            triggered: atomic::AtomicUsize::new(0),
            asked: AtomicBool::new(false),
        });
        machine
            .threads
            .borrow_mut()
            .insert(thread::current().id(), 0);
        machine.triggered.load(Ordering::Relaxed);
        machine.asked.load(Ordering::Relaxed);
        MACHINE.set(Some(machine.clone()));
        let updater = machine.new_task();
        machine.cpus[0].current.set(updater);
        for cpu in 1..=setup.idle_cpus {
            let idle = machine.new_task_with_pid(0);
            idle.inner().runs.set(true);
            machine.cpus[cpu as usize].idle.set(idle);
        }
        machine
    }

    fn cpu(&self) -> &Cpu {
        let threads = self.threads.borrow();
        &self.cpus[threads[&thread::current().id()]]
    }

    /// Makes a task that is on no list and does not run.
    fn new_task(&self) -> &'static Task {
        let number = self.tasks.borrow().len() as i32 + 1;
        self.new_task_with_pid(number)
    }

    fn new_task_with_pid(&self, pid: i32) -> &'static Task {
        let task = Box::new(Task::new(task_struct {
            patch_state: AtomicI32::new(-1),
            flags: 0,
            __state: 0,
            comm: [0; 16],
            pid,
            pending: AtomicBool::new(false),
            rq: Lock::new(),
            runs: Cell::new(false),
            stack: RefCell::default(),
        }));
        task.inner().patch_state.load(Ordering::Relaxed);
        task.inner().pending.load(Ordering::Relaxed);
        let pointer: *const Task = &*task;
        self.tasks.borrow_mut().push(task);
        // SAFETY: It stays until the machine goes, which is when the next execution begins.
        unsafe { &*pointer }
    }

    /// Makes a task that is on the list and runs, in the kernel.
    pub(crate) fn task(&self) -> &'static Task {
        let task = self.new_task();
        task.inner().runs.set(true);
        self.listed.borrow_mut().push(task.as_ptr());
        task
    }

    /// Takes a task off the list for good, and forgets what was asked for.
    pub(crate) fn remove(&self, task: &Task) {
        self.listed
            .borrow_mut()
            .retain(|other| *other != task.as_ptr());
        self.triggered.store(0, Ordering::Relaxed);
    }

    pub(crate) fn current(&self) -> &'static Task {
        // SAFETY: Tasks stay until the machine goes.
        unsafe { &*self.cpu().current.get() }
    }

    pub(crate) fn cpu_count(&self) -> u32 {
        self.idle_cpus
    }

    /// Returns the idle task of a CPU; the first one has number 0 here.
    pub(crate) fn idle(&self, cpu: u32) -> *mut task_struct {
        self.idle_of(cpu).as_ptr()
    }

    pub(crate) fn idle_of(&self, cpu: u32) -> &'static Task {
        // SAFETY: Tasks stay until the machine goes.
        unsafe { &*self.cpus[cpu as usize + 1].idle.get() }
    }

    pub(crate) fn is_online(&self, _: u32) -> bool {
        self.online.get()
    }

    /// Takes the CPUs with idle tasks offline.
    pub(crate) fn set_offline(&self) {
        self.online.set(false);
    }

    pub(crate) fn stack_entries(&self) -> *mut usize {
        self.cpu().entries.get().cast()
    }

    pub(crate) fn preempt_disable(&self) {
        let cpu = self.cpu();
        if ptr::eq(cpu, &self.cpus[0]) {
            return;
        }
        let depth = cpu.depth.get();
        if depth == 0 {
            cpu.preempt.lock();
        }
        cpu.depth.set(depth + 1);
    }

    pub(crate) fn preempt_enable(&self) {
        let cpu = self.cpu();
        if ptr::eq(cpu, &self.cpus[0]) {
            return;
        }
        let depth = cpu.depth.get() - 1;
        cpu.depth.set(depth);
        if depth == 0 {
            cpu.preempt.unlock();
        }
    }

    /// Waits for all sections with preemption disabled.
    pub(crate) fn synchronize(&self) {
        for cpu in &self.cpus[1..] {
            cpu.preempt.lock();
            cpu.preempt.unlock();
        }
    }

    pub(crate) fn next_task(&self, task: *mut task_struct) -> *mut task_struct {
        let listed = self.listed.borrow();
        let next = match listed.iter().position(|other| *other == task) {
            Some(place) => place + 1,
            None => 0,
        };
        listed.get(next).copied().unwrap_or(ptr::null_mut())
    }

    pub(crate) fn is_listed(&self, task: *mut task_struct) -> bool {
        self.listed.borrow().contains(&task)
    }

    /// Notes that something is wrong, where nothing may panic.
    pub(crate) fn fail(&self, what: &str) {
        self.failure.borrow_mut().get_or_insert(what.to_owned());
    }

    /// Ends the model if something was wrong.
    pub(crate) fn check(&self) {
        if let Some(failure) = self.failure.borrow().as_ref() {
            panic!("{failure}");
        }
    }

    /// Notes that all tasks have been asked to switch to the original functions.
    pub(crate) fn all_are_asked(&self) {
        self.asked.store(true, Ordering::Release);
    }

    /// Returns whether the last task to switch has asked for another pass.
    pub(crate) fn is_asked(&self) -> bool {
        self.triggered.load(Ordering::Relaxed) != 0
    }

    /// Frees the replacements of a patch: nobody may run one at the same time or later.
    pub(crate) fn free(&self, patch: usize) {
        self.memory[patch].with_mut(|_| ());
    }

    /// Has `task` run on `cpu`.
    pub(crate) fn spawn(
        self: &Rc<Self>,
        cpu: usize,
        task: &'static Task,
        body: impl FnOnce(&mut Running) + 'static,
    ) -> JoinHandle<()> {
        let machine = self.clone();
        thread::spawn(move || {
            machine
                .threads
                .borrow_mut()
                .insert(thread::current().id(), cpu);
            machine.cpus[cpu].current.set(task);
            let mut running = Running {
                machine: machine.clone(),
                task,
                seen: None,
                frames: 0,
                is_idle: task.pid() == 0,
                may_mix: false,
            };
            body(&mut running);
            running.leave_kernel();
            // User space, where the scheduler takes it off the CPU some time.
            running.off_cpu();
            machine.check();
        })
    }
}

/// A task that runs on a CPU.
pub(crate) struct Running {
    machine: Rc<Machine>,
    task: &'static Task,
    /// Which version it has seen since it could last switch.
    seen: Option<usize>,
    frames: usize,
    is_idle: bool,
    may_mix: bool,
}

impl Running {
    /// Calls a function, and `inside` in it. All functions that are called between two points where
    /// a task may switch must be of one version.
    pub(crate) fn call_with(&mut self, function: usize, inside: impl FnOnce(&mut Self)) {
        self.call_by_way_of(function, |_| (), inside);
    }

    /// Calls a function, and is preempted when the handler has chosen and nothing has begun.
    pub(crate) fn call_and_be_preempted(&mut self, function: usize) {
        self.call_by_way_of(function, Self::off_and_on, |_| ());
    }

    fn call_by_way_of(
        &mut self,
        function: usize,
        on_the_way: impl FnOnce(&mut Self),
        inside: impl FnOnce(&mut Self),
    ) {
        let ip = FUNCTIONS[function];
        let stack = &self.task.inner().stack;
        stack.borrow_mut().push(ip + 1);
        let mut regs = ftrace_regs { ip: 0 };
        // SAFETY: The registers are there.
        unsafe { bindings::livepatch_ftrace_thunk(ip, 0, ptr::null_mut(), &mut regs) };
        on_the_way(self);
        stack.borrow_mut().pop();
        self.machine.check();

        // Which patch it comes from, from 1; 0 is the original.
        let version = regs.ip & 0xf;
        match self.seen {
            Some(_) if self.may_mix => (),
            Some(seen) => assert_eq!(seen, version, "a mixture of versions"),
            None => self.seen = Some(version),
        }
        stack
            .borrow_mut()
            .push(if version == 0 { ip } else { regs.ip });
        self.frames += 1;
        let used = |machine: &Machine| {
            if version > 0 {
                machine.memory[version - 1].with(|_| ());
            }
        };
        used(&self.machine);
        inside(self);
        used(&self.machine);
        self.frames -= 1;
        stack.borrow_mut().pop();
    }

    /// Calls a function.
    pub(crate) fn call(&mut self, function: usize) {
        self.call_with(function, |_| ());
    }

    /// Leaves the kernel, or goes through the idle loop, and comes back.
    pub(crate) fn leave_kernel(&mut self) {
        if self.task.inner().pending.load(Ordering::Relaxed) {
            transition::update_patch_state(self.task);
        }
        self.seen = None;
        self.machine.check();
    }

    /// Leaves the kernel; if all tasks were asked to switch before, it must have switched.
    pub(crate) fn leave_kernel_asked(&mut self) {
        let asked = self.machine.asked.load(Ordering::Acquire);
        self.leave_kernel();
        let state = self.task.patch_state();
        assert!(!asked || state != PatchState::Patched, "it was not asked");
    }

    /// Sleeps, and is woken.
    pub(crate) fn sleep(&mut self) {
        self.machine.preempt_disable();
        transition::sched_try_switch();
        self.machine.preempt_enable();
        self.off_and_on();
        if self.frames == 0 {
            self.seen = None;
        }
        self.machine.check();
    }

    /// From now on the task does not care for versions: it is switched by force.
    pub(crate) fn may_mix(&mut self) {
        self.may_mix = true;
    }

    fn off_and_on(&mut self) {
        self.off_cpu();
        self.task.inner().rq.lock();
        self.task.inner().runs.set(true);
        self.task.inner().rq.unlock();
    }

    fn off_cpu(&self) {
        if !self.is_idle {
            self.task.inner().rq.lock();
            self.task.inner().runs.set(false);
            self.task.inner().rq.unlock();
        }
    }

    /// Makes a task like this one, which is in the kernel and has called nothing yet.
    pub(crate) fn fork(&mut self) -> &'static Task {
        let child = self.machine.new_task();
        let (parent, copy) = (self.task.inner(), child.inner());
        // The structure is copied first.
        let state = parent.patch_state.load(Ordering::Relaxed);
        copy.patch_state.store(state, Ordering::Relaxed);
        let pending = parent.pending.load(Ordering::Relaxed);
        copy.pending.store(pending, Ordering::Relaxed);
        copy.runs.set(true);
        self.machine.tasklist.lock();
        transition::copy_process(child);
        self.machine.listed.borrow_mut().push(child.as_ptr());
        self.machine.tasklist.unlock();
        child
    }

    /// Leaves the list of tasks, as a task does that exits, and goes on in the kernel. No transition
    /// waits for it any more, so it may see one end.
    pub(crate) fn leave_list(&mut self) {
        self.may_mix();
        self.machine.tasklist.lock();
        let mut listed = self.machine.listed.borrow_mut();
        listed.retain(|other| *other != self.task.as_ptr());
        drop(listed);
        self.machine.tasklist.unlock();
    }
}
