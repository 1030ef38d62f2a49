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
    /// An installed patch belongs to a package.
    #[error("{} belongs to a package: remove that", .0.display())]
    Packaged(PathBuf),
    /// The kernel has no live patching, or sysfs is not mounted.
    #[error("this kernel has no live patching: there is no {}", .0.display())]
    NoLivepatch(PathBuf),
}

impl Error {
    /// Whether the user may not see or change the file.
    pub fn is_permission_denied(&self) -> bool {
        matches!(self, Self::File { source, .. }
            if source.kind() == io::ErrorKind::PermissionDenied)
    }

    /// Whether the error of a file says that what it belongs to is gone.
    pub(crate) fn is_gone(error: &io::Error) -> bool {
        error.kind() == io::ErrorKind::NotFound
            || error.raw_os_error() == Some(rustix::io::Errno::NODEV.raw_os_error())
            || error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error())
    }
}

/// The result of an operation on the machine.
pub type Result<T> = std::result::Result<T, Error>;
