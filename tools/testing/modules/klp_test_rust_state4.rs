// SPDX-License-Identifier: GPL-2.0

//! The patch of `klp_test_rust_state1.rs` with the fourth version of the state, which can be made
//! from the first one only.

#[macro_use]
#[path = "klp_test_rust_state/versions.rs"]
mod versions;

patch_with_version!("klp_test_rust_state4", 4);
