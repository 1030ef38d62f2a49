// SPDX-License-Identifier: GPL-2.0

//! Files that are replaced at once.

use std::{
    fs::Permissions,
    io::{self, Write},
    path::Path,
};

/// Replaces the file `path` by `contents` at once, or not at all.
///
/// # Errors
///
/// That of making the new file, or of giving it the name.
pub fn replace(path: &Path, permissions: Permissions, contents: &[u8]) -> io::Result<()> {
    let directory = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    file.write_all(contents)?;
    // By the open file: whoever owns the directory may put a link in the place of the name.
    file.as_file().set_permissions(permissions)?;
    file.persist(path)?;
    Ok(())
}
