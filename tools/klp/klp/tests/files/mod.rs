// SPDX-License-Identifier: GPL-2.0

//! A machine that is a tree of files.

use std::{fs, path::PathBuf};

use tempfile::TempDir;

/// The directory that is the machine's root.
pub struct Tree(pub TempDir);

impl Tree {
    /// Where a file of the machine is.
    pub fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    /// Writes a text, and makes the directories of the file.
    pub fn write(&self, path: &str, contents: &str) {
        self.put(path, contents.as_bytes());
    }

    /// Writes a file, and makes its directories.
    pub fn put(&self, path: &str, contents: &[u8]) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, contents).unwrap();
    }
}
