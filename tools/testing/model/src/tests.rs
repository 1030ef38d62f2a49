// SPDX-License-Identifier: GPL-2.0

//! The models.

use crate::{
    kapi::looks::Looks,
    klp::patch_state::PatchStateExt,
    machine::{Machine, Setup},
    patch::{Ops, Patch},
    pure::patch_state::{PatchState, Target},
    transition::{Progress, Transition},
};
use loom::thread::JoinHandle;
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
    looks: Looks,
    running: Option<Transition>,
}

impl Registry {
    fn new(machine: &Rc<Machine>) -> Self {
        let mut registry = Self {
            machine: machine.clone(),
            ops: Ops::new(),
            // SAFETY: There is one registry at a time.
            looks: unsafe { Looks::new() },
            running: None,
        };
        // The atomic variables of the core are made before there is a second thread: by a
        // transition of a task that nobody but this one knows.
        let task = machine.task();
        let mut patch = registry.enable(0);
        assert!(!registry.pass(&mut patch), "a task that runs was switched");
        if let Some(running) = &registry.running {
            running.force();
        }
        registry.last_pass(&mut patch);
        patch.unpatch(&mut registry.ops);
        machine.remove(task);
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
        match running.try_complete(patch, &self.looks) {
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

    /// Ends the transition that takes a patch off, by a pass while the thread runs or by one after it
    /// has ended, and gives the patch up: no task may look at it then.
    fn finish(&mut self, mut patch: Patch, thread: JoinHandle<()>) {
        if self.pass(&mut patch) {
            patch.free();
            thread.join().expect("it ends");
        } else {
            thread.join().expect("it ends");
            self.last_pass(&mut patch);
            patch.free();
        }
    }

    /// Makes the pass that completes the transition, since no task runs any more.
    fn last_pass(&mut self, patch: &mut Patch) {
        assert!(self.pass(patch), "a task that sleeps was not switched");
    }
}

/// Calls the functions, leaves the kernel, and calls them again.
fn before_and_after(task: &mut crate::machine::Running) {
    calls(task);
    task.leave_kernel();
    calls(task);
}

/// Calls both functions, the second one inside the first.
fn calls(task: &mut crate::machine::Running) {
    task.call_with(0, |task| task.call(1));
}

#[test]
fn enable() {
    explore("enable", 3, Setup::default(), |machine| {
        let mut registry = Registry::new(&machine);
        let thread = machine.spawn(1, machine.task(), before_and_after);
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
        let thread = machine.spawn(1, machine.task(), before_and_after);
        registry.disable(&mut patch);
        registry.finish(patch, thread);
    });
}

/// A transition that is turned round while a task switches.
fn turned_round(enable: bool) -> fn(Rc<Machine>) {
    fn run(machine: Rc<Machine>, enable: bool) {
        let mut registry = Registry::new(&machine);
        let enabled = (!enable).then(|| registry.enabled(0));
        let thread = machine.spawn(1, machine.task(), |task| {
            task.leave_kernel();
            calls(task);
            task.leave_kernel();
            calls(task);
        });
        let mut patch = match enabled {
            None => registry.enable(0),
            Some(mut patch) => {
                registry.disable(&mut patch);
                patch
            }
        };
        registry.reverse(&mut patch);
        registry.pass(&mut patch);
        thread.join().expect("it ends");
        registry.last_pass(&mut patch);
        if enable {
            patch.free();
        }
    }
    if enable {
        |machine| run(machine, true)
    } else {
        |machine| run(machine, false)
    }
}

#[test]
fn reverse_enabling() {
    explore("reverse enabling", 3, Setup::default(), turned_round(true));
}

#[test]
fn reverse_disabling() {
    explore(
        "reverse disabling",
        3,
        Setup::default(),
        turned_round(false),
    );
}

/// A transition is turned round while a task looks at its own stack, in a replacement, and goes on
/// there.
#[test]
fn reverse_while_it_sleeps() {
    explore("reverse while it sleeps", 3, Setup::default(), |machine| {
        let mut registry = Registry::new(&machine);
        let mut patch = registry.enabled(0);
        let thread = machine.spawn(1, machine.task(), |task| {
            task.call_with(0, |task| {
                task.sleep();
                task.call(1);
            });
        });
        registry.disable(&mut patch);
        registry.reverse(&mut patch);
        thread.join().expect("it ends");
        registry.last_pass(&mut patch);
    });
}

/// A task that sleeps in and outside the functions, and is looked at meanwhile.
#[test]
fn sleep() {
    explore("sleep", 3, Setup::default(), |machine| {
        let mut registry = Registry::new(&machine);
        let mut patch = registry.enabled(0);
        let thread = machine.spawn(1, machine.task(), |task| {
            task.call_with(0, |task| {
                task.sleep();
                task.call(1);
            });
            task.sleep();
            calls(task);
        });
        registry.disable(&mut patch);
        registry.pass(&mut patch);
        registry.finish(patch, thread);
    });
}

/// A task is preempted between the handler's choice and the first instruction of the replacement.
#[test]
fn on_the_way() {
    explore("on the way", 3, Setup::default(), |machine| {
        let mut registry = Registry::new(&machine);
        let mut patch = registry.enabled(0);
        let thread = machine.spawn(1, machine.task(), |task| {
            task.call_and_be_preempted(0);
            task.leave_kernel();
            task.call(1);
        });
        registry.disable(&mut patch);
        registry.finish(patch, thread);
    });
}

/// A patch on top of another one, which tasks that have not switched still run.
#[test]
fn stacked() {
    explore("stacked", 3, Setup::default(), |machine| {
        let mut registry = Registry::new(&machine);
        let below = registry.enabled(0);
        let thread = machine.spawn(1, machine.task(), before_and_after);
        let mut patch = registry.enable(1);
        registry.pass(&mut patch);
        thread.join().expect("it ends");
        registry.last_pass(&mut patch);
        drop((below, patch));
    });
}

/// The upper of two patches goes while tasks run.
#[test]
fn unstacked() {
    explore("unstacked", 3, Setup::default(), |machine| {
        let mut registry = Registry::new(&machine);
        let below = registry.enabled(0);
        let mut patch = registry.enabled(1);
        let thread = machine.spawn(1, machine.task(), before_and_after);
        registry.disable(&mut patch);
        registry.finish(patch, thread);
        drop(below);
    });
}

/// Tasks make others, which have to switch too, while the list is walked task by task.
#[test]
fn fork() {
    explore("fork", 2, Setup::default(), |machine| {
        let mut registry = Registry::new(&machine);
        let mut patch = registry.enabled(0);
        let forking = machine.clone();
        let thread = machine.spawn(1, machine.task(), move |task| {
            let child = task.fork();
            let thread = forking.spawn(2, child, |task| {
                calls(task);
                task.leave_kernel_asked();
            });
            task.leave_kernel();
            calls(task);
            thread.join().expect("it ends");
        });
        registry.disable(&mut patch);
        machine.all_are_asked();
        registry.finish(patch, thread);
    });
}

/// Tasks make others while the transition is turned round.
#[test]
fn fork_and_reverse() {
    explore("fork and reverse", 2, Setup::default(), |machine| {
        let mut registry = Registry::new(&machine);
        let forking = machine.clone();
        let thread = machine.spawn(1, machine.task(), move |task| {
            task.leave_kernel();
            let child = task.fork();
            let thread = forking.spawn(2, child, |task| calls(task));
            calls(task);
            thread.join().expect("it ends");
        });
        let mut patch = registry.enable(0);
        registry.reverse(&mut patch);
        registry.pass(&mut patch);
        thread.join().expect("it ends");
        registry.last_pass(&mut patch);
        patch.free();
    });
}

/// A task that has just been made goes on into the next transition.
#[test]
fn fork_and_disable_again() {
    explore("fork and disable again", 2, Setup::default(), |machine| {
        let mut registry = Registry::new(&machine);
        let mut below = registry.enabled(0);
        let mut patch = registry.enabled(1);
        let forking = machine.clone();
        let thread = machine.spawn(1, machine.task(), move |task| {
            let child = task.fork();
            let thread = forking.spawn(2, child, |task| {
                task.leave_kernel();
                calls(task);
            });
            thread.join().expect("it ends");
        });
        registry.disable(&mut patch);
        if registry.pass(&mut patch) {
            registry.disable(&mut below);
            registry.pass(&mut below);
            thread.join().expect("it ends");
            registry.last_pass(&mut below);
        } else {
            thread.join().expect("it ends");
            registry.last_pass(&mut patch);
        }
        patch.free();
    });
}

/// A task leaves the list, perhaps the one that the walk has stopped at, and goes on in the kernel.
#[test]
fn exit() {
    explore("exit", 2, Setup::default(), |machine| {
        let mut registry = Registry::new(&machine);
        let mut patch = registry.enabled(0);
        let first = machine.task();
        let second = machine.spawn(2, machine.task(), |task| calls(task));
        let first = machine.spawn(1, first, |task| {
            task.leave_list();
            calls(task);
        });
        registry.disable(&mut patch);
        let complete = registry.pass(&mut patch);
        second.join().expect("it ends");
        // The registry waits for such a task before it gives the memory up.
        first.join().expect("it ends");
        if !complete {
            registry.last_pass(&mut patch);
        }
        patch.free();
    });
}

/// A task that has not been there before comes along a link when the replacement above has gone.
#[test]
fn links() {
    explore("links", 4, Setup::default(), |machine| {
        let mut registry = Registry::new(&machine);
        let thread = machine.spawn(1, machine.task(), |task| {
            task.may_mix();
            calls(task);
        });
        let below = registry.enabled(0);
        let mut above = registry.enabled(1);
        above.unpatch(&mut registry.ops);
        thread.join().expect("it ends");
        drop((below, above));
    });
}

/// Remaining tasks are switched by force, wherever they are.
#[test]
fn force() {
    explore("force", 3, Setup::default(), |machine| {
        let mut registry = Registry::new(&machine);
        let thread = machine.spawn(1, machine.task(), |task| {
            task.may_mix();
            calls(task);
            task.leave_kernel();
            calls(task);
        });
        let mut patch = registry.enable(0);
        if let Some(running) = &registry.running {
            running.force();
        }
        registry.pass(&mut patch);
        thread.join().expect("it ends");
        registry.last_pass(&mut patch);
    });
}

/// The idle task of a CPU switches in its loop.
#[test]
fn idle() {
    let setup = Setup {
        idle_cpus: 1,
        ..Setup::default()
    };
    explore("idle", 3, setup, |machine| {
        let mut registry = Registry::new(&machine);
        let mut patch = registry.enabled(0);
        let thread = machine.spawn(1, machine.idle_of(0), before_and_after);
        registry.disable(&mut patch);
        if registry.pass(&mut patch) {
            patch.free();
            thread.join().expect("it ends");
        } else {
            thread.join().expect("it ends");
            machine.set_offline();
            registry.last_pass(&mut patch);
            patch.free();
        }
    });
}

/// A patch is given up before any task was asked to switch.
#[test]
fn cancel() {
    explore("cancel", 3, Setup::default(), |machine| {
        let mut registry = Registry::new(&machine);
        let thread = machine.spawn(1, machine.task(), before_and_after);
        let mut patch = Patch::new(0);
        let transition = Transition::init(&mut patch, Target::Patched);
        patch.attach(&mut registry.ops);
        transition.cancel(&mut patch, &mut registry.ops);
        patch.free();
        thread.join().expect("it ends");
    });
}

/// A module comes while tasks are checked: what they are checked against is made anew.
#[test]
fn new_stack_check() {
    explore("new stack check", 3, Setup::default(), |machine| {
        let mut registry = Registry::new(&machine);
        let mut patch = registry.enabled(0);
        let thread = machine.spawn(1, machine.task(), |task| {
            task.call_with(0, |task| task.sleep());
            task.sleep();
        });
        registry.disable(&mut patch);
        if let Some(running) = &registry.running {
            running.update_stack_check(&mut patch, &registry.ops);
        }
        registry.finish(patch, thread);
    });
}

/// The table is replaced while handlers look functions up.
#[test]
fn new_table() {
    explore("new table", 4, Setup::default(), |machine| {
        let mut registry = Registry::new(&machine);
        let patch = registry.enabled(0);
        let thread = machine.spawn(1, machine.task(), |task| {
            calls(task);
            calls(task);
        });
        registry.ops.renew();
        thread.join().expect("it ends");
        drop(patch);
    });
}

/// Once the last task that a pass left has switched itself, another pass is made, or the one who
/// left it knows.
#[test]
fn last_switch() {
    let setup = Setup {
        with_counters: true,
        ..Setup::default()
    };
    explore("last switch", 3, setup, |machine| {
        let mut registry = Registry::new(&machine);
        let mut patch = registry.enabled(0);
        let task = machine.task();
        let thread = machine.spawn(1, task, |task| task.leave_kernel());
        registry.disable(&mut patch);
        let Some(running) = &mut registry.running else {
            unreachable!("just started");
        };
        let known = match running.try_complete(&patch, &registry.looks) {
            Progress::Complete => true,
            Progress::Remaining(_, wake_at) => wake_at.arm(),
        };
        thread.join().expect("it ends");
        // It may also have been in user space, too early to be asked.
        let switched = task.patch_state() == PatchState::Unpatched;
        assert!(
            known || machine.is_asked() || !switched,
            "nobody makes another pass"
        );
        registry.last_pass(&mut patch);
        patch.free();
    });
}
