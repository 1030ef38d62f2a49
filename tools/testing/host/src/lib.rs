// SPDX-License-Identifier: GPL-2.0

//! Tests of those parts of the livepatch core that do not need the kernel, compiled from the very same files.

#![cfg(test)]

#[path = "../../../../rust/livepatch/pace.rs"]
mod pace;
#[path = "../../../../rust/livepatch/position.rs"]
mod position;
#[path = "../../../../rust/livepatch/ranges.rs"]
mod ranges;
#[path = "../../../../rust/livepatch/table.rs"]
mod table;

mod pace_tests;
mod position_tests;
mod ranges_tests;
mod table_tests;
