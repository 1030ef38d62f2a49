// SPDX-License-Identifier: GPL-2.0

//! A patch that the core knows.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::Serialize;

use crate::{machine::read, Error, Result};

/// What a patch is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// All tasks use its functions.
    Enabled,
    /// Tasks are switching to its functions.
    Enabling,
    /// Tasks are switching away from its functions.
    Disabling,
    /// No task uses its functions. The core forgets such a patch soon.
    Disabled,
}

/// A function that a patch replaces.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Func {
    /// Its name.
    pub name: String,
    /// Which one of that name in the object, from 1 on; 0 if it is the only one.
    pub position: u64,
}

/// An object with functions that a patch replaces: `vmlinux` or a module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Object {
    /// Its name.
    pub name: String,
    /// Whether its functions are replaced: false while a module is not loaded. [`None`] on kernels
    /// that do not say.
    pub patched: Option<bool>,
    /// The functions, in the order of their names.
    pub funcs: Vec<Func>,
}

/// A patch that the core knows. It may go at any time: then files are [`None`], a state is
/// [`State::Disabled`].
#[derive(Clone, Debug)]
pub struct Patch {
    name: String,
    directory: PathBuf,
}

impl Patch {
    pub(crate) fn new(name: &str, directory: PathBuf) -> Self {
        Self {
            name: name.into(),
            directory,
        }
    }

    /// The name of its module.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A file of its directory.
    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Whether the core still knows it.
    pub fn exists(&self) -> bool {
        self.directory.is_dir()
    }

    /// Whether it is enabled, or being enabled.
    pub fn is_enabled(&self) -> Result<bool> {
        Ok(self.flag("enabled")?.unwrap_or(false))
    }

    /// Whether tasks are switching to it or away from it.
    pub fn in_transition(&self) -> Result<bool> {
        Ok(self.flag("transition")?.unwrap_or(false))
    }

    /// Both of the above.
    pub fn state(&self) -> Result<State> {
        Ok(match (self.is_enabled()?, self.in_transition()?) {
            (true, false) => State::Enabled,
            (true, true) => State::Enabling,
            (false, true) => State::Disabling,
            (false, false) => State::Disabled,
        })
    }

    /// Whether it replaces all older patches. [`None`] on kernels before 6.11.
    pub fn replaces(&self) -> Result<Option<bool>> {
        self.flag("replace")
    }

    /// Its place in the order in which patches were enabled, from 1 on. [`None`] on kernels before
    /// 6.14.
    pub fn stack_order(&self) -> Result<Option<u64>> {
        self.number("stack_order")
    }

    /// Whether calls of the functions may jump to it, without a handler. [`None`] on the built-in
    /// core.
    pub fn may_jump(&self) -> Result<Option<bool>> {
        self.flag("direct")
    }

    /// How many tasks have yet to switch. [`None`] on the built-in core.
    pub fn remaining(&self) -> Result<Option<u64>> {
        self.number("remaining")
    }

    /// The Rust core's list of tasks that have yet to switch. [`None`] on the built-in core.
    pub(crate) fn blockers_text(&self) -> Result<Option<String>> {
        read(&self.file("blockers"))
    }

    /// The checksum of the module's file, which kpatch-build puts into its modules.
    pub fn checksum(&self) -> Result<Option<String>> {
        read(&self.file("checksum"))
    }

    /// Whether the kernel is older than 5.1: it signals tasks when it is asked to, by this file, and
    /// keeps patches that are disabled.
    pub fn is_of_old_kernel(&self) -> bool {
        self.file("signal").exists()
    }

    /// Enables or disables it; the transition begins, or is reversed.
    ///
    /// # Errors
    ///
    /// That of the kernel: `EBUSY` while another patch is in transition, `EINVAL` if it is so
    /// already.
    pub fn set_enabled(&self, enabled: bool) -> Result<()> {
        self.write("enabled", if enabled { "1" } else { "0" })
    }

    /// Ends its transition now, whatever tasks are doing.
    ///
    /// # Errors
    ///
    /// That of the kernel: `EINVAL` if it is not in transition.
    pub fn force(&self) -> Result<()> {
        self.write("force", "1")
    }

    /// The objects whose functions it replaces, in the order of their names.
    pub fn objects(&self) -> Result<Vec<Object>> {
        let mut objects = vec![];
        for name in directories(&self.directory)? {
            let directory = self.directory.join(&name);
            let mut funcs = directories(&directory)?
                .into_iter()
                .filter_map(|entry| {
                    let (name, position) = entry.rsplit_once(',')?;
                    Some(Func {
                        name: name.into(),
                        position: position.parse().ok()?,
                    })
                })
                .collect::<Vec<_>>();
            funcs.sort();
            objects.push(Object {
                patched: flag(&directory.join("patched"))?,
                name,
                funcs,
            });
        }
        Ok(objects)
    }

    fn flag(&self, file: &str) -> Result<Option<bool>> {
        flag(&self.file(file))
    }

    fn number(&self, file: &str) -> Result<Option<u64>> {
        let path = self.file(file);
        read(&path)?
            .map(|text| text.parse())
            .transpose()
            .map_err(|_| unexpected(&path, "a number"))
    }

    fn write(&self, file: &str, text: &str) -> Result<()> {
        let path = self.file(file);
        // Not created if it is not there, which fs::write() does.
        fs::OpenOptions::new()
            .write(true)
            .open(&path)
            .and_then(|mut file| io::Write::write_all(&mut file, text.as_bytes()))
            .map_err(|source| Error::File { path, source })
    }
}

fn flag(path: &Path) -> Result<Option<bool>> {
    match read(path)?.as_deref() {
        None => Ok(None),
        Some("0") => Ok(Some(false)),
        Some("1") => Ok(Some(true)),
        Some(_) => Err(unexpected(path, "0 or 1")),
    }
}

fn unexpected(path: &Path, expected: &'static str) -> Error {
    Error::Unexpected {
        path: path.into(),
        expected,
        found: fs::read_to_string(path).unwrap_or_default(),
    }
}

/// The names of the directories in `path`, sorted; none if it is gone.
fn directories(path: &Path) -> Result<Vec<String>> {
    let entries = match fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(vec![]),
        result => result.map_err(|source| Error::File {
            path: path.into(),
            source,
        })?,
    };
    let mut names = entries
        .filter_map(|entry| entry.ok())
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect::<Vec<_>>();
    names.sort();
    Ok(names)
}
