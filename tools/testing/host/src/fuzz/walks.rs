// SPDX-License-Identifier: GPL-2.0

use super::check;
use crate::pure::walk::{Cost, Progress, Walk};
use proptest::{collection::vec, prelude::*};
use std::collections::BTreeMap;

/// What happens to the list between two pieces.
#[derive(Clone, Debug)]
enum Event {
    /// An entry makes another one, like itself, at the end.
    Fork(prop::sample::Index),
    /// An entry goes.
    Exit(prop::sample::Index),
    /// The entry that the walk stopped at goes.
    ExitHere,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => any::<prop::sample::Index>().prop_map(Event::Fork),
        3 => any::<prop::sample::Index>().prop_map(Event::Exit),
        2 => Just(Event::ExitHere),
    ]
}

#[test]
fn walks() {
    let costs = vec(prop_oneof![Just(Cost::Light), Just(Cost::Heavy)], 0..600);
    let events = vec(vec(event(), 0..6), 0..12);
    check("walks", (costs, events), |(costs, events)| {
        // Each entry, whether it is done, and what a visit costs.
        let mut list: BTreeMap<usize, (bool, Cost)> = costs
            .iter()
            .enumerate()
            .map(|(number, cost)| (number, (false, *cost)))
            .collect();
        let mut last = list.len();
        let mut events = events.into_iter();
        let mut walk: Walk<usize, Vec<usize>> = Walk::new();
        let mut vanished = 0;
        let mut found = Vec::new();
        let mut cursor: Option<usize> = None;
        loop {
            let mut visited = Vec::new();
            let start = cursor.filter(|cursor| list.contains_key(cursor));
            if cursor.is_some() && start.is_none() {
                vanished += 1;
                found.clear();
            }
            let progress = walk.piece(
                |cursor| list.contains_key(cursor).then_some(*cursor),
                |entry| {
                    list.range(entry.map_or(0, |entry| entry + 1)..)
                        .next()
                        .map(|(n, _)| *n)
                },
                |entry| entry,
                |entry, found| {
                    visited.push(entry);
                    found.push(entry);
                    list[&entry].1
                },
            );
            found.extend(&visited);
            // In order, without a gap, from where it stopped.
            let expected: Vec<usize> = list
                .keys()
                .copied()
                .filter(|entry| start.is_none_or(|start| *entry > start))
                .take(visited.len())
                .collect();
            prop_assert_eq!(&visited, &expected);
            let work = |entries: &[usize]| -> u32 {
                let cost = |entry| if list[entry].1 == Cost::Heavy { 16 } else { 1 };
                entries.iter().map(cost).sum()
            };
            match progress {
                Progress::End => {
                    prop_assert_eq!(visited.last().or(start.as_ref()), list.keys().last());
                    if vanished < 4 && !visited.is_empty() {
                        prop_assert!(work(&visited[..visited.len() - 1]) < 512);
                    }
                }
                Progress::More(old) => {
                    prop_assert_eq!(old, cursor);
                    prop_assert!(vanished < 4, "it should go on without pieces");
                    prop_assert!(work(&visited) >= 512);
                    prop_assert!(work(&visited[..visited.len() - 1]) < 512);
                }
            }
            for entry in &visited {
                list.entry(*entry).and_modify(|entry| entry.0 = true);
            }
            cursor = visited.last().copied().or(cursor);
            if progress == Progress::End {
                break;
            }
            for event in events.next().unwrap_or_default() {
                let numbers: Vec<usize> = list.keys().copied().collect();
                match event {
                    _ if numbers.is_empty() => (),
                    Event::Fork(index) => {
                        let like = list[index.get(&numbers)];
                        list.insert(last, like);
                        last += 1;
                    }
                    Event::Exit(index) => {
                        list.remove(index.get(&numbers));
                    }
                    Event::ExitHere => {
                        list.remove(&cursor.expect("it has stopped somewhere"));
                    }
                }
            }
        }
        prop_assert_eq!(walk.into_found(), found);
        prop_assert!(
            list.values().all(|(done, _)| *done),
            "somebody was left behind"
        );
        Ok(())
    });
}
