// SPDX-License-Identifier: GPL-2.0

//! A patch in Rust with the first version of a state. `tools/testing/vm` has it replaced by patches
//! with the versions 2 to 4, which make theirs from what it leaves.

#[macro_use]
#[path = "klp_test_rust_state/versions.rs"]
mod versions;

patch_with_version!("klp_test_rust_state1", 1);
