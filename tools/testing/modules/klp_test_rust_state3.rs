// SPDX-License-Identifier: GPL-2.0

//! The patch of `klp_test_rust_state1.rs` with the third version of the state, which is made from
//! the second one.

#[macro_use]
#[path = "klp_test_rust_state/versions.rs"]
mod versions;

patch_with_version!("klp_test_rust_state3", 3);
