// SPDX-License-Identifier: GPL-2.0

//! Sorting on a small stack.
//!
//! The standard library's `sort_unstable_by_key` recurses, with a buffer for dozens of elements in
//! every frame: up to 3 KiB, six deep for 2,000 elements. A kernel stack has 16 KiB, and what lies
//! beyond may be another task's.
//!
//! Independent of the kernel: `tools/testing/host` tests it on the host.

/// Sorts `items` by what `key` gives for each: a heapsort, in place, without recursion. Equal ones
/// may change places.
pub(crate) fn by_key<T, K: Ord>(items: &mut [T], key: impl Fn(&T) -> K) {
    for root in (0..items.len() / 2).rev() {
        sift_down(items, root, &key);
    }
    for end in (1..items.len()).rev() {
        items.swap(0, end);
        if let Some(heap) = items.get_mut(..end) {
            sift_down(heap, 0, &key);
        }
    }
}

/// Lets the item at `root` sink until none below it is greater.
fn sift_down<T, K: Ord>(heap: &mut [T], mut root: usize, key: &impl Fn(&T) -> K) {
    loop {
        let mut greatest = root;
        for child in [2 * root + 1, 2 * root + 2] {
            if child < heap.len() && key(&heap[child]) > key(&heap[greatest]) {
                greatest = child;
            }
        }
        if greatest == root {
            return;
        }
        heap.swap(root, greatest);
        root = greatest;
    }
}
