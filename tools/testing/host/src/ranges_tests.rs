// SPDX-License-Identifier: GPL-2.0

use crate::pure::ranges::{find, sort, span, Range};

fn sorted(functions: &[(usize, usize)]) -> Vec<Range<usize>> {
    let enumerated = functions.iter().enumerate();
    let mut ranges: Vec<_> = enumerated
        .map(|(order, (start, size))| Range::new(*start, *size, order, order))
        .collect();
    sort(&mut ranges);
    ranges
}

/// What the C core does: every function with every address, in the order of the patch.
fn slow(functions: &[(usize, usize)], addresses: &[usize]) -> Option<usize> {
    functions.iter().position(|(start, size)| {
        addresses
            .iter()
            .any(|address| (*start..start + size).contains(address))
    })
}

#[test]
fn empty() {
    assert_eq!(find(&sorted(&[]), &[1, 2, 3]), None);
    assert_eq!(find(&sorted(&[(1, 9)]), &[]), None);
}

#[test]
fn borders() {
    let ranges = sorted(&[(100, 10)]);
    assert_eq!(find(&ranges, &[99]), None);
    assert_eq!(find(&ranges, &[100]), Some(0));
    assert_eq!(find(&ranges, &[109]), Some(0));
    assert_eq!(find(&ranges, &[110]), None);
}

#[test]
fn span_of_all() {
    assert!(span(&sorted(&[])).is_empty());
    // The one that ends last is not the one that begins last.
    let ranges = sorted(&[(300, 10), (100, 500), (200, 10)]);
    assert_eq!(span(&ranges), 100..600);
}

#[test]
fn function_without_code() {
    assert_eq!(find(&sorted(&[(100, 0)]), &[99, 100, 101]), None);
}

#[test]
fn end_of_the_address_space() {
    let ranges = sorted(&[(usize::MAX - 5, 100)]);
    assert_eq!(find(&ranges, &[usize::MAX - 6]), None);
    assert_eq!(find(&ranges, &[usize::MAX - 1]), Some(0));
}

#[test]
fn the_first_of_the_patch_is_reported() {
    let ranges = sorted(&[(300, 10), (100, 10), (200, 10)]);
    assert_eq!(find(&ranges, &[105, 205, 305]), Some(0));
    assert_eq!(find(&ranges, &[205, 105]), Some(1));
}

#[test]
fn several_ranges_of_one_function() {
    // The code of two functions, and for each an address in another place, with the same order.
    let mut ranges = vec![
        Range::new(300, 10, 0, "a"),
        Range::new(100, 10, 1, "b"),
        Range::new(105, 1, 0, "a"),
        Range::new(500, 1, 0, "a"),
        Range::new(400, 1, 1, "b"),
    ];
    sort(&mut ranges);
    for (addresses, found) in [
        (&[305][..], Some("a")),
        (&[500], Some("a")),
        (&[501], None),
        (&[104], Some("b")),
        (&[105], Some("a")),
        (&[400, 500], Some("a")),
        (&[400, 109], Some("b")),
    ] {
        assert_eq!(find(&ranges, addresses), found, "{addresses:?}");
    }
}

#[test]
fn overlapping_and_nested() {
    // A long function around small ones, and aliases.
    let functions = [(150, 5), (100, 1_000), (160, 5), (160, 5)];
    let ranges = sorted(&functions);
    for address in 90..1_110 {
        assert_eq!(
            find(&ranges, &[address]),
            slow(&functions, &[address]),
            "{address}"
        );
    }
}

/// A generator that is the same everywhere (xorshift64).
fn random(state: &mut u64) -> usize {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state as usize
}

#[test]
fn same_as_the_c_core() {
    let mut seed = 0x1234_5678_9abc_def1;
    for _ in 0..2_000 {
        let functions: Vec<_> = (0..random(&mut seed) % 20)
            .map(|_| (random(&mut seed) % 500, random(&mut seed) % 60))
            .collect();
        let ranges = sorted(&functions);
        for _ in 0..20 {
            let stack: Vec<_> = (0..random(&mut seed) % 5)
                .map(|_| random(&mut seed) % 600)
                .collect();
            assert_eq!(
                find(&ranges, &stack),
                slow(&functions, &stack),
                "{functions:?} {stack:?}"
            );
        }
    }
}
