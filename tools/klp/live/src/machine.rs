// SPDX-License-Identifier: GPL-2.0

//! The machine as a whole.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::Serialize;

use crate::{store::module_name, Error, ModuleName, Patch, Result};

/// Which live patching core is in charge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "name", rename_all = "kebab-case")]
pub enum Core {
    /// The one that is built into the kernel.
    BuiltIn,
    /// `livepatch.ko`.
    Rust {
        /// Its version.
        version: String,
    },
}

/// The name of the module of the Rust core.
pub const CORE: &str = "livepatch";

/// A machine that runs a kernel with live patching.
#[derive(Clone, Debug)]
pub struct Machine {
    root: PathBuf,
}

impl Machine {
    /// This machine.
    pub fn this() -> Self {
        Self::with_root(Path::new("/"))
    }

    /// The machine whose file systems are below `root`.
    pub fn with_root(root: &Path) -> Self {
        Self { root: root.into() }
    }

    /// The place of `path`, which is absolute, on this machine.
    pub fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// The text of a file, without the line's end, or [`None`] if there is no such file.
    ///
    /// A file of a process, a module or a patch goes when these go, even while it is read (`ENODEV`,
    /// `ESRCH`): that is the same as no file.
    pub fn read(&self, path: impl AsRef<Path>) -> Result<Option<String>> {
        read(&self.path(path))
    }

    /// The release of the running kernel, as `uname -r` prints it.
    pub fn kernel_release(&self) -> Result<String> {
        let path = "/proc/sys/kernel/osrelease";
        self.read(path)?.ok_or_else(|| Error::File {
            path: self.path(path),
            source: io::ErrorKind::NotFound.into(),
        })
    }

    /// Which core is in charge.
    ///
    /// # Errors
    ///
    /// [`Error::NoLivepatch`] if there is none.
    pub fn core(&self) -> Result<Core> {
        // Once a module of this name is initialised, it has taken over.
        if let Some(version) = self.read("/sys/module/livepatch/version")? {
            if !self.is_initialising(CORE)? {
                return Ok(Core::Rust { version });
            }
        }
        let directory = self.livepatch();
        if directory.is_dir() {
            Ok(Core::BuiltIn)
        } else {
            Err(Error::NoLivepatch(directory))
        }
    }

    /// The directory of the patches.
    pub(crate) fn livepatch(&self) -> PathBuf {
        self.path("/sys/kernel/livepatch")
    }

    /// The patches that the core knows, enabled or not, in the order of their names.
    ///
    /// # Errors
    ///
    /// [`Error::NoLivepatch`], or that of reading the directory.
    pub fn patches(&self) -> Result<Vec<Patch>> {
        let directory = self.livepatch();
        let entries = match fs::read_dir(&directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(Error::NoLivepatch(directory))
            }
            result => result.map_err(|source| Error::File {
                path: directory.clone(),
                source,
            })?,
        };
        let mut patches = entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter_map(|name| self.patch(&name))
            .collect::<Vec<_>>();
        patches.sort_by(|a, b| a.name().cmp(b.name()));
        Ok(patches)
    }

    /// The same, but none on a kernel without live patching.
    ///
    /// # Errors
    ///
    /// That of reading the directory.
    pub fn patches_if_any(&self) -> Result<Vec<Patch>> {
        match self.patches() {
            Err(Error::NoLivepatch(_)) => Ok(vec![]),
            patches => patches,
        }
    }

    /// The patch of this name, if the core knows it.
    pub fn patch(&self, name: &str) -> Option<Patch> {
        let directory = self.livepatch().join(name);
        (ModuleName::is_one(name) && directory.is_dir()).then(|| Patch::new(name, directory))
    }

    /// Whether the module of this name is loaded, and is a live patch: it taints the kernel as `K`.
    /// The Rust core is none, though it does so too. One that is just being loaded does not count.
    pub fn has_patch_module(&self, name: &str) -> Result<bool> {
        let taint = self.read(format!("/sys/module/{name}/taint"))?;
        let is_patch = name != CORE && taint.is_some_and(|taint| taint.contains('K'));
        Ok(is_patch && !self.is_initialising(name)?)
    }

    /// Whether somebody is loading the module of this name, and its function for that has not returned.
    ///
    /// # Errors
    ///
    /// That of reading the file.
    pub fn is_initialising(&self, name: &str) -> Result<bool> {
        let state = self.read(format!("/sys/module/{name}/initstate"))?;
        Ok(state.as_deref() == Some("coming"))
    }

    /// The file of a module, as the list of a kernel's modules has it: below the directory of that
    /// kernel in `/lib/modules`.
    ///
    /// # Errors
    ///
    /// That of reading the list.
    pub fn module_file(&self, kernel_release: &str, name: &str) -> Result<Option<String>> {
        let path = self.path(format!("/lib/modules/{kernel_release}/modules.dep"));
        let list = fs::read_to_string(&path).map_err(|source| Error::File { path, source })?;
        let mut files = list
            .lines()
            .filter_map(|line| Some(line.split_once(':')?.0));
        let name = module_name(name);
        Ok(files.find(|file| module_name(file) == name).map(Into::into))
    }

    /// Whether this is the file of the Rust core, installed as modprobe wants it.
    pub fn is_core_file(&self, path: &Path) -> bool {
        module_name(&path.to_string_lossy()) == CORE && path.starts_with(self.path("/lib/modules"))
    }

    /// Whether systemd has a unit of this name, which may be disabled or masked. What masks it is
    /// none: an empty file, or a link to `/dev/null`, which stays when the package of the unit goes.
    pub fn has_unit(&self, name: &str) -> bool {
        ["/etc", "/run", "/usr/local/lib", "/usr/lib", "/lib"]
            .map(|directory| self.path(format!("{directory}/systemd/system/{name}")))
            .iter()
            .filter_map(|unit| unit.metadata().ok())
            .any(|unit| unit.is_file() && unit.len() > 0)
    }

    /// The patch whose transition is going on, if one is.
    pub fn patch_in_transition(&self) -> Result<Option<Patch>> {
        for patch in self.patches_if_any()? {
            if patch.in_transition()? {
                return Ok(Some(patch));
            }
        }
        Ok(None)
    }
}

/// See [`Machine::read`].
pub(crate) fn read(path: &Path) -> Result<Option<String>> {
    match fs::read(path) {
        Ok(contents) => Ok(Some(
            String::from_utf8_lossy(&contents)
                .trim_end_matches('\n')
                .into(),
        )),
        Err(error) if Error::is_gone(&error) => Ok(None),
        Err(source) => Err(Error::File {
            path: path.into(),
            source,
        }),
    }
}
