// SPDX-License-Identifier: GPL-2.0

//! The patch modules of a package.

use std::{
    fs,
    path::{Path, PathBuf},
    time::SystemTime,
};

use klp_live::store::by_version;
use klp_module::{Architecture, Module};

use crate::{Error, DIRECTORY};

/// Patch modules that can be packaged together: at least one, each a live patch, all for the same
/// kernel, no two of one name.
///
/// Whether a patch replaces all others (`.replace`) does not stand in its file.
#[derive(Clone, Debug)]
pub struct Patches {
    kernel: String,
    architecture: Architecture,
    modified: SystemTime,
    files: Vec<(Module, Vec<u8>)>,
}

impl Patches {
    /// Reads the modules in these files. They are loaded in the order in which klp loads them at boot.
    ///
    /// # Errors
    ///
    /// [`Error::Module`], [`Error::Unsuitable`], [`Error::Empty`].
    pub fn open(paths: &[PathBuf]) -> Result<Self, Error> {
        let mut result: Option<Self> = None;
        for path in paths {
            let unsuitable = |reason| Error::Unsuitable {
                path: path.clone(),
                reason,
            };
            let (data, modified) = read(path)?;
            let module = Module::parse(&data).map_err(|reason| klp_module::Error::Damaged {
                path: path.clone(),
                reason,
            })?;
            match &mut result {
                None => {
                    result = Some(Self::new(module, data, modified).map_err(unsuitable)?);
                }
                Some(patches) => patches.add(module, data, modified).map_err(unsuitable)?,
            }
        }
        let mut patches = result.ok_or(Error::Empty)?;
        patches
            .files
            .sort_by(|(a, _), (b, _)| by_version(a.name(), b.name()));
        Ok(patches)
    }

    fn new(module: Module, data: Vec<u8>, modified: SystemTime) -> Result<Self, String> {
        let (kernel, architecture) = check(&module)?;
        Ok(Self {
            kernel,
            architecture,
            modified,
            files: vec![(module, data)],
        })
    }

    fn add(&mut self, module: Module, data: Vec<u8>, modified: SystemTime) -> Result<(), String> {
        let (kernel, architecture) = check(&module)?;
        if architecture != self.architecture {
            return Err("it is for another architecture than the first module".into());
        }
        if kernel != self.kernel {
            return Err(format!(
                "it is for the kernel {kernel}, the first module for {}",
                self.kernel
            ));
        }
        if self.modules().any(|other| other.name() == module.name()) {
            return Err(format!("two modules have the name {}", module.name()));
        }
        self.modified = self.modified.max(modified);
        self.files.push((module, data));
        Ok(())
    }

    /// The release of the kernel that they are for: letters, digits, `.`, `_`, `+`, `-`, `~`.
    pub fn kernel(&self) -> &str {
        &self.kernel
    }

    /// The architecture of that kernel.
    pub fn architecture(&self) -> Architecture {
        self.architecture
    }

    /// When the newest of the files was written.
    pub fn modified(&self) -> SystemTime {
        self.modified
    }

    /// What the modules say of themselves.
    pub fn modules(&self) -> impl Iterator<Item = &Module> {
        self.files.iter().map(|(module, _)| module)
    }

    /// The directory for them, absolute.
    pub(crate) fn directory(&self) -> String {
        format!("{DIRECTORY}/{}", self.kernel)
    }

    /// The places of the files in a package, absolute, and what they contain.
    pub(crate) fn files(&self) -> impl Iterator<Item = (String, &[u8])> {
        self.files.iter().map(|(module, data)| {
            let path = format!("{}/{}.ko", self.directory(), module.name());
            (path, data.as_slice())
        })
    }

    /// The licence, for a tool that looks for it: that of the kernel, unless a module has another.
    pub(crate) fn license(&self) -> String {
        let mut licenses = Vec::new();
        for module in self.modules() {
            // The kernel's license-rules.rst: both mean version 2.
            let license = match module.info("license") {
                None | Some("GPL" | "GPL v2") => "GPL-2.0-only",
                Some(other) => other,
            };
            let license = license.replace(|c: char| c.is_control(), " ");
            if !licenses.contains(&license) {
                licenses.push(license);
            }
        }
        licenses.join(" and ")
    }
}

/// Whether a module can be in a package; the release and the architecture of its kernel.
fn check(module: &Module) -> Result<(String, Architecture), String> {
    if !module.is_livepatch() {
        return Err("it is not a live patch".into());
    }
    // It becomes a word in scripts.
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._+".contains(c);
    if !module.name().chars().all(allowed) {
        return Err(format!(
            "its module is called {:?}: a package takes letters, digits, '_', '.' and '+'",
            module.name()
        ));
    }
    let kernel = module
        .kernel_release()
        .ok_or("it does not say which kernel it is for")?;
    // It becomes a directory, a part of the name, and a word in scripts.
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._+-~".contains(c);
    if !kernel.starts_with(|c: char| c.is_ascii_digit()) || !kernel.chars().all(allowed) {
        return Err(format!("{kernel:?} is not the release of a kernel"));
    }
    let architecture = module
        .architecture()
        .ok_or("it is for an architecture without live patching")?;
    Ok((kernel.into(), architecture))
}

fn read(path: &Path) -> Result<(Vec<u8>, SystemTime), klp_module::Error> {
    fs::read(path)
        .and_then(|data| Ok((data, fs::metadata(path)?.modified()?)))
        .map_err(|source| klp_module::Error::File {
            path: path.into(),
            source,
        })
}
