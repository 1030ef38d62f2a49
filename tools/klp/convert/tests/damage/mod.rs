// SPDX-License-Identifier: GPL-2.0

//! Damage to files, for tests of several crates.

use proptest::prelude::*;

/// Bytes that are changed: where, and to what.
pub fn damage() -> impl Strategy<Value = Vec<(prop::sample::Index, u8)>> {
    prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12)
}

pub fn damaged(mut data: Vec<u8>, damage: &[(prop::sample::Index, u8)]) -> Vec<u8> {
    for (index, byte) in damage {
        let at = index.index(data.len());
        data[at] = *byte;
    }
    data
}
