// SPDX-License-Identifier: GPL-2.0

//! The live patches of a running machine, as its sysfs and procfs show them.
//!
//! It works on the kernel's own core and on the Rust core; what only the Rust core tells is an
//! [`Option`]. Everything is read below a root directory, so that tests use a tree of their own.

mod blocker;
mod doctor;
mod error;
mod escape;
pub mod guard;
pub mod kernel;
pub mod lock;
mod log;
mod machine;
mod names;
mod outlook;
mod patch;
pub mod stalled;
mod status;
pub mod store;
mod task;
pub mod wait;

pub use blocker::{Blocker, Reason};
pub use doctor::{EnabledFunction, Finding, Level, PatchFile, Probe};
pub use error::{Error, Result};
pub use escape::Escaped;
pub use kernel::Kernel;
pub use log::{History, Log};
pub use machine::{Core, Machine, CORE};
pub use names::{KernelRelease, ModuleName};
pub use outlook::{Facts, Outlook};
pub use patch::{Func, Object, Patch, State};
pub use status::{Leftover, PatchStatus, Status, Transition};
pub use task::{Frame, Task};
