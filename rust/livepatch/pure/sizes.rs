// SPDX-License-Identifier: GPL-2.0

//! How large the code at many addresses is, by one pass over a module's symbols.
//!
//! `kallsyms_lookup_size_offset()` passes over all of them for each address, so the time that a
//! patch takes to load would grow with the square of its size. This gives the same answers.
//!
//! Independent of the kernel: `tools/testing/host` tests it on the host.

use crate::pure::sort;
use core::ops::Range;

/// An address of which the size is looked for.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    address: usize,
    /// The module's memory that the address is in: symbols elsewhere do not count.
    memory: Range<usize>,
    /// Its place among the others, as the caller counts.
    order: usize,
    /// The last symbol up to the address.
    below: usize,
    /// The first symbol after the address.
    above: usize,
}

impl Place {
    /// Looks for the size of what is at `address` in `memory`; `order` is the caller's.
    pub(crate) fn new(address: usize, memory: Range<usize>, order: usize) -> Self {
        Self {
            address,
            memory,
            order,
            below: 0,
            above: usize::MAX,
        }
    }

    /// Its place among the others, as the caller counts.
    pub(crate) fn order(&self) -> usize {
        self.order
    }

    /// From the symbol at or before the address to the next one, in bytes; `None` if there is no
    /// such symbol.
    pub(crate) fn size(&self) -> Option<usize> {
        (self.below >= self.memory.start).then(|| self.above.min(self.memory.end) - self.below)
    }
}

/// Looks for the sizes of all of several places in one pass over a symbol table.
#[derive(Debug)]
pub(crate) struct Sizes<'s> {
    /// Sorted by address. A symbol is noted with its neighbours only, until the end.
    places: &'s mut [Place],
}

impl<'s> Sizes<'s> {
    /// Looks for the sizes of `places`.
    pub(crate) fn new(places: &'s mut [Place]) -> Self {
        sort::by_key(places, |place| place.address);
        Self { places }
    }

    /// To be called for every symbol, in any order.
    pub(crate) fn visit(&mut self, name: &[u8], address: usize) {
        if !is_meaningful(name) {
            return;
        }
        let after = self.places.partition_point(|place| place.address < address);
        if let Some(place) = self.places.get_mut(after) {
            place.below = place.below.max(address);
        }
        if let Some(place) = after
            .checked_sub(1)
            .and_then(|before| self.places.get_mut(before))
        {
            place.above = place.above.min(address);
        }
    }

    /// Ends the search.
    pub(crate) fn end(self) {
        let mut below = 0;
        for place in self.places.iter_mut() {
            below = place.below.max(below);
            place.below = below;
        }
        let mut above = usize::MAX;
        for place in self.places.iter_mut().rev() {
            above = place.above.min(above);
            place.above = above;
        }
    }
}

/// Returns whether a symbol's name counts: kallsyms ignores those of the assembler and the
/// compiler.
#[doc(alias = "is_mapping_symbol")]
fn is_meaningful(name: &[u8]) -> bool {
    !(name.is_empty()
        || name.starts_with(b".L")
        || name.starts_with(b"L0")
        || name.starts_with(b"$"))
}
