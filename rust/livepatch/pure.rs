// SPDX-License-Identifier: GPL-2.0

//! Algorithms and rules that are independent of the kernel, tested on the host by
//! `tools/testing/host`.
//!
//! Nothing here calls the kernel or allocates memory. The handler's table is here too, so that
//! threads of the host can try its memory orderings.

pub(crate) mod backoff;
pub(crate) mod escape;
pub(crate) mod names;
pub(crate) mod patch_state;
pub(crate) mod ranges;
pub(crate) mod sizes;
pub(crate) mod sort;
pub(crate) mod stall;
pub(crate) mod sympos;
pub(crate) mod table;
pub(crate) mod walk;
