// SPDX-License-Identifier: GPL-2.0

//! Sizes of code by one pass over the symbols.

use crate::pure::sizes::{Place, Sizes};
use std::ops::Range;

type Symbol = (&'static str, usize);

/// What the kernel's search does for one address.
fn one_by_one(address: usize, memory: &Range<usize>, symbols: &[Symbol]) -> Option<usize> {
    let known = |name: &str| {
        !(name.is_empty()
            || name.starts_with(".L")
            || name.starts_with("L0")
            || name.starts_with('$'))
    };
    let values = || {
        symbols
            .iter()
            .filter(|(name, _)| known(name))
            .map(|(_, value)| *value)
    };
    let best = values()
        .filter(|value| *value <= address && *value >= memory.start)
        .max()?;
    let next = values()
        .filter(|value| *value > address)
        .min()
        .unwrap_or(usize::MAX);
    Some(next.min(memory.end) - best)
}

fn sizes(addresses: &[usize], memory: &Range<usize>, symbols: &[Symbol]) -> Vec<Option<usize>> {
    let mut places: Vec<Place> = addresses
        .iter()
        .enumerate()
        .map(|(order, address)| Place::new(*address, memory.clone(), order))
        .collect();
    let mut search = Sizes::new(&mut places);
    for (name, address) in symbols {
        search.visit(name.as_bytes(), *address);
    }
    search.end();
    let mut result = vec![None; addresses.len()];
    for place in &places {
        result[place.order()] = place.size();
    }
    result
}

const TEXT: Range<usize> = 0x1000..0x2000;

#[test]
fn from_a_symbol_to_the_next_one() {
    let symbols = [("c", 0x1300), ("a", 0x1000), ("b", 0x1100)];
    assert_eq!(
        sizes(&[0x1100, 0x1000, 0x1300, 0x1110], &TEXT, &symbols),
        [Some(0x200), Some(0x100), Some(0xd00), Some(0x200)]
    );
}

#[test]
fn symbols_elsewhere_are_no_start() {
    let symbols = [("data", 0x800), ("a", 0x1400), ("more", 0x3000)];
    assert_eq!(
        sizes(&[0x1200, 0x1400], &TEXT, &symbols),
        [None, Some(0xc00)]
    );
    assert_eq!(sizes(&[0x1200], &TEXT, &[]), [None]);
    assert_eq!(sizes(&[], &TEXT, &symbols), []);
}

#[test]
fn names_without_a_meaning_do_not_count() {
    let symbols = [
        ("a", 0x1000),
        ("", 0x1010),
        (".L7", 0x1020),
        ("L0\u{1}", 0x1030),
        ("$x", 0x1040),
        ("b", 0x1050),
    ];
    assert_eq!(sizes(&[0x1000], &TEXT, &symbols), [Some(0x50)]);
}

#[test]
fn several_names_and_several_questions_for_one_address() {
    let symbols = [
        ("a", 0x1000),
        ("alias", 0x1000),
        ("b", 0x1040),
        ("b2", 0x1040),
    ];
    assert_eq!(
        sizes(&[0x1000, 0x1000, 0x1040], &TEXT, &symbols),
        [Some(0x40), Some(0x40), Some(0xfc0)]
    );
}

#[test]
fn the_same_as_one_by_one() {
    let mut state = 1_u32;
    let mut random = move |below: usize| {
        state = state.wrapping_mul(1_103_515_245).wrapping_add(12345);
        (state >> 8) as usize % below
    };
    for _ in 0..500 {
        let names = ["a", "b", "", ".Lx", "$d"];
        let symbols: Vec<Symbol> = (0..random(30))
            .map(|_| (names[random(names.len())], 0xf00 + random(0x1200)))
            .collect();
        let addresses: Vec<usize> = (0..random(20))
            .map(|_| TEXT.start + random(TEXT.len()))
            .collect();
        let expected: Vec<_> = addresses
            .iter()
            .map(|address| one_by_one(*address, &TEXT, &symbols))
            .collect();
        assert_eq!(
            sizes(&addresses, &TEXT, &symbols),
            expected,
            "{addresses:x?} {symbols:x?}"
        );
    }
}
