// SPDX-License-Identifier: GPL-2.0

//! Which one of several symbols of the same name is meant, and looking for many symbols at once.
//!
//! Independent of the kernel: `tools/testing/host` tests it on the host.

use crate::pure::sort;
use core::ops::ControlFlow;

/// Counts the symbols of one name, in the order of the symbol table, up to the wanted one.
///
/// A wanted position of 0 stands for "there is only one"; positions start at 1.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Matcher {
    wanted: usize,
    count: usize,
    address: usize,
    decided: bool,
}

/// Why there is no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LookupError {
    /// No symbol has the name.
    NotFound,
    /// Several have, and no position is given.
    Ambiguous,
    /// There are fewer than the position asks for.
    NoSuchPosition,
}

impl Matcher {
    /// Looks for the symbol at `wanted`.
    pub(crate) fn new(wanted: usize) -> Self {
        Self {
            wanted,
            count: 0,
            address: 0,
            decided: false,
        }
    }

    /// To be called for every symbol of the name; breaks when the answer is known, and ignores what
    /// comes after that.
    pub(crate) fn visit(&mut self, address: usize) -> ControlFlow<()> {
        if !self.decided {
            self.address = address;
            self.count += 1;
            self.decided = if self.wanted == 0 {
                self.count > 1
            } else {
                self.count == self.wanted
            };
        }
        if self.decided {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }

    /// The address of the wanted symbol.
    pub(crate) fn result(&self) -> Result<usize, LookupError> {
        if self.address == 0 {
            Err(LookupError::NotFound)
        } else if self.wanted == 0 && self.count > 1 {
            Err(LookupError::Ambiguous)
        } else if self.wanted > 0 && self.count != self.wanted {
            Err(LookupError::NoSuchPosition)
        } else {
            Ok(self.address)
        }
    }
}

/// A symbol that is looked for together with others.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted<'a> {
    name: &'a [u8],
    order: usize,
    matcher: Matcher,
}

impl<'a> Wanted<'a> {
    /// The symbol called `name` at `position`; `order` is the caller's.
    pub(crate) fn new(name: &'a [u8], position: usize, order: usize) -> Self {
        Self {
            name,
            order,
            matcher: Matcher::new(position),
        }
    }

    /// The symbol's name.
    pub(crate) fn name(&self) -> &'a [u8] {
        self.name
    }

    /// To be called for every symbol of the name; breaks when the answer is known.
    pub(crate) fn visit(&mut self, address: usize) -> ControlFlow<()> {
        self.matcher.visit(address)
    }

    /// The address of the symbol.
    pub(crate) fn result(&self) -> Result<usize, LookupError> {
        self.matcher.result()
    }
}

/// Looks for all of several symbols in one pass over a symbol table.
#[derive(Debug)]
pub(crate) struct Search<'s, 'a> {
    /// Sorted by name.
    wanted: &'s mut [Wanted<'a>],
}

impl<'s, 'a> Search<'s, 'a> {
    /// Looks for `wanted`.
    pub(crate) fn new(wanted: &'s mut [Wanted<'a>]) -> Self {
        sort::by_key(wanted, |wanted| wanted.name);
        Self { wanted }
    }

    /// To be called for every symbol, in the order of the table.
    pub(crate) fn visit(&mut self, name: &[u8], address: usize) {
        let first = self.wanted.partition_point(|wanted| wanted.name < name);
        let rest = self.wanted.get_mut(first..).unwrap_or_default();
        for wanted in rest.iter_mut().take_while(|wanted| wanted.name == name) {
            // Others may still be looked for.
            let _ = wanted.visit(address);
        }
    }

    /// Ends the search: the symbols are in the caller's order again.
    pub(crate) fn end(self) {
        sort::by_key(self.wanted, |wanted| wanted.order);
    }
}
