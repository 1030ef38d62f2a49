// SPDX-License-Identifier: GPL-2.0

//! Visiting every entry of a list in pieces, between which the list may change.
//!
//! A pass over all tasks with `tasklist_lock` held throughout would hold up every fork and exit. So
//! the lock is dropped after some work, and the walk goes on after the entry it stopped at.
//! Independent of the kernel: `tools/testing/host` tests it on the host, with entries that come and
//! go between the pieces.
//!
//! # What is visited
//!
//! Every entry that is on the list from the first piece to the last, and every entry that was added
//! meanwhile *ahead* of the walk. That the others do not matter is up to the list:
//!
//! * A new process goes to the end of the list of processes and a new thread to the end of the
//!   threads of its maker, so a task that has not been visited can make new ones only ahead of the
//!   walk. A task that has been visited makes tasks like itself: `klp_copy_process()` hands on
//!   state and pending flag, under the lock. So no task can be in a state that the walk would have
//!   changed, or objected to, without the walk having met it or an ancestor like it.
//! * A thread that replaces its leader in `execve()` takes the leader's place among the processes
//!   and keeps its own among the threads of the process, which is still ahead of the walk, in the
//!   same list, if it was before.
//! * The entry that the walk stopped at may go. Then the walk starts all over, which costs little:
//!   what has been visited is done. What it has found is forgotten, since it is found again. After
//!   [`MAX_RESTARTS`] it goes on without pieces.

/// How much work one piece does.
const PIECE: u32 = 512;

/// How often a walk may start over before it is finished in one piece.
const MAX_RESTARTS: u32 = 4;

/// How much work a visit was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cost {
    /// A look at the entry.
    Light,
    /// As much as 16 of those: a stack was searched.
    Heavy,
}

impl Cost {
    fn cost(self) -> u32 {
        match self {
            Self::Light => 1,
            Self::Heavy => 16,
        }
    }
}

/// Result of a piece.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Progress<C> {
    /// There may be more. The cursor that is not needed any more, to be dropped without the lock.
    More(Option<C>),
    /// The end of the list has been reached.
    End,
}

/// A walk between two pieces. `C` keeps an entry in existence, though not on the list. `F` is what
/// the visits find, at first nothing.
#[derive(Debug)]
pub(crate) struct Walk<C, F> {
    cursor: Option<C>,
    restarts: u32,
    found: F,
}

impl<C, F: Default> Walk<C, F> {
    /// At the start.
    pub(crate) fn new() -> Self {
        Self {
            cursor: None,
            restarts: 0,
            found: F::default(),
        }
    }

    /// Returns what the visits have found since the walk started or started over: each entry has
    /// been visited once.
    pub(crate) fn into_found(self) -> F {
        self.found
    }

    /// Goes on for a while. The list must be locked.
    ///
    /// `find` gives the entry of a cursor if it is still on the list, `next` the one after an
    /// entry, the first one for `None`; `keep` makes a cursor.
    pub(crate) fn piece<T: Copy>(
        &mut self,
        find: impl FnOnce(&C) -> Option<T>,
        next: impl Fn(Option<T>) -> Option<T>,
        keep: impl FnOnce(T) -> C,
        mut visit: impl FnMut(T, &mut F) -> Cost,
    ) -> Progress<C> {
        let mut last = self.cursor.as_ref().and_then(find);
        if self.cursor.is_some() && last.is_none() {
            self.restarts += 1;
            self.found = F::default();
        }
        let mut work = 0;
        while let Some(entry) = next(last) {
            last = Some(entry);
            work += visit(entry, &mut self.found).cost();
            if work >= PIECE && self.restarts < MAX_RESTARTS {
                return Progress::More(self.cursor.replace(keep(entry)));
            }
        }
        Progress::End
    }
}
