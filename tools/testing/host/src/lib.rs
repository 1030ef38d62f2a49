// SPDX-License-Identifier: GPL-2.0

//! Tests of those parts of the livepatch core that do not need the kernel, compiled from the very same files.

#![cfg(test)]
// Not everything that the core uses is tested here.
#![allow(dead_code)]

#[path = "../../../../rust/livepatch/names.rs"]
mod names;
#[path = "../../../../rust/livepatch/pace.rs"]
mod pace;
#[path = "../../../../rust/livepatch/position.rs"]
mod position;
#[path = "../../../../rust/livepatch/ranges.rs"]
mod ranges;
#[path = "../../../../rust/livepatch/sizes.rs"]
mod sizes;
#[path = "../../../../rust/livepatch/sort.rs"]
mod sort;
#[path = "../../../../rust/livepatch/table.rs"]
mod table;
#[path = "../../../../rust/livepatch/walk.rs"]
mod walk;

mod names_tests;
mod pace_tests;
mod position_tests;
mod ranges_tests;
mod sizes_tests;
mod sort_tests;
mod table_tests;
mod walk_tests;
