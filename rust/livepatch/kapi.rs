// SPDX-License-Identifier: GPL-2.0

//! Safe wrappers over what the `kernel` crate lacks, written as if for it.
//!
//! Nothing here knows about live patching policy. Nothing outside calls bindings, but for the
//! wrappers of livepatch's own types ([`crate::klp`]) and the modules that are the boundary to C
//! themselves ([`crate::abi`], [`crate::handler`], [`crate::takeover`]).
//!
//! The one import from the rest of the core is [`crate::pure::walk`], by which [`task::for_each`]
//! goes through the tasks: it is apart because the host tests it.

use crate::bindings;
use kernel::prelude::*;

pub(crate) mod cpu;
pub(crate) mod dyndbg;
pub(crate) mod ftrace;
pub(crate) mod in_flight;
pub(crate) mod irq_work;
pub(crate) mod kallsyms;
pub(crate) mod kobject;
pub(crate) mod looks;
pub(crate) mod module;
pub(crate) mod published;
pub(crate) mod stacktrace;
pub(crate) mod task;
pub(crate) mod warn;
pub(crate) mod workqueue;

/// `ESTALE`, which `kernel::error::code` does not have before 7.3.
pub(crate) fn stale() -> Error {
    Error::from_errno(-(bindings::ESTALE as c_int))
}

/// `EOPNOTSUPP`, which `kernel::error::code` does not have before 7.3.
pub(crate) fn unsupported() -> Error {
    Error::from_errno(-(bindings::EOPNOTSUPP as c_int))
}
