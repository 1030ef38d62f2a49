// SPDX-License-Identifier: GPL-2.0

use crate::pure::sympos::{LookupError, Matcher, Search, Wanted};

/// Shows symbols at the given addresses to a search for position `wanted`; returns the answer and how many it looked at.
fn search(wanted: usize, addresses: &[usize]) -> (Result<usize, LookupError>, usize) {
    let mut matcher = Matcher::new(wanted);
    let looked = addresses
        .iter()
        .position(|address| matcher.visit(*address).is_break())
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
        assert_eq!(search(wanted, &[]), (Err(LookupError::NotFound), 0));
    }
}

#[test]
fn ambiguous_is_known_at_the_second() {
    assert_eq!(
        search(0, &[0x10, 0x20, 0x30]),
        (Err(LookupError::Ambiguous), 2)
    );
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
        (Err(LookupError::NoSuchPosition), 3)
    );
    assert_eq!(
        search(usize::MAX, &[0x10]),
        (Err(LookupError::NoSuchPosition), 1)
    );
}

/// Looks for names at positions in a table of names, whose addresses are 1, 2, ...
fn search_all(wanted: &[(&str, usize)], table: &[&str]) -> Vec<Result<usize, LookupError>> {
    let entries = wanted.iter().enumerate();
    let mut wanted: Vec<_> = entries
        .map(|(order, (name, position))| Wanted::new(name.as_bytes(), *position, order))
        .collect();
    let mut search = Search::new(&mut wanted);
    for (index, name) in table.iter().enumerate() {
        search.visit(name.as_bytes(), index + 1);
    }
    search.end();
    wanted.iter().map(Wanted::result).collect()
}

#[test]
fn many_at_once_keep_their_order() {
    let table = ["x", "a", "b", "c", "a", "d"];
    assert_eq!(
        search_all(&[("d", 0), ("b", 1), ("a", 0), ("e", 0)], &table),
        [
            Ok(6),
            Ok(3),
            Err(LookupError::Ambiguous),
            Err(LookupError::NotFound)
        ]
    );
}

#[test]
fn one_name_several_times() {
    let table = ["a", "b", "a", "a"];
    assert_eq!(
        search_all(&[("a", 3), ("a", 1), ("a", 2), ("a", 4), ("a", 1)], &table),
        [Ok(4), Ok(1), Ok(3), Err(LookupError::NoSuchPosition), Ok(1)]
    );
}

#[test]
fn nothing_wanted_nothing_there() {
    assert_eq!(search_all(&[], &["a"]), []);
    assert_eq!(search_all(&[("a", 0)], &[]), [Err(LookupError::NotFound)]);
}
