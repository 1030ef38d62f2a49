// SPDX-License-Identifier: GPL-2.0

//! The patch of `klp_test_rust_state1.rs` with the second version of the state.

#[macro_use]
#[path = "klp_test_rust_state/versions.rs"]
mod versions;

patch_with_version!("klp_test_rust_state2", 2);
