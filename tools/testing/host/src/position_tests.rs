// SPDX-License-Identifier: GPL-2.0

use crate::position::{Matcher, Miss};

/// Shows symbols at the given addresses to a search for position `wanted`; returns the answer and how many it looked at.
fn search(wanted: usize, addresses: &[usize]) -> (Result<usize, Miss>, usize) {
    let mut matcher = Matcher::new(wanted);
    let looked = addresses
        .iter()
        .position(|address| matcher.saw(*address).is_break())
        .map_or(addresses.len(), |last| last + 1);
    (matcher.result(), looked)
}

#[test]
fn unique() {
    assert_eq!(search(0, &[0x10]), (Ok(0x10), 1));
    assert_eq!(search(1, &[0x10]), (Ok(0x10), 1));
}

#[test]
fn none() {
    for wanted in 0..3 {
        assert_eq!(search(wanted, &[]), (Err(Miss::NotFound), 0));
    }
}

#[test]
fn ambiguous_is_known_at_the_second() {
    assert_eq!(search(0, &[0x10, 0x20, 0x30]), (Err(Miss::Ambiguous), 2));
}

#[test]
fn position_is_found_without_looking_further() {
    assert_eq!(search(1, &[0x10, 0x20, 0x30]), (Ok(0x10), 1));
    assert_eq!(search(2, &[0x10, 0x20, 0x30]), (Ok(0x20), 2));
    assert_eq!(search(3, &[0x10, 0x20, 0x30]), (Ok(0x30), 3));
}

#[test]
fn position_behind_the_last() {
    assert_eq!(
        search(4, &[0x10, 0x20, 0x30]),
        (Err(Miss::NoSuchPosition), 3)
    );
    assert_eq!(search(usize::MAX, &[0x10]), (Err(Miss::NoSuchPosition), 1));
}
