// SPDX-License-Identifier: GPL-2.0

//! What the file that a kernel is booted from tells of it.

use std::path::{Path, PathBuf};

use klp_build::Image;
use klp_check::{Symbols, Types};
use klp_convert::SymbolMap;

use crate::kernel::program;

/// A kernel that was unpacked from the file that it is booted from.
pub struct Booted {
    /// The file.
    pub path: PathBuf,
    /// What is in it.
    pub image: Image,
}

impl Booted {
    /// One that the user names.
    ///
    /// # Errors
    ///
    /// It is none, or damaged, or has no symbols.
    pub fn read(path: &Path) -> Result<Self, String> {
        Ok(Self {
            path: path.into(),
            image: Image::read(path, &program)?,
        })
    }

    /// One that nobody named, which may be of another kernel than is meant.
    ///
    /// # Errors
    ///
    /// It is of another kernel, or as above.
    pub fn found(path: &Path, release: &str) -> Result<Self, String> {
        match klp_build::release(path)? {
            own if own == release => Self::read(path),
            other => Err(format!("the kernel in it is {other}")),
        }
    }

    /// Its symbols, and where ftrace can intercept calls.
    ///
    /// # Errors
    ///
    /// They are not those of a kernel.
    pub fn symbols(&self) -> Result<Symbols, String> {
        let source = self.path.to_string_lossy();
        let mut found = Symbols::parse(&source, &self.image.system_map())?;
        let mut symbols = found.remove("vmlinux").filter(Symbols::is_of_kernel);
        if let (Some(symbols), Some(list)) = (&mut symbols, self.image.call_sites()) {
            symbols.set_call_sites(list);
        }
        symbols.ok_or_else(no_symbols)
    }

    /// Its symbols, to tell which of several of a name is meant.
    ///
    /// # Errors
    ///
    /// They are not those of a kernel.
    pub fn into_symbol_map(self) -> Result<SymbolMap, String> {
        let list = self.image.system_map();
        // The kernel takes more memory than all of its symbols.
        drop(self);
        let map = SymbolMap::parse(list.as_bytes())?;
        map.is_of_kernel().then_some(map).ok_or_else(no_symbols)
    }

    /// The types of its functions, and its structures, if it has BTF.
    pub fn types(&self) -> Option<Types> {
        let (_, data) = self.image.section(".BTF")?;
        Types::parse(data).ok()
    }
}

fn no_symbols() -> String {
    "no symbols of a kernel".into()
}
