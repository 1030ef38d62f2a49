// SPDX-License-Identifier: GPL-2.0

//! The boot guard: a patch with which the machine died at boot is not loaded at the next boot.
//!
//! Before a patch is loaded at boot, a marker is written that names the boot. It is removed when the
//! machine has been up for a while. A marker of another boot means that this one died: the patch is
//! under suspicion until it is loaded by hand or installed anew. Who writes or removes markers has
//! the [lock](crate::lock).

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{
    store::{self, module_name},
    Error, Machine, Result,
};

/// For how long the machine has to be up after a boot until its patches are trusted.
pub const PROBATION: Duration = Duration::from_secs(5 * 60);

/// The boot guard of a kernel.
#[derive(Clone, Debug)]
pub struct Guard {
    machine: Machine,
    markers: PathBuf,
}

impl Guard {
    /// That of the kernel with this release.
    pub fn new(machine: &Machine, kernel_release: &str) -> Self {
        Self {
            machine: machine.clone(),
            // Hidden from what is installed there.
            markers: machine
                .path(store::DIRECTORY)
                .join(".boot")
                .join(kernel_release),
        }
    }

    /// The names of the modules under suspicion, sorted.
    ///
    /// # Errors
    ///
    /// That of reading the markers.
    pub fn suspects(&self) -> Result<Vec<String>> {
        self.names(false)
    }

    /// Whether the patch with this module name is under suspicion.
    ///
    /// # Errors
    ///
    /// That of reading the marker.
    pub fn suspects_patch(&self, name: &str) -> Result<bool> {
        Ok(self.suspects()?.contains(&module_name(name)))
    }

    /// Writes the marker of a patch, which is on the disk before this returns; or writes none if the
    /// machine is past its probation.
    ///
    /// # Errors
    ///
    /// That of writing it, or the kernel does not tell which boot this is.
    pub fn begin(&self, name: &str) -> Result<()> {
        if self.probation_left()?.is_zero() {
            return Ok(());
        }
        let contents = format!("{}\n", self.boot()?);
        let path = self.marker(name);
        fs::create_dir_all(&self.markers)
            .and_then(|()| {
                store::write_durably(&self.markers, contents.as_bytes(), |file| {
                    file.persist(&path)
                })?;
                // The directories may be new as well.
                self.directories().skip(1).try_for_each(store::sync)
            })
            .map_err(|source| Error::File { path, source })
    }

    /// How long the machine has yet to be up until it counts as sound.
    ///
    /// # Errors
    ///
    /// The kernel does not tell for how long it has been up.
    pub fn probation_left(&self) -> Result<Duration> {
        let path = "/proc/uptime";
        let text = self.read(path)?;
        let seconds = text.split(' ').next().and_then(|text| text.parse().ok());
        let up = seconds
            .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
            .ok_or_else(|| Error::Unexpected {
                path: self.machine.path(path),
                expected: "seconds",
                found: text.clone(),
            })?;
        Ok(PROBATION.saturating_sub(up))
    }

    /// Which boot this is.
    fn boot(&self) -> Result<String> {
        self.read("/proc/sys/kernel/random/boot_id")
    }

    fn read(&self, path: &str) -> Result<String> {
        self.machine.read(path)?.ok_or_else(|| Error::File {
            path: self.machine.path(path),
            source: io::ErrorKind::NotFound.into(),
        })
    }

    /// The directory of the markers, and those above that it may bring into being.
    fn directories(&self) -> impl Iterator<Item = &Path> {
        self.markers.ancestors().take(4)
    }

    /// Removes the marker of a patch, whichever boot it names: it may be loaded at boot.
    ///
    /// # Errors
    ///
    /// That of removing it; there need not be one.
    pub fn acquit(&self, name: &str) -> Result<()> {
        let path = self.marker(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            result => result
                .and_then(|()| store::sync(&self.markers))
                .map_err(|source| Error::File { path, source })?,
        }
        store::clean_up(&self.markers);
        // What is empty goes, up to where patches are installed.
        for directory in self.directories().take(3) {
            if fs::remove_dir(directory).is_err() {
                break;
            }
        }
        Ok(())
    }

    /// The machine has been up for a while: removes the markers of this boot, and returns the names
    /// of their patches. Those of boots that died stay.
    ///
    /// # Errors
    ///
    /// That of reading or removing markers.
    pub fn boot_succeeded(&self) -> Result<Vec<String>> {
        let names = self.names(true)?;
        for name in &names {
            self.acquit(name)?;
        }
        Ok(names)
    }

    fn marker(&self, name: &str) -> PathBuf {
        self.markers.join(module_name(name))
    }

    /// The names of the patches with markers of this boot, or of others. A marker that cannot be read
    /// for what it is belongs to another.
    fn names(&self, of_this_boot: bool) -> Result<Vec<String>> {
        let markers = store::entries(&self.markers)?;
        let mut names = vec![];
        for path in markers {
            let contents = fs::read(&path).map_err(|source| Error::File {
                path: path.clone(),
                source,
            })?;
            let boot = String::from_utf8_lossy(&contents);
            if (boot.trim_end() == self.boot()?) == of_this_boot {
                names.push(store::name_of(&path));
            }
        }
        names.sort();
        Ok(names)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn boot(root: &Path, id: &str, uptime: &str) -> Guard {
        let proc = root.join("proc");
        fs::create_dir_all(proc.join("sys/kernel/random")).unwrap();
        fs::write(proc.join("sys/kernel/random/boot_id"), format!("{id}\n")).unwrap();
        fs::write(proc.join("uptime"), uptime).unwrap();
        Guard::new(&Machine::with_root(root), "7.3.4")
    }

    const EARLY: &str = "12.50 20.00\n";

    fn none() -> Vec<String> {
        vec![]
    }

    #[test]
    fn a_boot_that_dies_leaves_suspects() {
        let root = tempfile::tempdir().unwrap();
        let guard = boot(root.path(), "first", EARLY);
        guard.begin("b-fix.ko").unwrap();
        guard.begin("a_fix").unwrap();
        // Not in this boot.
        assert_eq!(guard.suspects().unwrap(), none());

        let guard = boot(root.path(), "second", EARLY);
        assert_eq!(guard.suspects().unwrap(), ["a_fix", "b_fix"]);
        assert!(guard.suspects_patch("b-fix").unwrap());
        assert!(!guard.suspects_patch("c").unwrap());
        guard.begin("c").unwrap();
        assert_eq!(guard.boot_succeeded().unwrap(), ["c"]);

        // The suspicion stays for as many boots as it takes.
        let guard = boot(root.path(), "third", EARLY);
        assert_eq!(guard.suspects().unwrap(), ["a_fix", "b_fix"]);
        guard.acquit("b-fix").unwrap();
        guard.acquit("never-seen").unwrap();
        assert_eq!(guard.suspects().unwrap(), ["a_fix"]);
        // What a program left that was killed does not count, and does not stay.
        let left = root.path().join("var/lib/klp/.boot/7.3.4/.klp-left");
        fs::write(left, "").unwrap();
        assert_eq!(guard.suspects().unwrap(), ["a_fix"]);
        guard.acquit("a_fix").unwrap();
        assert!(!root.path().join("var/lib/klp").exists());
    }

    #[test]
    fn a_boot_that_lives_leaves_none() {
        let root = tempfile::tempdir().unwrap();
        let guard = boot(root.path(), "first", EARLY);
        guard.begin("fix").unwrap();
        guard.begin("fix").unwrap();
        assert_eq!(guard.boot_succeeded().unwrap(), ["fix"]);
        assert_eq!(guard.boot_succeeded().unwrap(), none());
        let guard = boot(root.path(), "second", EARLY);
        assert_eq!(guard.suspects().unwrap(), none());
    }

    #[test]
    fn after_its_probation_a_machine_needs_no_guard() {
        let root = tempfile::tempdir().unwrap();
        let guard = boot(root.path(), "first", "299.5 20.00\n");
        assert_eq!(guard.probation_left().unwrap(), Duration::from_millis(500));
        guard.begin("fix").unwrap();
        let guard = boot(root.path(), "second", "300.00 20.00\n");
        assert_eq!(guard.probation_left().unwrap(), Duration::ZERO);
        guard.begin("other").unwrap();
        let guard = boot(root.path(), "third", EARLY);
        assert_eq!(guard.suspects().unwrap(), ["fix"]);
    }

    #[test]
    fn a_damaged_marker_is_one() {
        let root = tempfile::tempdir().unwrap();
        let guard = boot(root.path(), "first", EARLY);
        guard.begin("fix").unwrap();
        let marker = root.path().join("var/lib/klp/.boot/7.3.4/fix");
        assert_eq!(fs::read_to_string(&marker).unwrap(), "first\n");
        for contents in [&b""[..], b"fir", b"\xff\0"] {
            fs::write(&marker, contents).unwrap();
            assert_eq!(guard.suspects().unwrap(), ["fix"]);
            assert_eq!(guard.boot_succeeded().unwrap(), none());
        }
    }

    #[test]
    fn kernels_have_their_own() {
        let root = tempfile::tempdir().unwrap();
        boot(root.path(), "first", EARLY).begin("fix").unwrap();
        let guard = boot(root.path(), "second", EARLY);
        let other = Guard::new(&Machine::with_root(root.path()), "7.2.9");
        assert_eq!(other.suspects().unwrap(), none());
        assert_eq!(guard.suspects().unwrap(), ["fix"]);
    }

    #[test]
    fn a_machine_that_does_not_tell() {
        let root = tempfile::tempdir().unwrap();
        let guard = Guard::new(&Machine::with_root(root.path()), "7.3.4");
        // Without markers, nothing need be known.
        assert_eq!(guard.suspects().unwrap(), none());
        let error = guard.begin("fix").unwrap_err();
        assert!(error.to_string().contains("uptime"), "{error}");
        boot(root.path(), "first", "soon\n");
        let error = guard.begin("fix").unwrap_err();
        assert!(error.to_string().contains("seconds"), "{error}");
        boot(root.path(), "first", EARLY);
        fs::remove_file(root.path().join("proc/sys/kernel/random/boot_id")).unwrap();
        let error = guard.begin("fix").unwrap_err();
        assert!(error.to_string().contains("boot_id"), "{error}");
    }

    #[test]
    fn a_marker_that_cannot_be_written_is_an_error() {
        let root = tempfile::tempdir().unwrap();
        let guard = boot(root.path(), "first", EARLY);
        fs::write(root.path().join("var"), "").unwrap();
        assert!(guard.begin("fix").is_err());
        assert_eq!(guard.suspects().unwrap(), none());
    }
}
