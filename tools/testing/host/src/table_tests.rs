// SPDX-License-Identifier: GPL-2.0

use std::{
    cell::OnceCell,
    collections::HashMap,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use crate::pure::{
    patch_state::PatchState::{self, Idle, Patched, Unpatched},
    table::{best_factor, NoPatchState, Node, Slot, StableDeref, Table, View, ORIGINAL},
};

// SAFETY: The vector of a table never changes.
unsafe impl StableDeref for Vec<Slot> {}

fn table(slots: usize) -> Table<Vec<Slot>> {
    let free = (0..slots).map(|_| Slot::new()).collect();
    Table::new(free, best_factor(&[], &mut [])).expect("a power of two")
}

fn node(target: usize) -> Node {
    let mut node = Node::new();
    node.set_target(target, 0);
    node
}

fn select(slot: &Slot, state: PatchState) -> Result<usize, NoPatchState> {
    // SAFETY: Every test keeps its nodes until it has finished.
    unsafe { slot.select(|| state) }
}

fn push(slot: &Slot, node: &Node) {
    // SAFETY: Only one thread of a test changes stacks, and the test keeps its nodes until the end.
    unsafe { slot.push(node) };
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
    let table = table(64);
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
    let small = table(4);
    let slot = small.claim(0x40).unwrap();
    push(slot, &old);
    push(slot, &new);
    let large = table(64);
    for slot in small.slots().iter().filter(|slot| !slot.top().is_null()) {
        // SAFETY: The small table is not changed any more; both nodes live until the end.
        assert!(unsafe { large.adopt(slot) });
    }
    let slot = large.find(0x40).unwrap();
    assert_eq!(select(slot, Idle), Ok(2));
    // SAFETY: both nodes are alive.
    assert!(unsafe { slot.remove(&new) });
    assert_eq!(select(slot, Idle), Ok(1));
}

#[test]
fn newest_wins_and_the_next_shows_again() {
    let (a, b, c) = (node(1), node(2), node(3));
    let slot = Slot::new();
    assert_eq!(select(&slot, Idle), Ok(ORIGINAL));
    for node in [&a, &b, &c] {
        push(&slot, node);
    }
    assert_eq!(select(&slot, Idle), Ok(3));
    // From the middle, from the top, and the last one.
    // SAFETY: all nodes are alive.
    unsafe {
        assert!(slot.remove(&b));
        assert!(!slot.remove(&b), "not there any more");
        assert_eq!(select(&slot, Idle), Ok(3));
        assert!(slot.remove(&c));
        assert_eq!(select(&slot, Idle), Ok(1));
        assert!(slot.holds_only(&a));
        assert!(slot.remove(&a));
    }
    assert_eq!(select(&slot, Idle), Ok(ORIGINAL));
}

#[test]
fn the_task_decides_in_a_transition() {
    let (old, new) = (node(1), node(2));
    let slot = Slot::new();
    new.set_transition(true);
    push(&slot, &new);
    assert_eq!(select(&slot, Patched), Ok(2));
    assert_eq!(select(&slot, Unpatched), Ok(ORIGINAL));
    assert_eq!(select(&slot, Idle), Err(NoPatchState(ORIGINAL)));

    let slot = Slot::new();
    push(&slot, &old);
    push(&slot, &new);
    assert_eq!(select(&slot, Patched), Ok(2));
    assert_eq!(select(&slot, Unpatched), Ok(1));
    assert_eq!(select(&slot, Idle), Err(NoPatchState(1)));
    new.set_transition(false);
    assert_eq!(select(&slot, Unpatched), Ok(2));
    assert_eq!(select(&slot, Idle), Ok(2));
}

#[test]
fn function_that_goes_back() {
    let (old, nop) = (node(1), Node::new());
    let slot = Slot::new();
    push(&slot, &old);
    nop.set_transition(true);
    push(&slot, &nop);
    assert_eq!(select(&slot, Patched), Ok(ORIGINAL));
    assert_eq!(select(&slot, Unpatched), Ok(1));
    assert_eq!(select(&slot, Idle), Err(NoPatchState(1)));
}

#[test]
fn state_is_asked_for_only_in_a_transition() {
    let node = node(1);
    let slot = Slot::new();
    push(&slot, &node);
    // SAFETY: The node lives until the end of the test.
    let chosen = unsafe { slot.select(|| panic!("nothing is in transition")) };
    assert_eq!(chosen, Ok(1));
}

#[test]
fn of_two_nodes_for_one_function_the_first_is_the_lowest() {
    let table = table(8);
    let nodes = [node(1), node(2), node(3)];
    // The first and the second are for one address.
    for (node, ip) in nodes.iter().zip([0x40, 0x40, 0x80]) {
        push(table.claim(ip).unwrap(), node);
    }
    assert_eq!(nodes.each_ref().map(Node::is_lowest), [true, false, true]);
    let slot = table.find(0x40).unwrap();
    assert!(!slot.holds_only(&nodes[0]) && !slot.holds_only(&nodes[1]));
    // SAFETY: All nodes live until the end of the test.
    assert!(unsafe { slot.remove(&nodes[0]) });
    assert!(nodes[1].is_lowest() && slot.holds_only(&nodes[1]));
}

/// One writer, many readers: a reader must never see anything but the replacements that were there.
#[test]
fn readers_and_a_writer() {
    let nodes: Vec<_> = (1..=4).map(node).collect();
    let table = table(256);
    for i in 1..=100 {
        table.claim(i * 16).unwrap();
    }
    let view = table.view();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let slot = view.find(16 * 7).expect("claimed");
                    match select(slot, Unpatched) {
                        Ok(0..=4) => (),
                        other => panic!("{other:?}"),
                    }
                    assert!(view.find(16 * 101).is_none());
                }
            });
        }
        let slot = table.find(16 * 7).unwrap();
        for _ in 0..20_000 {
            for node in &nodes {
                push(slot, node);
                node.set_transition(true);
            }
            for index in [1, 3, 0, 2] {
                // SAFETY: All nodes live until the readers have ended.
                assert!(unsafe { slot.remove(&nodes[index]) });
            }
        }
        done.store(true, Ordering::Relaxed);
    });
}

/// A reader sees all of a node that was pushed while it ran, and never one that was replaced before.
#[test]
fn readers_see_whole_nodes() {
    const COUNT: usize = 50_000;
    // They are made one after the other, and stay where they are until the readers have ended.
    let nodes: Vec<_> = (0..COUNT).map(|_| OnceCell::new()).collect();
    let table = table(8);
    let slot = table.claim(0x40).unwrap();
    let view = table.view();
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut last = ORIGINAL;
                while last < COUNT {
                    let slot = view.find(0x40).expect("claimed");
                    let target = select(slot, Patched).expect("a state");
                    assert!((last..=COUNT).contains(&target), "{target} after {last}");
                    last = target;
                }
            });
        }
        let mut below = None;
        for (cell, target) in nodes.iter().zip(1..) {
            let top = cell.get_or_init(|| node(target));
            push(slot, top);
            if let Some(below) = below.replace(top) {
                // SAFETY: All nodes live until the readers have ended.
                assert!(unsafe { slot.remove(below) });
            }
        }
    });
}

/// How many of `ips` do not get the slot where their search starts.
fn displaced(ips: &[usize], slots: usize, factor: u64) -> usize {
    let table = Table::new((0..slots).map(|_| Slot::new()).collect::<Vec<_>>(), factor)
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
fn of_factors_that_are_as_good_the_first_is_taken() {
    let golden = 0x9e37_79b9_7f4a_7c15;
    assert_eq!(best_factor(&[], &mut []), golden);
    // A collision with any factor.
    assert_eq!(best_factor(&[0x1004, 0x1004], &mut [false; 128]), golden);
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
