// SPDX-License-Identifier: GPL-2.0

//! What can go wrong on a machine.

use std::{io, path::PathBuf};

/// An operation on the machine failed. The text is one line, for the user.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file of the machine cannot be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// A file of the kernel has other contents than it should have.
    #[error("{}: expected {expected}, found {found:?}", path.display())]
    Unexpected {
        /// The file.
        path: PathBuf,
        /// What should be there.
        expected: &'static str,
        /// What is there.
        found: String,
    },
    /// The kernel has no live patching, or sysfs is not mounted.
    #[error("this kernel has no live patching: there is no {}", .0.display())]
    NoLivepatch(PathBuf),
}

/// The result of an operation on the machine.
pub type Result<T> = std::result::Result<T, Error>;
