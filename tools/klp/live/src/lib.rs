// SPDX-License-Identifier: GPL-2.0

//! The live patches of a running machine, as its sysfs and procfs show them.
//!
//! It works on the kernel's own core and on the Rust core; what only the Rust core tells is an
//! [`Option`]. Everything is read below a root directory, so that tests use a tree of their own.

mod error;
pub mod guard;
pub mod kernel;
pub mod lock;
mod machine;
mod patch;
pub mod stalled;
pub mod store;
pub mod wait;

pub use error::{Error, Result};
pub use kernel::Kernel;
pub use machine::{Core, Machine};
pub use patch::{Func, Object, Patch, State};
