// SPDX-License-Identifier: GPL-2.0

//! What goes on in a running kernel.

use crate::declaration::State;

/// Somebody who changes or follows calls of a function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// `vmlinux` or a module.
    pub object: String,
    /// The function.
    pub func: String,
    /// What is done with it.
    pub hold: Hold,
}

/// What somebody does with a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Hold {
    /// Another function runs instead.
    Redirected,
    /// It is called by somebody without ftrace in between, such as a BPF trampoline.
    Direct,
    /// A kprobe is in it.
    Probe,
}

/// A patch that the core has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installed {
    /// Its module.
    pub name: String,
    /// Its functions, each after its object, and which one of its name it is, from 1.
    pub funcs: Vec<(String, String, u64)>,
    /// Its states; [`None`] if its file is not to be found.
    pub states: Option<Vec<State>>,
    /// Whether a transition of it is going on.
    pub in_transition: bool,
}

/// A task with a function on its kernel stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sitting {
    /// The task, for people.
    pub task: String,
    /// `vmlinux` or a module.
    pub object: String,
    /// The function.
    pub func: String,
}

/// What goes on in the running kernel. What is [`None`] cannot be seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Live {
    /// Who changes or follows calls.
    pub holders: Option<Vec<Holder>>,
    /// The patches, in the order in which they were enabled.
    pub patches: Vec<Installed>,
    /// Which tasks are where; only if that was asked for.
    pub tasks: Option<Vec<Sitting>>,
    /// Why no module can be loaded, or no patch be enabled.
    pub obstacles: Vec<(String, String)>,
}
