// SPDX-License-Identifier: GPL-2.0

//! Address ranges that a task must not have on its stack.
//!
//! Built once per transition, sorted, so that checking a stack costs a binary search per frame
//! instead of a comparison with every function. Independent of the kernel: `tools/testing/host`
//! tests it on the host.

use crate::pure::sort;

/// The code of one function, and what to call it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Range<L> {
    /// First address of the range.
    start: usize,
    /// First address past the end.
    end: usize,
    /// The largest `end` of this range and of all before it in sorted order; ranges may overlap.
    max_end: usize,
    /// Position in the patch: of several functions on one stack the first one is reported.
    order: usize,
    /// The caller's identifier of the function.
    label: L,
}

impl<L: Copy> Range<L> {
    /// `size` bytes of code from `start`; `order` is the function's position in the patch.
    pub(crate) fn new(start: usize, size: usize, order: usize, label: L) -> Self {
        Self {
            start,
            end: start.saturating_add(size),
            max_end: 0,
            order,
            label,
        }
    }
}

/// Brings `ranges` into the order that [`find`] needs.
pub(crate) fn sort<L: Copy>(ranges: &mut [Range<L>]) {
    sort::by_key(ranges, |range| (range.start, range.order));
    let mut max_end = 0;
    for range in ranges {
        max_end = max_end.max(range.end);
        range.max_end = max_end;
    }
}

/// Returns the addresses from the first to the last one of all `ranges`.
///
/// `ranges` must have been sorted by [`sort()`].
pub(crate) fn span<L: Copy>(ranges: &[Range<L>]) -> core::ops::Range<usize> {
    let start = ranges.first().map_or(0, |first| first.start);
    let end = ranges.last().map_or(0, |last| last.max_end);
    start..end
}

/// Returns the label of the function that comes first in the patch among those with one of
/// `addresses` in them.
///
/// `ranges` must have been sorted by [`sort()`].
pub(crate) fn find<L: Copy>(ranges: &[Range<L>], addresses: &[usize]) -> Option<L> {
    let mut found: Option<&Range<L>> = None;
    // Most addresses are far from all ranges: the functions of a patch are often those of one
    // module.
    let span = span(ranges);
    for &address in addresses {
        if !span.contains(&address) {
            continue;
        }
        let above = ranges.partition_point(|range| range.start <= address);
        for range in ranges.get(..above)?.iter().rev() {
            if range.max_end <= address {
                // Nothing from here down reaches as far as the address.
                break;
            }
            if address < range.end && found.is_none_or(|best| range.order < best.order) {
                found = Some(range);
            }
        }
    }
    found.map(|range| range.label)
}
