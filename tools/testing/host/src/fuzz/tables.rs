// SPDX-License-Identifier: GPL-2.0

use super::check;
use crate::pure::{
    patch_state::PatchState::{self, Idle, Patched, Unpatched},
    table::{best_factor, NoPatchState, Node, Slot, Table, ORIGINAL},
};
use proptest::{collection::vec, prelude::*};
use std::collections::HashMap;

/// Something that the core does to the table.
#[derive(Clone, Copy, Debug)]
enum Operation {
    /// Puts a node that is on no stack on that of a function.
    Push { node: usize, function: usize },
    /// Takes a node off.
    Remove { node: usize },
    /// Puts a node into transition or ends that.
    Transition { node: usize, on: bool },
    /// Makes a new table of the functions that have a replacement.
    Renew,
}

/// How many functions there are.
const FUNCTIONS: usize = 12;
/// How many nodes there are.
const NODES: usize = 8;

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        5 => (0..NODES, 0..FUNCTIONS).prop_map(|(node, function)| Operation::Push { node, function }),
        3 => (0..NODES).prop_map(|node| Operation::Remove { node }),
        3 => (0..NODES, any::<bool>()).prop_map(|(node, on)| Operation::Transition { node, on }),
        1 => Just(Operation::Renew),
    ]
}

fn new_table(ips: &[usize], slots: usize) -> Table<Vec<Slot>> {
    let factor = best_factor(ips, &mut vec![true; slots]);
    Table::new((0..slots).map(|_| Slot::new()).collect(), factor).expect("a power of two")
}

/// What calls of a function go to, plainly: the nodes of its stack, the newest last.
fn expected(
    stack: &[usize],
    transition: &[bool],
    state: PatchState,
) -> Result<usize, NoPatchState> {
    let target = |node: Option<&usize>| node.map_or(ORIGINAL, |node| node + 1);
    let Some((top, below)) = stack.split_last() else {
        return Ok(ORIGINAL);
    };
    match state {
        Patched => Ok(target(Some(top))),
        _ if !transition[*top] => Ok(target(Some(top))),
        Unpatched => Ok(target(below.last())),
        Idle => Err(NoPatchState(target(below.last()))),
    }
}

#[test]
fn tables() {
    // Addresses that are far from each other, equal in their lower half, or next to each other.
    let ip = prop_oneof![
        (1usize..1000).prop_map(|ip| ip << 32 | 0x40),
        (1usize..40).prop_map(|ip| ip * 16),
        1usize..,
    ];
    let ips = prop::collection::hash_set(ip, FUNCTIONS);
    let slots = prop::sample::select(vec![32usize, 64, 128]);
    let cases = (ips, slots, vec(operation(), 0..60));
    check("tables", cases, |(ips, slots, operations)| {
        let ips: Vec<usize> = ips.into_iter().collect();
        let nodes: Vec<Node> = (1..=NODES)
            .map(|target| {
                let mut node = Node::new();
                node.set_target(target, target * 2);
                node
            })
            .collect();
        let mut table = new_table(&ips, slots);
        let mut stacks: HashMap<usize, Vec<usize>> = HashMap::new();
        let mut transition = [false; NODES];
        let of = |stacks: &HashMap<usize, Vec<usize>>, node| {
            let found = stacks.iter().find(|(_, stack)| stack.contains(&node));
            found.map(|(ip, _)| *ip)
        };

        for operation in operations {
            match operation {
                Operation::Push { node, function } => {
                    if of(&stacks, node).is_some() {
                        continue;
                    }
                    let slot = table.claim(ips[function]);
                    let slot = slot.ok_or_else(|| TestCaseError::fail("no room"))?;
                    // SAFETY: There is one thread, the node is on no stack, and all nodes live
                    // until the end.
                    unsafe { slot.push(&nodes[node]) };
                    let stack = stacks.entry(ips[function]).or_default();
                    prop_assert_eq!(nodes[node].is_lowest(), stack.is_empty());
                    stack.push(node);
                }
                Operation::Remove { node } => {
                    let ip = of(&stacks, node);
                    for (other, slot) in ips.iter().filter_map(|ip| Some((ip, table.find(*ip)?))) {
                        if ip == Some(*other) {
                            continue;
                        }
                        // SAFETY: There is one thread, and all nodes live until the end.
                        let removed = unsafe { slot.remove(&nodes[node]) };
                        prop_assert!(!removed, "it is not there");
                    }
                    let Some(ip) = ip else { continue };
                    let slot = table
                        .find(ip)
                        .ok_or_else(|| TestCaseError::fail("no slot"))?;
                    let stack = stacks.entry(ip).or_default();
                    prop_assert_eq!(slot.holds_only(&nodes[node]), *stack == [node]);
                    // SAFETY: There is one thread, and all nodes live until the end.
                    let removed = unsafe { slot.remove(&nodes[node]) };
                    prop_assert!(removed);
                    stack.retain(|other| *other != node);
                }
                Operation::Transition { node, on } => {
                    nodes[node].set_transition(on);
                    transition[node] = on;
                }
                Operation::Renew => {
                    let new = new_table(&ips, slots);
                    for slot in table.slots().iter().filter(|slot| !slot.top().is_null()) {
                        // SAFETY: There is one thread, which does not use the old table any more;
                        // all nodes live until the end.
                        let adopted = unsafe { new.adopt(slot) };
                        prop_assert!(adopted);
                    }
                    table = new;
                    stacks.retain(|_, stack| !stack.is_empty());
                    prop_assert_eq!(table.room(), slots / 2 - stacks.len());
                }
            }

            for ip in &ips {
                let stack = stacks.get(ip).map_or(&[][..], |stack| stack);
                for state in [Idle, Unpatched, Patched] {
                    let Some(slot) = table.find(*ip) else {
                        prop_assert!(stack.is_empty(), "a function has no slot");
                        continue;
                    };
                    prop_assert_eq!(slot.ip(), *ip);
                    // SAFETY: There is one thread, and all nodes live until the end.
                    let selected = unsafe { slot.select(|| state) };
                    prop_assert_eq!(selected, expected(stack, &transition, state));
                }
            }
        }
        Ok(())
    });
}

#[test]
fn full_tables() {
    let ips = vec(0usize.., 0..40);
    let slots = prop::sample::select(vec![1usize, 2, 4, 8, 16, 32]);
    check("full tables", (ips, slots), |(ips, slots)| {
        let table = new_table(&ips, slots);
        let mut claimed: Vec<usize> = Vec::new();
        for ip in ips {
            let before = claimed.contains(&ip);
            let room = claimed.len() < slots / 2;
            prop_assert_eq!(
                table.find(ip.max(1)).is_some(),
                claimed.contains(&ip.max(1))
            );
            let slot = table.claim(ip);
            prop_assert_eq!(slot.is_some(), ip != 0 && (before || room));
            if slot.is_some() && !before {
                claimed.push(ip);
            }
            prop_assert_eq!(table.room(), slots / 2 - claimed.len());
            for ip in &claimed {
                prop_assert_eq!(table.find(*ip).map(Slot::ip), Some(*ip));
            }
        }
        Ok(())
    });
}
