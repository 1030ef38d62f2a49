// SPDX-License-Identifier: GPL-2.0

//! Packages of live patches, for dpkg and for rpm.
//!
//! A package has one or more patch modules for one release of the kernel, in
//! `/usr/lib/klp/RELEASE/NAME.ko`, where `klp load --all` finds them at every boot of that kernel.
//! Its scripts load them when it is installed and take them off when it is removed; they are in
//! `maintainer.sh`, and say the same in both formats.
//!
//! The packages are made here, without the tools of a distribution, and the same input makes the
//! same package, byte for byte.

mod deb;
mod patches;
mod rpm;
mod scripts;
mod text;

use std::{io, path::PathBuf};

pub use patches::Patches;
pub use text::{Text, Word};

/// No package can be made. The text is one line, for the user.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not a module.
    #[error(transparent)]
    Module(#[from] klp_module::Error),
    /// A module that cannot be packaged, alone or with those before it.
    #[error("{}: {reason}", path.display())]
    Unsuitable {
        /// Its file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// No module was given.
    #[error("no patch module")]
    Empty,
    /// The name is none in this format.
    #[error("{name:?} cannot be the name of a package in this format: {rule}")]
    Name {
        /// The name.
        name: String,
        /// What a name is.
        rule: &'static str,
    },
    /// The file cannot be put together.
    #[error("cannot write the package: {0}")]
    Write(#[from] io::Error),
    /// The same, for rpm.
    #[error("cannot write the package: {0}")]
    Rpm(#[from] ::rpm::Error),
}

/// A format of packages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// dpkg's.
    Deb,
    /// rpm's.
    Rpm,
}

/// What is packaged, and how it is called.
#[derive(Clone, Debug)]
pub struct Package {
    /// The modules.
    pub patches: Patches,
    /// The package's name; if it is [`None`], the kernel's release decides.
    pub name: Option<String>,
    /// The version, by which a package is newer than another.
    pub version: Word,
    /// Counts the packages of one version.
    pub release: Word,
    /// Who answers for it: `NAME <ADDRESS>`.
    pub maintainer: Text,
    /// The date of everything in it, in seconds since 1970.
    pub date: u32,
}

/// A package as a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Built {
    /// The package's name.
    pub name: String,
    /// The name that the file has by the format's custom.
    pub file_name: String,
    /// What it contains.
    pub data: Vec<u8>,
}

impl Package {
    /// Makes the package.
    ///
    /// # Errors
    ///
    /// [`Error::Name`], [`Error::Write`], [`Error::Rpm`].
    pub fn build(&self, format: Format) -> Result<Built, Error> {
        match format {
            Format::Deb => deb::build(self),
            Format::Rpm => rpm::build(self),
        }
    }

    /// One line on what it is.
    fn summary(&self) -> String {
        format!("live patches of Linux {}", self.patches.kernel())
    }

    /// The patches, a line each.
    fn description(&self) -> Vec<String> {
        self.patches
            .modules()
            .map(|module| match module.info("description") {
                Some(description) => format!("{}: {description}", module.name()),
                None => module.name().into(),
            })
            // A module's author may have written anything.
            .map(|line| line.replace(|c: char| c.is_control(), " "))
            .collect()
    }
}

/// Where packages have patches, in a directory for each kernel.
pub const DIRECTORY: &str = "/usr/lib/klp";

/// The package with `klp`, which a package depends on; for rpm, which it recommends.
const TOOLS: &str = "livepatch-tools";

/// The oldest version of [`TOOLS`] that is known to do what the scripts ask for: this one.
const TOOLS_VERSION: &str = env!("CARGO_PKG_VERSION");

/// What every package of live patches provides.
const PROVIDES: &str = "klp-patch";

/// The name of the package of all patches of a kernel.
///
/// The characters that `replace` names are replaced as the format wants it.
fn default_name(kernel: &str, replace: char, by: &str) -> String {
    format!("{PROVIDES}-{}", kernel.replace(replace, by))
}

/// Checks that a name ends with the kernel's release, as the kernel or a format spells it. Else a
/// package for another kernel would be a newer version of this one, and take the patches of this
/// kernel away.
fn ends_with_kernel(name: &str, kernel: &str) -> Result<(), Error> {
    let plain = |text: &str| text.replace(['.', '_'], "-").to_lowercase();
    if plain(name).ends_with(&format!("-{}", plain(kernel))) {
        return Ok(());
    }
    Err(Error::Name {
        name: name.into(),
        rule: "it ends with '-' and the release of the kernel, so that kernels have their own",
    })
}
