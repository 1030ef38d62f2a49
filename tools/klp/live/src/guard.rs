// SPDX-License-Identifier: GPL-2.0

//! The boot guard: a patch with which the machine dies at boot, twice in a row, is not loaded at the
//! next boots. Nor is the Rust core, which is guarded as if it were a patch.
//!
//! Before a patch is loaded at boot, a marker is written that names the boot and what is in the
//! patch's file. It is removed when the machine has been up for a while. A marker of another boot
//! means that this one died, perhaps of something else, such as a power cut: the patch is loaded once
//! more. If that boot dies too, the patch is under suspicion until it is loaded by hand or installed
//! anew. Who writes markers has the [lock](crate::lock).

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use sha2::{Digest, Sha256};

use crate::{
    store::{self, module_name, Installed, Store},
    task::permitted,
    Error, Machine, Result, CORE,
};

/// For how long the machine has to be up after patches were loaded at boot until they are trusted.
pub const PROBATION: Duration = Duration::from_secs(5 * 60);

/// How many boots in a row have to die until a patch is under suspicion.
pub const DEATHS: u32 = 2;

/// The boot guard of a kernel.
#[derive(Clone, Debug)]
pub struct Guard {
    machine: Machine,
    kernel_release: String,
    markers: PathBuf,
}

/// What a marker says.
struct Marker {
    /// The boot in which the patch was loaded. [`None`] if the marker is damaged.
    boot: Option<String>,
    /// How many boots before that one died with the patch, without one between that lived.
    deaths: u32,
    /// The digest of the patch's file. [`None`] if the marker is damaged: it may be any.
    digest: Option<String>,
}

impl Marker {
    /// A marker that is damaged is one of a boot that died.
    fn parse(text: &str) -> Self {
        let parsed = || {
            let mut words = text.split_ascii_whitespace();
            let marker = Self {
                boot: Some(words.next()?.into()),
                deaths: words.next()?.parse().ok()?,
                digest: Some(words.next()?.into()),
            };
            words.next().is_none().then_some(marker)
        };
        parsed().unwrap_or(Self {
            boot: None,
            deaths: 0,
            digest: None,
        })
    }

    fn is_for(&self, digest: &str) -> bool {
        self.digest.as_ref().is_none_or(|marked| marked == digest)
    }
}

impl Guard {
    /// That of the kernel with this release.
    pub fn new(machine: &Machine, kernel_release: &str) -> Self {
        Self {
            machine: machine.clone(),
            kernel_release: kernel_release.into(),
            // Hidden from what is installed there.
            markers: machine
                .path(store::DIRECTORY)
                .join(".boot")
                .join(kernel_release),
        }
    }

    /// The names of the modules of what is installed and under suspicion, sorted. [`None`] if the
    /// user may not know: who wants to see something else is not to fail for that.
    ///
    /// # Errors
    ///
    /// That of reading the directory of the markers, or the files of patches that have one.
    pub fn suspects(&self) -> Result<Option<Vec<String>>> {
        permitted(self.all_suspects())
    }

    fn all_suspects(&self) -> Result<Vec<String>> {
        let mut names = vec![];
        if !store::entries(&self.markers)?.is_empty() {
            for patch in self.installed()? {
                if self.suspects_file(&patch)? {
                    names.push(patch.module_name());
                }
            }
        }
        names.sort();
        Ok(names)
    }

    /// Whether the installed patch with this module name is under suspicion.
    ///
    /// # Errors
    ///
    /// As for [`suspects`](Self::suspects).
    pub fn suspects_patch(&self, name: &str) -> Result<Option<bool>> {
        let suspects = self.suspects()?;
        Ok(suspects.map(|names| names.contains(&module_name(name))))
    }

    /// Whether this patch is under suspicion, with what is in its file now.
    ///
    /// # Errors
    ///
    /// That of reading its file.
    pub fn suspects_file(&self, patch: &Installed) -> Result<bool> {
        Ok(self.deaths(patch)? >= DEATHS)
    }

    /// How many of the last boots died with this patch, without one between that lived.
    ///
    /// # Errors
    ///
    /// That of reading its file.
    pub fn deaths(&self, patch: &Installed) -> Result<u32> {
        let Some(marker) = self.marker(&self.marker_path(&patch.module_name())) else {
            return Ok(0);
        };
        if !marker.is_for(&digest(&patch.path)?) {
            return Ok(0);
        }
        let died = marker.boot != Some(self.boot()?);
        Ok(marker.deaths.saturating_add(died.into()))
    }

    /// Writes the marker of a patch, which is on the disk before this returns.
    ///
    /// # Errors
    ///
    /// That of writing it, or of reading the patch's file, or the kernel does not tell which boot
    /// this is.
    pub fn begin(&self, patch: &Installed) -> Result<()> {
        let contents = format!(
            "{} {} {}\n",
            self.boot()?,
            self.deaths(patch)?,
            digest(&patch.path)?
        );
        let path = self.marker_path(&patch.module_name());
        store::make_directories(&self.markers)
            .and_then(|()| {
                store::write_durably(&self.markers, contents.as_bytes(), |file| {
                    file.persist(&path)
                })?;
                // The directories may be new as well.
                self.directories().skip(1).try_for_each(store::sync)
            })
            .map_err(|source| Error::File { path, source })
    }

    /// Which boot this is.
    fn boot(&self) -> Result<String> {
        let path = "/proc/sys/kernel/random/boot_id";
        self.machine.read(path)?.ok_or_else(|| Error::File {
            path: self.machine.path(path),
            source: io::ErrorKind::NotFound.into(),
        })
    }

    /// The directory of the markers, and those above that it may bring into being.
    fn directories(&self) -> impl Iterator<Item = &Path> {
        self.markers.ancestors().take(4)
    }

    /// What is guarded.
    fn installed(&self) -> Result<Vec<Installed>> {
        let mut installed = Store::new(&self.machine).patches(&self.kernel_release)?;
        installed.extend(self.core()?);
        Ok(installed)
    }

    /// The Rust core, if it is installed for this kernel.
    ///
    /// # Errors
    ///
    /// That of reading the list of the kernel's modules; without one, nothing is installed.
    pub fn core(&self) -> Result<Option<Installed>> {
        let release = &self.kernel_release;
        match self.machine.module_file(release, CORE) {
            Err(Error::File { source, .. }) if Error::is_gone(&source) => Ok(None),
            file => Ok(file?.map(|file| Installed {
                path: self.machine.path(format!("/lib/modules/{release}/{file}")),
                kernel_release: release.clone(),
            })),
        }
    }

    /// Removes the marker of a patch, whichever boot and file it names: it may be loaded at boot. The
    /// caller has the lock.
    ///
    /// # Errors
    ///
    /// That of removing it; there need not be one.
    pub fn acquit(&self, name: &str) -> Result<()> {
        self.remove(&self.marker_path(name))?;
        self.tidy_directories();
        Ok(())
    }

    /// The same for the patch in a file, if the marker is of what is in it, and of another boot: with
    /// one of this boot, the patch is on probation, and [`boot_succeeded`](Self::boot_succeeded) ends
    /// that.
    ///
    /// # Errors
    ///
    /// That of reading the file or of removing the marker, or the kernel does not tell which boot this
    /// is.
    pub fn acquit_file(&self, file: &Path) -> Result<()> {
        let name = store::name_of(file);
        match self.marker(&self.marker_path(&name)) {
            Some(marker) if marker.boot != Some(self.boot()?) && marker.is_for(&digest(file)?) => {
                self.acquit(&name)
            }
            _ => Ok(()),
        }
    }

    /// The machine has been up for a while: removes the markers of this boot, and returns the names
    /// of their patches. Those of boots that died stay. It needs no lock.
    ///
    /// # Errors
    ///
    /// That of reading or removing markers.
    pub fn boot_succeeded(&self) -> Result<Vec<String>> {
        let boot = Some(self.boot()?);
        let mut names = vec![];
        for path in store::entries(&self.markers)? {
            if self.marker(&path).is_some_and(|marker| marker.boot == boot) {
                self.remove(&path)?;
                names.push(store::name_of(&path));
            }
        }
        names.sort();
        Ok(names)
    }

    /// Removes what is left of patches that are no longer installed, of programs that were killed,
    /// and empty directories. The caller has the lock.
    ///
    /// # Errors
    ///
    /// That of reading the directories, or of removing a marker.
    pub fn tidy(&self) -> Result<()> {
        let installed = self.installed()?;
        for path in store::entries(&self.markers)? {
            let name = store::name_of(&path);
            if !installed.iter().any(|patch| patch.module_name() == name) {
                self.remove(&path)?;
            }
        }
        self.tidy_directories();
        Ok(())
    }

    fn tidy_directories(&self) {
        store::clean_up(&self.markers);
        // What is empty goes, up to where patches are installed.
        for directory in self.directories().take(3) {
            if fs::remove_dir(directory).is_err() {
                break;
            }
        }
    }

    fn remove(&self, marker: &Path) -> Result<()> {
        match fs::remove_file(marker) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result
                .and_then(|()| store::sync(&self.markers))
                .map_err(|source| Error::File {
                    path: marker.into(),
                    source,
                }),
        }
    }

    fn marker_path(&self, name: &str) -> PathBuf {
        self.markers.join(module_name(name))
    }

    /// What a marker says, if there is one. One that cannot be read is damaged.
    fn marker(&self, path: &Path) -> Option<Marker> {
        match fs::read(path) {
            Err(error) if Error::is_gone(&error) => None,
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => None,
            contents => Some(Marker::parse(&String::from_utf8_lossy(
                &contents.unwrap_or_default(),
            ))),
        }
    }
}

/// What tells a file from others.
fn digest(file: &Path) -> Result<String> {
    let contents = fs::read(file).map_err(|source| Error::File {
        path: file.into(),
        source,
    })?;
    Ok(format!("{:x}", Sha256::digest(contents)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn boot(root: &Path, id: &str) -> Guard {
        let random = root.join("proc/sys/kernel/random");
        fs::create_dir_all(&random).unwrap();
        fs::write(random.join("boot_id"), format!("{id}\n")).unwrap();
        Guard::new(&Machine::with_root(root), "7.3.4")
    }

    fn install(root: &Path, file: &str, contents: &str) -> Installed {
        let path = root.join("var/lib/klp/7.3.4").join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, contents).unwrap();
        Installed {
            path,
            kernel_release: "7.3.4".into(),
        }
    }

    fn none() -> Vec<String> {
        vec![]
    }

    fn suspects(guard: &Guard) -> Vec<String> {
        guard.suspects().unwrap().unwrap()
    }

    #[test]
    fn two_boots_that_die_in_a_row_leave_suspects() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        let patches = ["b-fix.ko", "a_fix.ko"].map(|file| install(root, file, file));
        for id in ["first", "second"] {
            let guard = boot(root, id);
            assert_eq!(suspects(&guard), none(), "{id}");
            for patch in &patches {
                guard.begin(patch).unwrap();
            }
            // Not in this boot.
            assert_eq!(suspects(&guard), none(), "{id}");
        }
        let guard = boot(root, "third");
        assert_eq!(suspects(&guard), ["a_fix", "b_fix"]);
        assert!(guard.suspects_patch("b-fix").unwrap().unwrap());
        assert!(!guard.suspects_patch("c").unwrap().unwrap());
        let other = install(root, "c.ko", "c");
        guard.begin(&other).unwrap();
        assert_eq!(guard.boot_succeeded().unwrap(), ["c"]);

        // The suspicion stays for as many boots as it takes.
        let guard = boot(root, "fourth");
        assert_eq!(suspects(&guard), ["a_fix", "b_fix"]);
        guard.acquit("b-fix").unwrap();
        guard.acquit("never-seen").unwrap();
        assert_eq!(suspects(&guard), ["a_fix"]);
        // What a program left that was killed does not count, and does not stay.
        fs::write(root.join("var/lib/klp/.boot/7.3.4/.klp-left"), "").unwrap();
        assert_eq!(suspects(&guard), ["a_fix"]);
        guard.acquit_file(&patches[1].path).unwrap();
        assert!(!root.join("var/lib/klp/.boot").exists());
    }

    #[test]
    fn a_boot_that_lives_begins_anew() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        let patch = install(root, "fix.ko", "code");
        boot(root, "first").begin(&patch).unwrap();
        let guard = boot(root, "second");
        assert_eq!(guard.deaths(&patch).unwrap(), 1);
        guard.begin(&patch).unwrap();
        guard.begin(&patch).unwrap();
        assert_eq!(guard.deaths(&patch).unwrap(), 1);
        assert_eq!(guard.boot_succeeded().unwrap(), ["fix"]);
        assert_eq!(guard.boot_succeeded().unwrap(), none());
        let guard = boot(root, "third");
        assert_eq!(guard.deaths(&patch).unwrap(), 0);
        guard.begin(&patch).unwrap();
        assert_eq!(boot(root, "fourth").deaths(&patch).unwrap(), 1);
    }

    #[test]
    fn probation_is_not_cut_short() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        let patch = install(root, "fix.ko", "code");
        let guard = boot(root, "first");
        guard.begin(&patch).unwrap();
        guard.acquit_file(&patch.path).unwrap();
        let guard = boot(root, "second");
        assert_eq!(guard.deaths(&patch).unwrap(), 1);
        guard.acquit_file(&patch.path).unwrap();
        assert_eq!(guard.deaths(&patch).unwrap(), 0);
    }

    #[test]
    fn another_file_is_not_under_suspicion() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        let patch = install(root, "fix.ko", "bad");
        boot(root, "first").begin(&patch).unwrap();
        boot(root, "second").begin(&patch).unwrap();
        let guard = boot(root, "third");
        assert!(guard.suspects_file(&patch).unwrap());
        // Nor does it clear the one that is.
        fs::write(root.join("fix.ko"), "good").unwrap();
        guard.acquit_file(&root.join("fix.ko")).unwrap();
        assert!(guard.suspects_file(&patch).unwrap());
        install(root, "fix.ko", "good");
        assert!(!guard.suspects_file(&patch).unwrap());
        assert_eq!(suspects(&guard), none());
        guard.begin(&patch).unwrap();
        assert_eq!(boot(root, "fourth").deaths(&patch).unwrap(), 1);
        // What is not installed is nothing to speak of.
        fs::remove_file(&patch.path).unwrap();
        assert_eq!(suspects(&guard), none());
        guard.tidy().unwrap();
        assert!(!root.join("var/lib/klp/.boot").exists());
    }

    #[test]
    fn a_damaged_marker_is_one_death() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        let patch = install(root, "fix.ko", "code");
        let guard = boot(root, "first");
        guard.begin(&patch).unwrap();
        let marker = root.join("var/lib/klp/.boot/7.3.4/fix");
        let text = fs::read_to_string(&marker).unwrap();
        assert!(text.starts_with("first 0 ") && text.len() == 73, "{text}");
        for contents in [&b""[..], b"first", b"first x y", b"a 1 b c", b"\xff\0"] {
            fs::write(&marker, contents).unwrap();
            assert_eq!(guard.deaths(&patch).unwrap(), 1);
            assert_eq!(guard.boot_succeeded().unwrap(), none());
        }
        // One that cannot even be read harms no other patch.
        fs::remove_file(&marker).unwrap();
        fs::create_dir(&marker).unwrap();
        assert_eq!(guard.deaths(&patch).unwrap(), 1);
        assert_eq!(suspects(&guard), none());
        assert!(guard.begin(&patch).is_err());
    }

    #[test]
    fn kernels_have_their_own() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        let patch = install(root, "fix.ko", "code");
        let guard = boot(root, "first");
        guard.begin(&patch).unwrap();
        let other = Guard::new(&Machine::with_root(root), "7.2.9");
        assert_eq!(other.boot_succeeded().unwrap(), none());
        assert_eq!(guard.boot_succeeded().unwrap(), ["fix"]);
    }

    #[test]
    fn what_fails() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        let patch = install(root, "fix.ko", "code");
        let guard = Guard::new(&Machine::with_root(root), "7.3.4");
        // Without markers, nothing need be known.
        assert_eq!(suspects(&guard), none());
        let error = guard.begin(&patch).unwrap_err();
        assert!(error.to_string().contains("boot_id"), "{error}");
        let guard = boot(root, "first");
        fs::write(root.join("var/lib/klp/.boot"), "").unwrap();
        assert!(guard.begin(&patch).is_err());
        assert_eq!(suspects(&guard), none());
    }
}
