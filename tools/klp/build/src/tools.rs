// SPDX-License-Identifier: GPL-2.0

//! The programs that do the work: the project's scripts, and through them the compilers.

use std::{
    env,
    ffi::OsStr,
    fs::{File, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::{Mutex, PoisonError},
};

use crate::error::{in_file, Error, Result};

/// Packages that the steps need beside those of the kernel's build system: `objtool klp` is only
/// built with xxhash, and the kernel's scripts that keep line numbers are awk and patchutils.
const PACKAGES: [&str; 4] = ["gawk", "libxxhash-dev", "patch", "patchutils"];

/// How many lines of a program's output an error shows.
const TAIL: usize = 20;

/// Runs programs, and keeps what they say.
pub struct Tools {
    project: PathBuf,
    kernel: Option<String>,
    log: Mutex<Option<(PathBuf, File)>>,
}

impl Tools {
    /// With the scripts in the directory `project`, for the kernel that they know by this name.
    ///
    /// # Errors
    ///
    /// The scripts are not there.
    pub fn new(project: &Path, kernel: Option<String>) -> Result<Self> {
        let project = project.canonicalize().map_err(in_file(project))?;
        for script in ["kernel", "kmake", "toolchain"] {
            let path = project.join("scripts").join(script);
            if !path.is_file() {
                return Err(format!(
                    "{}: there is none; name the directory of livepatch's source with --project",
                    path.display()
                )
                .into());
            }
        }
        Ok(Self {
            project,
            kernel,
            log: Mutex::new(None),
        })
    }

    /// Where everything that is fetched or built is kept, as `scripts/common.sh` has it.
    pub(crate) fn cache(&self) -> Result<PathBuf> {
        let set = |name| env::var_os(name).filter(|value| !value.is_empty());
        let directory = match (set("LIVEPATCH_CACHE"), set("XDG_CACHE_HOME"), set("HOME")) {
            (Some(cache), _, _) => PathBuf::from(cache),
            (None, Some(cache), _) => Path::new(&cache).join("livepatch"),
            (None, None, Some(home)) => Path::new(&home).join(".cache/livepatch"),
            (None, None, None) => {
                return Err("HOME is not set: LIVEPATCH_CACHE names a place".into())
            }
        };
        Ok(directory)
    }

    /// From now on, what programs say is kept in this file.
    pub(crate) fn log_to(&self, path: &Path) -> Result<()> {
        let file = File::create(path).map_err(in_file(path))?;
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        *log = Some((path.into(), file));
        Ok(())
    }

    /// One of the project's scripts.
    pub(crate) fn script(&self, name: &str) -> Command {
        let mut command = Command::new(self.project.join("scripts").join(name));
        if let Some(kernel) = &self.kernel {
            command.env("KERNEL", kernel);
        }
        // An outer make has settings of its own.
        command.env_remove("MAKEFLAGS").env_remove("MFLAGS");
        command
    }

    /// The command that runs its arguments in the virtual machine of the tests, with the same kernel.
    pub fn virtual_machine(&self) -> Command {
        let mut command = self.script("vm");
        command.arg("--");
        command
    }

    /// A program of the toolchain, in a directory.
    pub(crate) fn program(&self, directory: &Path, program: impl AsRef<OsStr>) -> Command {
        let mut command = self.script("toolchain");
        command.current_dir(directory).arg(program);
        command
    }

    /// Installs what the steps need, where the project keeps its compilers.
    pub(crate) fn install(&self) -> Result<()> {
        let mut command = self.script("toolchain");
        command.arg("--install").args(PACKAGES);
        self.run("installing the tools", &mut command).map(|_| ())
    }

    /// Runs a program to its end.
    ///
    /// # Errors
    ///
    /// It cannot be started, or fails; then with what it said last.
    pub(crate) fn run(&self, what: &str, command: &mut Command) -> Result<Output> {
        let output = self.try_run(what, command)?;
        if output.status.success() {
            return Ok(output);
        }
        let said = [&output.stdout[..], &output.stderr[..]].concat();
        let said = String::from_utf8_lossy(&said);
        let lines: Vec<_> = said.lines().collect();
        let tail = lines[lines.len().saturating_sub(TAIL)..].join("\n");
        let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        let log = log.as_ref().map_or(String::new(), |(path, _)| {
            format!("; the whole output is in {}", path.display())
        });
        Err(Error::Failed(format!("{what} failed{log}\n{tail}")))
    }

    /// Runs a program to its end, whatever that is.
    ///
    /// # Errors
    ///
    /// It cannot be started.
    pub(crate) fn try_run(&self, what: &str, command: &mut Command) -> Result<Output> {
        let output = command.stdin(Stdio::null()).output().map_err(|error| {
            format!(
                "{what}: {}: {error}",
                command.get_program().to_string_lossy()
            )
        })?;
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((path, file)) = log.as_mut() {
            let mut write = || {
                writeln!(file, "# {what}")?;
                file.write_all(&output.stdout)?;
                file.write_all(&output.stderr)
            };
            write().map_err(in_file(path))?;
        }
        Ok(output)
    }
}

/// Opens a file and holds a lock on it until it is dropped, so that one build at a time works in a
/// directory.
pub(crate) fn lock(path: &Path) -> Result<File> {
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .map_err(in_file(path))?;
    rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive)
        .map_err(|error| in_file(path)(error.into()))?;
    Ok(file)
}
