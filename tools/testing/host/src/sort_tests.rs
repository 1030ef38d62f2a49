// SPDX-License-Identifier: GPL-2.0

use crate::pure::sort::by_key;

/// Numbers that look random, and repeat.
fn numbers(count: usize) -> Vec<u64> {
    let mut state = count as u64 + 1;
    (0..count)
        .map(|_| {
            state = state
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            (state >> 33) % 1000
        })
        .collect()
}

#[test]
fn like_the_standard_library() {
    for count in (0..40).chain([100, 2000]) {
        let mut ours: Vec<_> = numbers(count).into_iter().enumerate().collect();
        let mut theirs = ours.clone();
        by_key(&mut ours, |(index, number)| (*number, *index));
        theirs.sort_by_key(|(index, number)| (*number, *index));
        assert_eq!(ours, theirs);
    }
}

#[test]
fn sorted_backwards_and_equal() {
    for mut items in [
        (0..500).collect::<Vec<_>>(),
        (0..500).rev().collect(),
        vec![7; 500],
    ] {
        let mut expected = items.clone();
        expected.sort();
        by_key(&mut items, |item| *item);
        assert_eq!(items, expected);
    }
}
