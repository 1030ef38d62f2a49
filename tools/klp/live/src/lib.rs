// SPDX-License-Identifier: GPL-2.0

//! The live patches of a running machine, as its sysfs and procfs show them.
//!
//! It works on the kernel's own core and on the Rust core; what only the Rust core tells is an
//! [`Option`]. Everything is read below a root directory, so that tests use a tree of their own.

mod error;
mod machine;
mod patch;

pub use error::{Error, Result};
pub use machine::{Core, Machine};
pub use patch::{Func, Object, Patch, State};
