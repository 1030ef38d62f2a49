// SPDX-License-Identifier: GPL-2.0

use super::check;
use crate::pure::{
    ranges,
    sizes::{Place, Sizes},
    sort,
    sympos::{LookupError, Matcher, Search, Wanted},
};
use proptest::{collection::vec, prelude::*};
use std::ops::ControlFlow;

/// An address among few, so that many are equal or next to each other; now and then any at all.
fn address() -> impl Strategy<Value = usize> {
    prop_oneof![8 => 1usize..40, 1 => any::<usize>(), 1 => usize::MAX - 20..]
}

#[test]
fn sorted() {
    check(
        "sorted",
        vec((0u8..20, any::<u16>()), 0..200),
        |mut items| {
            let mut expected = items.clone();
            expected.sort();
            sort::by_key(&mut items, |item| item.0);
            prop_assert!(items.is_sorted_by_key(|item| item.0));
            items.sort();
            prop_assert_eq!(items, expected);
            Ok(())
        },
    );
}

#[test]
fn ranges_on_stacks() {
    let range = (address(), prop_oneof![0usize..20, any::<usize>()]);
    let functions = (vec(range, 0..30), vec(address(), 0..10));
    check("ranges", functions, |(functions, stack)| {
        let mut sorted: Vec<_> = functions
            .iter()
            .enumerate()
            .map(|(order, (start, size))| ranges::Range::new(*start, *size, order, order))
            .collect();
        ranges::sort(&mut sorted);
        let first = functions.iter().position(|(start, size)| {
            // The last byte of the address space is in no function.
            stack
                .iter()
                .any(|at| start <= at && *at < start.saturating_add(*size))
        });
        prop_assert_eq!(ranges::find(&sorted, &stack), first);
        Ok(())
    });
}

/// The names that symbols have, many of them often.
fn symbol_name() -> impl Strategy<Value = &'static [u8]> {
    let names: [&[u8]; 6] = [b"a", b"ab", b"b", b"", b"a.isra.0", b"\xff"];
    prop::sample::select(names.to_vec())
}

#[test]
fn positions_of_symbols() {
    let table = vec((symbol_name(), 1usize..), 0..40);
    let wanted = vec((symbol_name(), 0usize..5), 0..20);
    check("positions", (table, wanted), |(table, asked)| {
        let expected: Vec<_> = asked
            .iter()
            .map(|(name, position)| {
                let mut all = table.iter().filter(|(other, _)| name == other);
                let count = all.clone().count();
                match (count, *position) {
                    (0, _) => Err(LookupError::NotFound),
                    (1, 0) => Ok(all.next().expect("one").1),
                    (_, 0) => Err(LookupError::Ambiguous),
                    (_, position) => all
                        .nth(position - 1)
                        .map(|(_, at)| *at)
                        .ok_or(LookupError::NoSuchPosition),
                }
            })
            .collect();

        // All in one pass.
        let mut wanted: Vec<_> = asked
            .iter()
            .enumerate()
            .map(|(order, (name, position))| Wanted::new(name, *position, order))
            .collect();
        let mut search = Search::new(&mut wanted);
        for (name, at) in &table {
            search.visit(name, *at);
        }
        search.end();
        let found: Vec<_> = wanted.iter().map(Wanted::result).collect();
        prop_assert_eq!(&found, &expected);
        prop_assert!(wanted
            .iter()
            .zip(&asked)
            .all(|(wanted, (name, _))| wanted.name() == *name));

        // One after the other, until it breaks.
        for ((name, position), expected) in asked.iter().zip(&expected) {
            let mut matcher = Matcher::new(*position);
            for (_, at) in table.iter().filter(|(other, _)| name == other) {
                if matcher.visit(*at) == ControlFlow::Break(()) {
                    break;
                }
            }
            prop_assert_eq!(&matcher.result(), expected);
        }
        Ok(())
    });
}

#[test]
fn sizes_of_symbols() {
    let name = prop_oneof![
        4 => Just(&b"f"[..]),
        1 => prop::sample::select(vec![&b""[..], b".Ltmp", b"L0\x01", b"$x", b"L1", b"a$"])
    ];
    let table = vec((name, 1usize..60), 0..40);
    // Addresses in one memory or in another one.
    let places = vec((any::<bool>(), 10usize..30), 0..20);
    check("sizes", (table, places), |(table, places)| {
        let of = |other: bool| if other { 30..50 } else { 10..30 };
        let places: Vec<_> = places
            .into_iter()
            .map(|(other, at)| (at + if other { 20 } else { 0 }, of(other)))
            .collect();
        let ignored = |name: &[u8]| matches!(name, b"" | b".Ltmp" | b"L0\x01" | b"$x");
        let symbols = || {
            table
                .iter()
                .filter(|(name, _)| !ignored(name))
                .map(|(_, at)| *at)
        };
        let expected: Vec<_> = places
            .iter()
            .map(|(at, memory)| {
                let below = symbols().filter(|symbol| symbol <= at).max()?;
                let above = symbols()
                    .filter(|symbol| symbol > at)
                    .min()
                    .unwrap_or(memory.end);
                (below >= memory.start).then(|| above.min(memory.end) - below)
            })
            .collect();

        let mut looked_for: Vec<_> = places
            .iter()
            .enumerate()
            .map(|(order, (at, memory))| Place::new(*at, memory.clone(), order))
            .collect();
        let mut sizes = Sizes::new(&mut looked_for);
        for (name, at) in &table {
            sizes.visit(name, *at);
        }
        sizes.end();
        looked_for.sort_by_key(Place::order);
        let found: Vec<_> = looked_for.iter().map(Place::size).collect();
        prop_assert_eq!(found, expected);
        Ok(())
    });
}
