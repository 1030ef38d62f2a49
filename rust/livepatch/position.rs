// SPDX-License-Identifier: GPL-2.0

//! Which one of several symbols of the same name is meant.
//!
//! Free of the kernel: `tools/testing/host` tests it on the host.

use core::ops::ControlFlow;

/// Counts the symbols of one name, in the order of the symbol table, up to the wanted one.
///
/// A wanted position of 0 stands for "there is only one"; positions start at 1.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Matcher {
    wanted: usize,
    count: usize,
    address: usize,
}

/// Why there is no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Miss {
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
        }
    }

    /// To be called for every symbol of the name; breaks when the answer is known.
    pub(crate) fn saw(&mut self, address: usize) -> ControlFlow<()> {
        self.address = address;
        self.count += 1;
        let decided = if self.wanted == 0 {
            self.count > 1
        } else {
            self.count == self.wanted
        };
        if decided {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }

    /// The address of the wanted symbol.
    pub(crate) fn result(&self) -> Result<usize, Miss> {
        if self.address == 0 {
            Err(Miss::NotFound)
        } else if self.wanted == 0 && self.count > 1 {
            Err(Miss::Ambiguous)
        } else if self.wanted > 0 && self.count != self.wanted {
            Err(Miss::NoSuchPosition)
        } else {
            Ok(self.address)
        }
    }
}
