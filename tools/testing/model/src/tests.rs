// SPDX-License-Identifier: GPL-2.0

//! The models.

use crate::{
    machine::{Machine, Setup},
    patch::{Ops, Patch},
    pure::patch_state::{PatchId, Target},
    transition::{self, Progress, Transition},
};
use std::{
    env,
    rc::Rc,
    sync::{
        atomic::{AtomicUsize, Ordering as StdOrdering},
        Mutex,
    },
    time::Instant,
};

/// Models run one at a time: they share the statics of the core.
static ONE: Mutex<()> = Mutex::new(());

/// Explores a model, with up to so many preemptions where the environment does not say.
fn explore(name: &str, preemptions: usize, setup: Setup, body: fn(Rc<Machine>)) {
    let _one = ONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    static EXECUTIONS: AtomicUsize = AtomicUsize::new(0);
    EXECUTIONS.store(0, StdOrdering::Relaxed);
    let start = Instant::now();
    let mut builder = loom::model::Builder::new();
    builder.max_branches = 10_000;
    if builder.preemption_bound.is_none() {
        let asked = env::var("MODEL_PREEMPTIONS").ok();
        let more = asked.map_or(0, |more| more.parse::<usize>().expect("a number"));
        builder.preemption_bound = Some(preemptions + more);
    }
    builder.check(move || {
        EXECUTIONS.fetch_add(1, StdOrdering::Relaxed);
        let machine = Machine::begin(setup);
        body(machine.clone());
        machine.check();
    });
    println!(
        "model {name}: {} executions, {:.1} s",
        EXECUTIONS.load(StdOrdering::Relaxed),
        start.elapsed().as_secs_f32()
    );
}

/// The part of the registry: patches and the transition.
struct Registry {
    machine: Rc<Machine>,
    ops: Ops,
    running: Option<Transition>,
}

impl Registry {
    fn new(machine: &Rc<Machine>) -> Self {
        let mut registry = Self {
            machine: machine.clone(),
            ops: Ops::new(),
            running: None,
        };
        // The atomic variables of the core are made before there is a second thread.
        let mut patch = Patch::new(0);
        Transition::init(&mut patch, Target::Patched).cancel_unattached(&mut patch, &mut registry);
        transition::remaining(PatchId::NONE);
        registry
    }

    /// A patch that has been enabled before.
    fn enabled(&mut self, number: usize) -> Patch {
        let mut patch = Patch::new(number);
        patch.attach(&mut self.ops);
        patch
    }

    fn enable(&mut self, number: usize) -> Patch {
        let mut patch = Patch::new(number);
        let mut transition = Transition::init(&mut patch, Target::Patched);
        patch.attach(&mut self.ops);
        transition.start(&mut patch, &self.ops);
        self.running = Some(transition);
        patch
    }

    fn disable(&mut self, patch: &mut Patch) {
        let mut transition = Transition::init(patch, Target::Unpatched);
        transition.start(patch, &self.ops);
        self.running = Some(transition);
    }

    fn reverse(&mut self, patch: &mut Patch) {
        if let Some(running) = &mut self.running {
            running.reverse(patch, &self.ops);
        }
    }

    /// Makes a pass, and returns whether the transition is complete.
    fn pass(&mut self, patch: &mut Patch) -> bool {
        let Some(mut running) = self.running.take() else {
            return true;
        };
        match running.try_complete(patch) {
            Progress::Complete => {
                running.complete(&mut [], patch, &mut self.ops);
                self.machine.check();
                true
            }
            Progress::Remaining(_, wake_at) => {
                let _ = wake_at.arm();
                self.running = Some(running);
                false
            }
        }
    }

    /// Makes the pass that completes the transition, since no task runs any more.
    fn last_pass(&mut self, patch: &mut Patch) {
        assert!(self.pass(patch), "a task that sleeps was not switched");
    }
}

impl Transition {
    /// Gives up a transition of a patch that was never attached.
    fn cancel_unattached(self, patch: &mut Patch, registry: &mut Registry) {
        patch.attach(&mut registry.ops);
        self.cancel(patch, &mut registry.ops);
    }
}

/// Calls both functions, the second one inside the first.
fn calls(task: &mut crate::machine::Running) {
    task.call_with(0, |task| task.call(1));
}

#[test]
fn enable() {
    explore("enable", 3, Setup::default(), |machine| {
        let mut registry = Registry::new(&machine);
        let thread = machine.spawn(1, machine.task(), |task| {
            calls(task);
            task.leave_kernel();
            calls(task);
        });
        let mut patch = registry.enable(0);
        registry.pass(&mut patch);
        thread.join().expect("it ends");
        registry.last_pass(&mut patch);
    });
}

#[test]
fn disable() {
    explore("disable", 3, Setup::default(), |machine| {
        let mut registry = Registry::new(&machine);
        let mut patch = registry.enabled(0);
        let thread = machine.spawn(1, machine.task(), |task| {
            calls(task);
            task.leave_kernel();
            calls(task);
        });
        registry.disable(&mut patch);
        if registry.pass(&mut patch) {
            patch.free();
            thread.join().expect("it ends");
        } else {
            thread.join().expect("it ends");
            registry.last_pass(&mut patch);
            patch.free();
        }
    });
}
