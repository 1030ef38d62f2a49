// SPDX-License-Identifier: GPL-2.0

use crate::pure::walk::{Cost, Progress, Walk};
use std::collections::{BTreeSet, HashMap};

/// A list of numbered entries, new ones at the end.
#[derive(Default)]
struct List {
    entries: BTreeSet<u32>,
    last: u32,
    /// What each entry, also one that has gone, is like.
    done: HashMap<u32, bool>,
}

impl List {
    fn add(&mut self, done: bool) -> u32 {
        self.last += 1;
        self.entries.insert(self.last);
        self.done.insert(self.last, done);
        self.last
    }

    fn next(&self, entry: Option<u32>) -> Option<u32> {
        if let Some(entry) = entry {
            assert!(self.entries.contains(&entry), "{entry} is not on the list");
        }
        self.entries
            .range(entry.map_or(0, |entry| entry + 1)..)
            .next()
            .copied()
    }
}

/// What a walk did.
struct Walked {
    visited: Vec<u32>,
    pieces: u32,
    /// The even entries that it has found.
    even: Vec<u32>,
}

/// Walks over the list, with `between` called between pieces.
fn walk(list: &mut List, cost: Cost, mut between: impl FnMut(&mut List, u32)) -> Walked {
    let mut walk = Walk::new();
    let mut visited = Vec::new();
    let mut all = Vec::new();
    let mut pieces = 0;
    loop {
        pieces += 1;
        let progress = walk.piece(
            |cursor: &u32| list.entries.get(cursor).copied(),
            |entry| list.next(entry),
            |entry| entry,
            |entry, even: &mut Vec<u32>| {
                visited.push(entry);
                if entry % 2 == 0 {
                    even.push(entry);
                }
                cost
            },
        );
        for entry in visited.drain(..) {
            list.done.insert(entry, true);
            all.push(entry);
        }
        if progress == Progress::End {
            return Walked {
                visited: all,
                pieces,
                even: walk.into_found(),
            };
        }
        let last = *all.last().unwrap();
        between(list, last);
    }
}

fn list_of(count: u32) -> List {
    let mut list = List::default();
    for _ in 0..count {
        list.add(false);
    }
    list
}

#[test]
fn everything_once_in_order() {
    for count in [0, 1, 511, 512, 513, 5000] {
        let mut list = list_of(count);
        let walked = walk(&mut list, Cost::Light, |_, _| ());
        assert_eq!(walked.visited, (1..=count).collect::<Vec<_>>());
        assert_eq!(walked.pieces, count / 512 + 1);
        assert_eq!(walked.even.len(), count as usize / 2);
    }
}

#[test]
fn heavy_visits_make_small_pieces() {
    let walked = walk(&mut list_of(320), Cost::Heavy, |_, _| ());
    assert_eq!((walked.visited.len(), walked.pieces), (320, 11));
}

#[test]
fn starts_over_when_its_entry_has_gone() {
    let mut list = list_of(1000);
    let mut first = true;
    let walked = walk(&mut list, Cost::Light, |list, last| {
        if std::mem::take(&mut first) {
            list.entries.remove(&last);
        }
    });
    assert_eq!(walked.visited[..512], (1..=512).collect::<Vec<_>>());
    assert_eq!(
        walked.visited[512..],
        (1..=1000).filter(|entry| *entry != 512).collect::<Vec<_>>()
    );
    // What was found before is forgotten: neither is there anything twice, nor what has gone.
    let even = (2..=1000).step_by(2).filter(|entry| *entry != 512);
    assert_eq!(walked.even, even.collect::<Vec<_>>());
}

#[test]
fn comes_to_an_end_though_its_entry_always_goes() {
    let mut list = list_of(10_000);
    let walked = walk(&mut list, Cost::Light, |list, last| {
        list.entries.remove(&last);
    });
    assert_eq!(walked.pieces, 5);
    let visited = BTreeSet::from_iter(walked.visited);
    assert!(list.entries.is_subset(&visited));
}

/// Between pieces entries go and make others that are like themselves; none that is not done may be left.
#[test]
fn nothing_is_missed() {
    for seed in 1..200u64 {
        let mut random = seed;
        let mut next = move |limit: usize| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            (random % limit as u64) as usize
        };
        let mut list = list_of(3000);
        walk(&mut list, Cost::Light, |list, last| {
            for _ in 0..next(200) {
                let somewhere = next(list.last as usize) as u32;
                let Some(&entry) = list.entries.range(somewhere..).next() else {
                    continue;
                };
                if next(2) == 0 {
                    let like = list.done[&entry];
                    list.add(like);
                } else {
                    list.entries.remove(&entry);
                }
            }
            if next(4) == 0 {
                list.entries.remove(&last);
            }
        });
        assert!(
            list.entries.iter().all(|entry| list.done[entry]),
            "seed {seed}"
        );
    }
}
