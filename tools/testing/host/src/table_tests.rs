// SPDX-License-Identifier: GPL-2.0

use std::{
    collections::HashMap,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use crate::table::{
    best_factor, Node, Slot, StableDeref, Stateless, Table, View, IDLE, ORIGINAL, PATCHED,
    UNPATCHED,
};

// SAFETY: the tests do not change the vector of a table.
unsafe impl StableDeref for Vec<Slot> {}

fn table(slots: usize) -> Table<Vec<Slot>> {
    let free = (0..slots).map(|_| Slot::new()).collect();
    Table::new(free, best_factor(&[], &mut [])).expect("a power of two")
}

fn node(target: usize) -> Node {
    let node = Node::new();
    node.aim(target, 0);
    node
}

fn select(slot: &Slot, state: i32) -> Result<usize, Stateless> {
    // SAFETY: nothing is freed while the test holds the nodes.
    unsafe { slot.select(|| state) }
}

#[test]
fn size_must_be_a_power_of_two() {
    for slots in [0, 3, 6, 100] {
        let slots: Vec<Slot> = (0..slots).map(|_| Slot::new()).collect();
        assert!(Table::new(slots, 1).is_none());
    }
}

#[test]
fn finds_what_was_claimed() {
    let mut table = table(64);
    let mut model = HashMap::new();
    for i in 0..32 {
        let ip = 0xffff_ffff_8100_0004 + i * 16;
        assert!(table.find(ip).is_none());
        let slot: *const Slot = table.claim(ip).expect("room");
        model.insert(ip, slot);
        // Nothing moves.
        for (ip, slot) in &model {
            assert_eq!(table.find(*ip).map(std::ptr::from_ref), Some(*slot));
        }
    }
    assert_eq!(table.room(), 0);
    assert!(table.claim(1).is_none(), "half of the slots stay free");
    assert!(
        table.claim(0xffff_ffff_8100_0004).is_some(),
        "claimed before"
    );
    assert!(table.find(0xffff_ffff_9100_0004).is_none());
}

#[test]
fn nothing_is_found_in_a_view_of_nothing() {
    assert!(View::of_nothing().find(0x10).is_none());
}

#[test]
fn zero_is_no_address() {
    assert!(table(8).claim(0).is_none());
}

#[test]
fn adopts_whole_stacks() {
    let (old, new) = (node(1), node(2));
    let mut small = table(4);
    let slot = small.claim(0x40).unwrap();
    slot.push(&old);
    slot.push(&new);
    let mut large = table(64);
    assert!(small
        .slots()
        .iter()
        .filter(|slot| !slot.top().is_null())
        .all(|slot| large.adopt(slot)));
    let slot = large.find(0x40).unwrap();
    assert_eq!(select(slot, IDLE), Ok(2));
    // SAFETY: both nodes are alive.
    assert!(unsafe { slot.remove(&new) });
    assert_eq!(select(slot, IDLE), Ok(1));
}

#[test]
fn newest_wins_and_the_next_shows_again() {
    let (a, b, c) = (node(1), node(2), node(3));
    let slot = Slot::new();
    assert_eq!(select(&slot, IDLE), Ok(ORIGINAL));
    for node in [&a, &b, &c] {
        slot.push(node);
    }
    assert_eq!(select(&slot, IDLE), Ok(3));
    // From the middle, from the top, and the last one.
    // SAFETY: all nodes are alive.
    unsafe {
        assert!(slot.remove(&b));
        assert!(!slot.remove(&b), "not there any more");
        assert_eq!(select(&slot, IDLE), Ok(3));
        assert!(slot.remove(&c));
        assert_eq!(select(&slot, IDLE), Ok(1));
        assert!(slot.holds_only(&a));
        assert!(slot.remove(&a));
    }
    assert_eq!(select(&slot, IDLE), Ok(ORIGINAL));
}

#[test]
fn the_task_decides_in_a_transition() {
    let (old, new) = (node(1), node(2));
    let slot = Slot::new();
    new.set_transition(true);
    slot.push(&new);
    assert_eq!(select(&slot, PATCHED), Ok(2));
    assert_eq!(select(&slot, UNPATCHED), Ok(ORIGINAL));
    assert_eq!(select(&slot, IDLE), Err(Stateless));

    let slot = Slot::new();
    slot.push(&old);
    slot.push(&new);
    assert_eq!(select(&slot, PATCHED), Ok(2));
    assert_eq!(select(&slot, UNPATCHED), Ok(1));
    new.set_transition(false);
    assert_eq!(select(&slot, UNPATCHED), Ok(2));
}

#[test]
fn function_that_goes_back() {
    let (old, nop) = (node(1), Node::new());
    let slot = Slot::new();
    slot.push(&old);
    nop.set_transition(true);
    slot.push(&nop);
    assert_eq!(select(&slot, PATCHED), Ok(ORIGINAL));
    assert_eq!(select(&slot, UNPATCHED), Ok(1));
}

/// One writer, many readers: a reader must never see anything but the replacements that were there.
#[test]
fn readers_and_a_writer() {
    let nodes: Vec<_> = (1..=4).map(node).collect();
    let mut table = table(256);
    for i in 1..=100 {
        table.claim(i * 16).unwrap();
    }
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let slot = table.find(16 * 7).expect("claimed");
                    match select(slot, UNPATCHED) {
                        Ok(0..=4) => (),
                        other => panic!("{other:?}"),
                    }
                    assert!(table.find(16 * 101).is_none());
                }
            });
        }
        let slot = table.find(16 * 7).unwrap();
        for _ in 0..20_000 {
            for node in &nodes {
                slot.push(node);
                node.set_transition(true);
            }
            for index in [1, 3, 0, 2] {
                // SAFETY: all nodes are alive until the readers have ended.
                assert!(unsafe { slot.remove(&nodes[index]) });
            }
        }
        done.store(true, Ordering::Relaxed);
    });
}

/// How many of `ips` do not get the slot where their search starts.
fn displaced(ips: &[usize], slots: usize, factor: u64) -> usize {
    let mut table = Table::new((0..slots).map(|_| Slot::new()).collect::<Vec<_>>(), factor)
        .expect("a power of two");
    let first: *const Slot = &table.slots()[0];
    let displaced = |ip: &&usize| {
        let at: *const Slot = table.claim(**ip).expect("room");
        // What the kernel does with an offset in bytes.
        let start =
            ((**ip as u64).wrapping_mul(factor) >> 32) as usize & ((slots - 1) * size_of::<Slot>());
        at as usize - first as usize != start
    };
    ips.iter().filter(displaced).count()
}

#[test]
fn the_factor_suits_the_functions() {
    let mut state = 1_u64;
    let mut random = move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize
    };
    let mut perfect = 0;
    for count in [1_usize, 5, 15, 15, 15, 30, 30, 60, 60, 120, 500] {
        let ips: Vec<usize> = (0..count)
            .map(|_| 0xffff_ffff_8100_0004 + random() % 0x80_0000 * 16)
            .collect();
        let slots = (count * 8).max(128).next_power_of_two();
        let best = best_factor(&ips, &mut vec![true; slots]);
        let left = displaced(&ips, slots, best);
        for other in [best_factor(&[], &mut []), 1, 0xdead_beef_dead_beef] {
            assert!(
                left <= displaced(&ips, slots, other) + count / 50,
                "{count} functions"
            );
        }
        assert!(left * 16 <= count, "{left} of {count} functions");
        perfect += usize::from(left == 0);
    }
    assert!(perfect >= 6, "only {perfect} tables without a collision");
}

#[test]
fn the_factor_copes_with_equal_addresses() {
    assert!(
        displaced(
            &[0x1004, 0x1004, 0x2004],
            128,
            best_factor(&[0x1004, 0x1004, 0x2004], &mut [false; 128])
        ) <= 1
    );
}
